"""Runs in the PostgreSQL database of agentevals.

No column there is updated with every change, and `created_at` comes from the clocks of several hosts, so changes are
found by fingerprints that the server computes (see `queries`). A whole look compares the fingerprints of all runs,
sorted by id, with the index; a short look compares only those of new, live and just-ended runs. Only runs that differ
are read.

Each look is one read-only transaction with one snapshot, on the source's only connection.
"""

import itertools
import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from indexer.changes import Change, Found, Gone, Indexed
from indexer.errors import SourceError
from indexer.sources import Source
from indexer.sources.agentevals.database import LONGEST, PATIENCE, SCHEMA, Database
from indexer.sources.agentevals.queries import ALL, NOW, ONE, RESULT, RESULTS, RUNS, SERVER, SOME
from indexer.sources.agentevals.records import MOST_RESULTS, RunRows
from indexer.sources.settings import Name, Strict

if TYPE_CHECKING:
    import psycopg

OVERLAP = 600
"""A short look searches for runs that were created or ended since this many seconds before the last look."""

_BATCH = 200


class AgentevalsSource(Source):
    """The runs in one schema of a PostgreSQL database; see `Database`."""

    kind = "agentevals"
    wakes = "rows"
    holds_files = False
    pause = 5.0
    longest_pause = 60.0

    def __init__(self, name: str, dsn: str | None, schema: str = SCHEMA, missing: str = ""):
        self.name = name
        self.kept = False
        self._database = Database(dsn, schema, missing)
        self._looked: str | None = None
        self.place = self._database.place

    def open(self) -> None:
        if not self.kept:
            self.fetch()
        if self.error is not None:
            raise SourceError(self.error)

    def begin_watching(self) -> None:
        with suppress(SourceError):
            self.fetch()
        self.kept = True

    def fetch(self) -> bool:
        """Connect, or check that the server still answers; returns whether it does. A failure is kept for `open`.

        Raises SourceError.
        """
        try:
            reached = self._database.try_reaching()
        except SourceError as error:
            self.error = str(error)
            raise
        if reached:
            self.error = None
        return reached

    def nothing_found(self) -> str:
        return f"no runs: {self.place} has none"

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        """All that differs; with `paths`, even empty ones, only differences of new, live and just-ended runs."""
        with self._database.transaction(PATIENCE if paths is not None else LONGEST) as cursor:
            ((now, since),) = cursor.execute(NOW, (self._looked, OVERLAP))
            ((server,),) = cursor.execute(SERVER)
            if paths is None or since is None:
                yield from self._all(cursor, indexed, server)
            else:
                yield from self._some(cursor, indexed, server, since)
        self._looked = now

    def folder_at(self, ref: str | None, path: str) -> None:
        return None  # what is in a database lies in no folder

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            run = str(uuid.UUID(path))
        except ValueError:
            return None
        with self._database.transaction() as cursor:
            ((server,),) = cursor.execute(SERVER)
            rows = cursor.execute(ONE, {"server": server, "run": run}).fetchall()
            return next(self._found(cursor, rows), None)

    # what differs

    def _all(self, cursor: "psycopg.Cursor[Any]", indexed: Indexed, server: str) -> Iterator[Change]:
        """Compare two lists, both sorted by id: of the database and of the index."""
        stored = indexed.fingerprints()
        waiting: list[tuple[str, str]] = []
        path, fingerprint = next(stored, (None, ""))
        with cursor.connection.cursor("indexer_runs") as rows:
            rows.itersize = 5000
            for run, new in rows.execute(ALL, {"server": server}):
                while path is not None and path < run:
                    yield Gone(None, path)
                    path, fingerprint = next(stored, (None, ""))
                if path != run or fingerprint != new:
                    waiting.append((run, new))
                if path == run:
                    path, fingerprint = next(stored, (None, ""))
                if len(waiting) == _BATCH:
                    yield from self._found(cursor, waiting)
                    waiting.clear()
        while path is not None:
            yield Gone(None, path)
            path, fingerprint = next(stored, (None, ""))
        yield from self._found(cursor, waiting)

    def _some(self, cursor: "psycopg.Cursor[Any]", indexed: Indexed, server: str, since: Any) -> Iterator[Change]:
        live = set(indexed.unfinished())
        parameters = {"server": server, "live": sorted(live), "since": since}
        rows = cursor.execute(SOME, parameters).fetchall()
        yield from (Gone(None, path) for path in sorted(live - {run for run, _ in rows}))
        changed = [(run, new) for run, new in rows if indexed.fingerprint(None, run) != new]
        for at in range(0, len(changed), _BATCH):
            yield from self._found(cursor, changed[at : at + _BATCH])

    def _found(self, cursor: "psycopg.Cursor[Any]", runs: Sequence[tuple[str, str]]) -> Iterator[Found]:
        """These runs; their results are streamed one run after the other."""
        ids = sorted(run for run, _ in runs)
        fingerprints = dict(runs)
        documents = {run: rest for run, *rest in cursor.execute(RUNS, (ids,))}
        with cursor.connection.cursor("indexer_results") as rows:
            rows.itersize = 1000
            results = itertools.groupby(rows.execute(RESULTS, (ids,)), lambda row: row[0])
            of, group = next(results, (None, iter(())))
            for run in ids:
                document, error, spec = documents[run]
                found = []
                if of == run:
                    found = [
                        dict(zip(RESULT, row[1:], strict=True)) for row in itertools.islice(group, MOST_RESULTS + 1)
                    ]
                    of, group = next(results, (None, iter(())))
                self._database.busy()
                yield Found(None, run, fingerprints[run], RunRows(run, document, error, found, spec), {})
                self._database.heard()


def _variable(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("must be the name of an environment variable; use dsn for the connection string itself")
    return name


class AgentevalsSettings(Strict):
    """The PostgreSQL database of agentevals: its connection string, or the environment variable that holds it."""

    name: Name
    kind: Literal["agentevals"]
    dsn_env: Annotated[str, AfterValidator(_variable)] | None = None
    dsn: SecretStr | None = None
    database_schema: Annotated[str, Field(alias="schema", pattern=r"^[A-Za-z_]\w{0,62}$")] = SCHEMA

    @model_validator(mode="after")
    def _one_place(self) -> "AgentevalsSettings":
        if (self.dsn_env is None) == (self.dsn is None):
            raise ValueError("name either dsn_env or dsn")
        return self

    def source(self, root: Path) -> Source:
        """The source."""
        if self.dsn is not None:
            return AgentevalsSource(self.name, self.dsn.get_secret_value(), self.database_schema)
        missing = f"the environment variable {self.dsn_env} is not set"
        return AgentevalsSource(self.name, os.environ.get(self.dsn_env or "") or None, self.database_schema, missing)
