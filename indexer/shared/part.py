"""The part of an index that a machine sends: which runs, and all their rows."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from indexer.errors import IndexFileError
from indexer.shared import schema
from indexer.shared.machine_rows import Order, Row, RunOfMachine, clean, of_index
from indexer.store import file, lock

BATCH = 1_000
"""Runs that are read, and written in one transaction, together."""


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

    def batches(self, database: sqlite3.Connection) -> Iterator[list[RunOfMachine]]:
        """All runs, some at a time."""
        listed = self.listed(database)
        while some := list(islice(listed, BATCH)):
            yield self.read(database, some)
