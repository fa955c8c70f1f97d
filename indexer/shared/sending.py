"""Sends an index to a shared one: what changed since the last time, in batches of one transaction each.

A sender follows the change feed. Each batch is written together with its position in the feed (generation and
revision), so a sender that was killed resumes where it was. After a rebuild the feed starts over; a digest of each
run's rows shows which runs differ, and only those are sent.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import IndexFileError
from indexer.records import utc_now
from indexer.shared import checking, schema
from indexer.shared.ahead import one_ahead
from indexer.shared.checking import sent_digests
from indexer.shared.copying import copy_rows, copy_runs, delete_runs
from indexer.shared.machine_rows import LONGEST_NAME, Order, Row, digest
from indexer.shared.part import Batch, Part, feed
from indexer.shared.settling import settle

if TYPE_CHECKING:
    import psycopg

    from indexer.settings import Settings
    from indexer.sources import Source


@dataclass(slots=True)
class Sent:
    """What a sender did: runs sent and removed, and the reasons why others cannot be sent, by key."""

    sent: int = 0
    removed: int = 0
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _State:
    """Which index was sent under a machine's name, and how far."""

    generation: str
    sources: str
    origin: str
    revision: int


class Sender:
    """Sends the index at `path` as the part of one machine. `sources` limit what is sent to runs found in them."""

    def __init__(self, path: Path, machine: str, order: Order, sources: Collection[str] = ()):
        self._part, self._machine = Part(path, order, sources), machine
        self._origin = f"{os.uname().nodename}:{os.path.realpath(path)}"

    def send(self, connection: "psycopg.Connection[Any]", told: Callable[[int, int], None] | None = None) -> Sent:
        """Bring the machine's part up to date. `told` is called with (done, total) runs.

        Raises IndexFileError where another index is sent under this machine's name.
        """
        schema.ensure(connection)
        report = Sent()
        with self._part.opened() as database:
            while not self._sent_all(connection, database, report, told):
                pass  # the index was rebuilt meanwhile
        schema.ensure_indexes(connection)
        return report

    def _sent_all(
        self,
        connection: "psycopg.Connection[Any]",
        database: sqlite3.Connection,
        report: Sent,
        told: Callable[[int, int], None] | None,
    ) -> bool:
        """Send batch after batch; False if the index has another generation before the end."""
        state = self._begun(connection, database, report)
        (total,) = database.execute("SELECT count(*) FROM runs WHERE rev > ?", (state.revision,)).fetchone()
        done = 0
        with closing(one_ahead(self._part.changed_since(database, state.revision))) as batches:
            for batch in batches:
                if batch.generation != state.generation:
                    return False
                self._write(connection, batch, state, report)
                state = replace(state, revision=batch.revision)
                done += batch.count
                if told is not None:
                    told(min(done, total), total)
        return True

    def pending(self, connection: "psycopg.Connection[Any]") -> tuple[int, int]:
        """How many runs would be sent, and how many removed."""
        return checking.pending(self._part, connection, self._machine)

    def differences(self, connection: "psycopg.Connection[Any]") -> list[str]:
        """What differs there from this machine's index: see `checking.differences`."""
        return checking.differences(self._part, connection, self._machine)

    def _begun(self, connection: "psycopg.Connection[Any]", database: sqlite3.Connection, report: Sent) -> _State:
        """How far this index was sent; after a rebuild, runs that it lost or does not send are removed first."""
        generation, last, forgotten = feed(database)
        sources = json.dumps([self._part.sources, sorted(self._part.order.items())])
        mine = _State(generation, sources, self._origin, 0)
        with connection.transaction():
            _lock(connection)
            there = self._state(connection)
            if there is not None and there.origin != self._origin:
                raise IndexFileError(
                    f"another index is published as {self._machine!r} ({there.origin}); choose another "
                    f"publish.machine, or remove what it sent: indexer publish --forget {self._machine}"
                )
            if there is not None and replace(there, revision=0) == mine and forgotten <= there.revision <= last:
                return there
            keys = {key for key, _ in self._part.listed(database)}
            gone = sorted(sent_digests(connection, self._machine).keys() - keys)
            self._remove(connection, gone)
            report.removed += len(gone)
            connection.execute(
                "INSERT INTO _machines (machine, generation, rev, sources, rest, sent_at, origin) "
                "VALUES (%s, %s, 0, %s, '', '', %s) ON CONFLICT (machine) DO UPDATE "
                "SET generation = excluded.generation, rev = 0, sources = excluded.sources",
                (self._machine, generation, sources, self._origin),
            )
        return mine

    def _state(self, connection: "psycopg.Connection[Any]") -> _State | None:
        query = "SELECT generation, sources, origin, rev FROM _machines WHERE machine = %s"
        found = connection.execute(query, (self._machine,)).fetchone()
        return None if found is None else _State(*found)

    def _remove(self, connection: "psycopg.Connection[Any]", keys: Sequence[str]) -> None:
        delete_runs(connection, self._machine, keys)
        settle(connection, keys, self._machine)

    def _write(
        self,
        connection: "psycopg.Connection[Any]",
        batch: Batch,
        state: _State,
        report: Sent,
    ) -> None:
        """Write a batch and its position in the feed, in one transaction."""
        digests = {run.key: run.digest for run in batch.runs}
        for run in batch.runs:
            if (name := run.too_long()) is not None:
                report.refused[run.key] = f"a name of more than {LONGEST_NAME} bytes: {name[:40]}…"
        with connection.transaction():
            _lock(connection)
            if self._state(connection) != state:
                raise IndexFileError(f"another process changed what {self._machine!r} published; try again")
            query = "SELECT key, digest FROM _sent_runs WHERE machine = %s AND key = ANY(%s)"
            known = dict(connection.execute(query, (self._machine, [*digests, *batch.gone])).fetchall())
            refused = report.refused
            differ = [run for run in batch.runs if known.get(run.key) != digests[run.key] and run.key not in refused]
            replaced = [run.key for run in differ if run.key in known]
            removed = [key for key in [*batch.gone, *refused] if key in known]
            delete_runs(connection, self._machine, [*replaced, *removed])
            copy_runs(connection, self._machine, differ)
            settle(connection, [*(run.key for run in differ), *removed], self._machine)
            if batch.rest is not None:
                self._replace_whole(connection, batch.rest)
            connection.execute(
                "UPDATE _machines SET rev = %s, sent_at = %s WHERE machine = %s",
                (batch.revision, utc_now(), self._machine),
            )
        report.sent += len(differ)
        report.removed += len(removed)

    def _replace_whole(self, connection: "psycopg.Connection[Any]", rest: Mapping[str, list[Row]]) -> None:
        """Write the tables that are sent whole, if any of their rows differs."""
        told = digest(rest)
        stored = connection.execute("SELECT rest FROM _machines WHERE machine = %s", (self._machine,)).fetchone()
        if stored == (told,):
            return
        connection.execute("UPDATE _machines SET rest = %s WHERE machine = %s", (told, self._machine))
        for table, found in rest.items():
            connection.execute(f"DELETE FROM {schema.sent(table)} WHERE machine = %s".encode(), (self._machine,))
            more = ["looked_at"] if table == "sources" else []
            names = ["machine", *schema.columns(table), *more]
            copy_rows(connection, schema.sent(table), names, ((self._machine, *row) for row in found))


def sender(path: Path, settings: "Settings", sources: "Sequence[Source]") -> Sender:
    """The sender of a project's index."""
    order = {source.name: (source.rank, position) for position, source in enumerate(sources)}
    return Sender(path, settings.publish.machine, order, settings.publish.sources)


def forget(connection: "psycopg.Connection[Any]", machine: str) -> int:
    """Remove all that a machine sent. Returns the number of runs."""
    schema.ensure(connection)
    with connection.transaction():
        _lock(connection)
        found = connection.execute("SELECT key FROM _sent_runs WHERE machine = %s", (machine,)).fetchall()
        keys = [key for (key,) in found]
        delete_runs(connection, machine, keys)
        settle(connection, keys, machine)
        for table in schema.WHOLE:
            connection.execute(f"DELETE FROM {schema.sent(table)} WHERE machine = %s".encode(), (machine,))
        connection.execute("DELETE FROM _machines WHERE machine = %s", (machine,))
    return len(keys)


def _lock(connection: "psycopg.Connection[Any]") -> None:
    """Let one sender write at a time: two must not both decide what is shown, or the next revision."""
    connection.execute("SELECT last_rev FROM _meta FOR UPDATE")
