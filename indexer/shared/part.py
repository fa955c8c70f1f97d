"""The part of an index that a machine sends: which runs, and all their rows."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from indexer.errors import IndexFileError
from indexer.shared import schema
from indexer.shared.machine_rows import Order, Row, RunOfMachine, clean, of_index
from indexer.store import file, lock

BATCH = 1_000
"""Runs that are read, and written in one transaction, together; two batches are in memory."""


_CHANGED = """
SELECT rev, key, id FROM runs WHERE rev > ? UNION ALL SELECT rev, key, NULL FROM deletions WHERE rev > ?
ORDER BY 1 LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Runs that changed, in the order of the change feed.

    `gone` are keys of runs that were deleted, or are no longer in a source that is sent. This batch and those before
    hold everything up to `revision`; `count` is the number of changes. The last batch has `rest`, the tables that are
    sent whole.
    """

    generation: str
    revision: int
    count: int
    runs: list[RunOfMachine]
    gone: list[str]
    rest: dict[str, list[Row]] | None


class Part:
    """The index at `path`, or its runs found in `sources` alone."""

    def __init__(self, path: Path, order: Order, sources: Collection[str] = ()):
        self.path, self.order, self.sources = path, order, sorted(sources)

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The index, open for reading. Raises IndexFileError if it has another schema version, or is damaged."""
        with closing(file.connect_ours(self.path)) as database:
            try:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version != file.SCHEMA:
                    raise IndexFileError(f"{self.path} has schema version {version}; rebuild it: indexer sync")
                yield database
            except sqlite3.DatabaseError as error:
                if not file.is_outside(error):
                    raise
                raise file.unreadable(self.path, error) from None

    def listed(self, database: sqlite3.Connection) -> Iterator[tuple[str, int]]:
        """Key and id of every run that is to be sent."""
        where, values = self._of_sources()
        yield from database.execute(f"SELECT r.key, r.id FROM runs r WHERE {where} ORDER BY r.rev", values)

    def _of_sources(self) -> tuple[str, Sequence[str]]:
        if not self.sources:
            return "true", ()
        names = ", ".join("?" * len(self.sources))
        found = f"EXISTS (SELECT 1 FROM places p WHERE p.run_pk = r.id AND p.source IN ({names}))"
        return found, self.sources

    def whole_tables(self, database: sqlite3.Connection) -> dict[str, list[Row]]:
        """The rows of the tables that are sent whole."""
        looked = lock.looked(self.path)
        whole = {}
        for table in schema.WHOLE:
            names = list(schema.columns(table))
            found = database.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY id").fetchall()
            more = [(looked.get(row[names.index("name")]),) if table == "sources" else () for row in found]
            whole[table] = [clean(row + extra) for row, extra in zip(found, more, strict=True)]
        return whole

    def read(self, database: sqlite3.Connection, listed: Sequence[tuple[str, int]]) -> list[RunOfMachine]:
        """All rows of those of the listed runs that are to be sent."""
        ids = [pk for _, pk in listed]
        where, values = self._of_sources()
        if self.sources:
            among = f"r.id IN ({', '.join(map(str, ids))})"
            ids = [pk for (pk,) in database.execute(f"SELECT r.id FROM runs r WHERE {among} AND {where}", values)]
        return of_index(database, ids, self.order)

    def changed_since(self, database: sqlite3.Connection, revision: int) -> Iterator[Batch]:
        """What changed after a revision, batch by batch; each is a snapshot."""
        more = True
        while more:
            database.execute("BEGIN")
            generation, last, _ = feed(database)
            changed = database.execute(_CHANGED, (revision, revision, BATCH)).fetchall()
            runs = self.read(database, [(key, pk) for _, key, pk in changed if pk is not None])
            more = len(changed) == BATCH
            rest = None if more else self.whole_tables(database)
            database.execute("ROLLBACK")
            kept = {run.key for run in runs}
            gone = [key for _, key, _ in changed if key not in kept]
            revision = changed[-1][0] if more else last
            yield Batch(generation, revision, len(changed), runs, gone, rest)

    def batches(self, database: sqlite3.Connection) -> Iterator[list[RunOfMachine]]:
        """All runs, some at a time."""
        listed = self.listed(database)
        while some := list(islice(listed, BATCH)):
            yield self.read(database, some)


def feed(database: sqlite3.Connection) -> tuple[str, int, int]:
    """Generation, newest revision, and the revision up to which deletions are forgotten."""
    row: tuple[str, int, int] = database.execute("SELECT generation, last_rev, forgotten_rev FROM meta").fetchone()
    return row
