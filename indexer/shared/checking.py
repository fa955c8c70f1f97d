"""Compares what a machine has sent with its index."""

import sqlite3
from typing import TYPE_CHECKING, Any

from indexer.shared import schema
from indexer.shared.machine_rows import clean, of_machine
from indexer.shared.part import Part

if TYPE_CHECKING:
    import psycopg

_OF_PASSES = ("id", "changed_at", "failing_since", "first_seen")
"""Columns that depend on passes, not on what was read: a rebuild changes them."""


def pending(part: Part, connection: "psycopg.Connection[Any]", machine: str) -> tuple[int, int]:
    """How many runs would be sent, and how many removed; nothing is written."""
    with part.opened() as database:
        database.execute("BEGIN")
        known, keys, differ = sent_digests(connection, machine), set[str](), 0
        for runs in part.batches(database):
            fitting = [run for run in runs if run.too_long() is None]
            differ += sum(known.get(run.key) != run.digest for run in fitting)
            keys.update(run.key for run in fitting)
        return differ, len(known.keys() - keys)


def differences(part: Part, connection: "psycopg.Connection[Any]", machine: str) -> list[str]:
    """What differs in the shared index from this one: keys of runs and names of tables; empty if nothing does."""
    with part.opened() as database:
        database.execute("BEGIN")
        known = sent_digests(connection, machine)
        if not _is_there(connection, "_machines"):
            return sorted(key for key, _ in part.listed(database))
        left, wrong = set(known), list[str]()
        for runs in part.batches(database):
            fitting = [run for run in runs if run.too_long() is None]
            theirs = of_machine(connection, machine, [run.key for run in fitting])
            wrong += [run.key for run in fitting if theirs.get(run.key) != run]
            left -= {run.key for run in fitting}
        tables = [table for table in schema.WHOLE if not _is_equal(database, connection, machine, table)]
        return sorted([*wrong, *left]) + tables


def sent_digests(connection: "psycopg.Connection[Any]", machine: str) -> dict[str, str]:
    """The digests of the runs that a machine has sent, by key."""
    if not _is_there(connection, "_sent_runs"):
        return {}
    return dict(connection.execute("SELECT key, digest FROM _sent_runs WHERE machine = %s", (machine,)).fetchall())


def _is_there(connection: "psycopg.Connection[Any]", table: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,)


def _is_equal(database: sqlite3.Connection, connection: "psycopg.Connection[Any]", machine: str, table: str) -> bool:
    """Whether a table that is sent whole has the same rows in the shared index."""
    names = ", ".join(name for name in schema.columns(table) if name not in _OF_PASSES)
    there = f"SELECT {names} FROM {schema.sent(table)} WHERE machine = %s ORDER BY id"
    mine = [clean(row) for row in database.execute(f"SELECT {names} FROM {table} ORDER BY id")]
    return connection.execute(there.encode(), (machine,)).fetchall() == mine
