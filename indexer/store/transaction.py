"""The open transaction of a pass: what it changed, what waits to be inserted, which runs have to be settled."""

import sqlite3
from collections.abc import Collection, Sequence

from indexer.store.rows import Row

FULL = 5000
"""Rows that are collected before they are inserted together."""

_TOUCH = "INSERT INTO _touched VALUES (?, ?) ON CONFLICT DO UPDATE SET stale = max(stale, excluded.stale)"


def prepare(database: sqlite3.Connection) -> None:
    """Create the temporary tables of a connection.

    For a series of transactions, call it before the first one begins: a rollback would drop tables that the
    transaction created, and every statement would be compiled anew.
    """
    database.execute("CREATE TEMP TABLE IF NOT EXISTS _touched (key TEXT PRIMARY KEY, stale) WITHOUT ROWID")
    database.execute("CREATE TEMP TABLE IF NOT EXISTS _seen (place_pk INTEGER PRIMARY KEY)")
    database.execute(
        "CREATE TEMP TABLE IF NOT EXISTS _named (run_key, sha, committed_at, subject, PRIMARY KEY (run_key, sha)) "
        "WITHOUT ROWID"
    )


class Transaction:
    """Statements on an index inside one transaction, which the caller opens and ends.

    `fresh` says that the tables are empty; `changed` tells whether there is anything to commit. `unloaded` are formats
    whose runs stay though nothing recognises them.
    """

    def __init__(self, database: sqlite3.Connection, *, fresh: bool, unloaded: Collection[str] = ()):
        self.database = database
        self.fresh = fresh
        self.unloaded = frozenset(unloaded)
        self.changed = fresh
        self.waiting = 0
        self._batch: dict[str, list[Row]] = {}
        self.other_places: set[str] = set()
        """Keys of runs whose places differ from what was indexed before."""
        prepare(database)
        database.execute("DELETE FROM temp._touched")
        database.execute("DELETE FROM temp._seen")

    def run(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement that changes the index."""
        self.changed = True
        return self.database.execute(statement, parameters)

    def touch(self, key: str, *, stale: bool = False) -> None:
        """Have a run settled at the end of the pass; `stale`: its row may show an earlier state of a place."""
        self.database.execute(_TOUCH, (key, stale))

    def note_places(self, key: str) -> None:
        """Note that a place of a run was added, removed or changed."""
        if not self.fresh:
            self.other_places.add(key)

    def add(self, statement: str, row: Row) -> None:
        """Queue a row, to be inserted together with others."""
        self._batch.setdefault(statement, []).append(row)
        self.waiting += 1

    def add_all(self, statement: str, rows: Collection[Row]) -> None:
        """Queue several rows."""
        if rows:
            self._batch.setdefault(statement, []).extend(rows)
            self.waiting += len(rows)

    def flush(self) -> None:
        """Insert the queued rows."""
        batch, self._batch = self._batch, {}
        self.waiting = 0
        for statement, values in batch.items():
            self.changed = True
            self.database.executemany(statement, values)
