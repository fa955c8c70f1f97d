"""Runs in the PostgreSQL database of agentevals (tables `run` and `result` of its schema, migrations 1 and 2).

No column there is written with every change, and `created_at` comes from the clocks of several hosts. But PostgreSQL
gives each version of a row the number of the transaction that wrote it (`xmin`), so the fingerprint of a run is that of
its row with the count and the sum of those of its results: every insert and update makes the sum greater. A whole look
compares the fingerprints of all runs, sorted by id, with those of the index; a short one those of new, live and
just-ended runs. Only runs that differ are read.

Each look is one read-only transaction with one snapshot, on the source's only connection. Columns and JSON paths are
taken by name, never a whole `spec`, which holds traces and secrets; texts of errors are masked before they leave here.
"""

import json
import uuid
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from indexer.changes import Change, Found, Gone, Known
from indexer.errors import SourceError
from indexer.formats import agentevals
from indexer.formats.masking import error_line, secrets_in
from indexer.protocols import Folder, Unreadable

if TYPE_CHECKING:
    import psycopg

SCHEMA = "agentevals"
MIGRATIONS = range(1, 3)
"""Versions of agentevals' tables that are known."""
OVERLAP = 600
"""Seconds before the last look in which a short one searches for runs that came or ended."""

_BATCH = 200
_SETTINGS = """
SELECT set_config('search_path', quote_ident(%s), true), set_config('statement_timeout', '300s', true),
       set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '600s', true)
"""
_CONNECTION = {
    "application_name": "indexer", "connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000,
    "prepare_threshold": None, "autocommit": True,
}  # fmt: skip

_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
# what is large is cut off first, since each expression unpacks the whole document
_RUNS = f"""
SELECT run_id::text, jsonb_build_object(
    'run_id', run_id, 'status', status, 'attempt', attempt, 'created_at', {_TIME.format("created_at")},
    'started_at', {_TIME.format("started_at")}, 'finished_at', {_TIME.format("finished_at")},
    'eval_set_id', spec #> '{{eval_set,eval_set_id}}', 'trace_count', spec #> '{{target,trace_count}}',
    'summary', jsonb_build_object(
        'trace_count', summary -> 'trace_count', 'agents', summary -> 'agents',
        'models', summary #> '{{performance_metrics,models}}',
        'tokens', jsonb_build_object(
            'total_prompt', summary #> '{{performance_metrics,tokens,total_prompt}}',
            'total_output', summary #> '{{performance_metrics,tokens,total_output}}',
            'cache_read_tokens', summary #> '{{performance_metrics,tokens,cache_read_tokens}}',
            'cache_creation_tokens', summary #> '{{performance_metrics,tokens,cache_creation_tokens}}'))
), left(error, 20000), jsonb_build_array(spec -> 'context', spec -> 'sinks', spec -> 'target')::text
FROM (
    SELECT run_id, status, attempt, created_at, started_at, finished_at, error, summary,
           spec #- '{{target,inline}}' AS spec
    FROM run WHERE run_id = ANY(%s::uuid[]) OFFSET 0
) AS run
"""
_RESULT = ("eval_set_item_id", "evaluator_name", "evaluator_type", "status", "score", "created_at", "error_text")
_RESULTS = f"""
SELECT run_id::text, eval_set_item_id, evaluator_name, evaluator_type, status,
       CASE WHEN score NOT IN ('NaN', 'Infinity', '-Infinity') THEN score END, {_TIME.format("created_at")},
       left(error_text, 20000)
FROM result WHERE run_id = ANY(%s::uuid[]) ORDER BY run_id, eval_set_item_id, evaluator_name, result_id
"""
_SINCE = "SELECT now(), %s::timestamptz - %s * interval '1 second'"
_FINGERPRINT = "run.run_id::text, concat_ws(' ', run.xmin, written.results, written.sum)"
_WRITTEN = "count(*) AS results, sum(xmin::text::bigint) AS sum FROM result"
_ALL = f"""
SELECT {_FINGERPRINT}
FROM run LEFT JOIN (SELECT run_id, {_WRITTEN} GROUP BY run_id) AS written USING (run_id) ORDER BY run.run_id
"""
_SOME = f"""
SELECT {_FINGERPRINT}
FROM run CROSS JOIN LATERAL (SELECT {_WRITTEN} WHERE result.run_id = run.run_id) AS written
WHERE run.status IN ('queued', 'running') OR run.run_id = ANY(%(live)s::uuid[])
   OR run.created_at >= %(since)s OR run.finished_at >= %(since)s
"""
_ONE = f"{_SOME.partition('WHERE run.')[0]} WHERE run.run_id = %s"


class _RunFolder:
    """What was taken of one run, as a Folder with two files."""

    ref = None

    def __init__(self, path: str, files: dict[str, bytes]):
        self.path, self._files = path, files

    def files(self) -> Collection[str]:
        return self._files.keys()

    def folders(self) -> Collection[str]:
        return ()

    def find(self, path: str) -> None:
        return None

    def elsewhere(self, path: str) -> None:
        return None

    def size(self, path: str) -> int | None:
        return len(self._files[path]) if path in self._files else None

    def read(self, path: str, limit: int) -> bytes | None:
        data = self._files.get(path)
        if data is not None and len(data) > limit:
            raise Unreadable(path, "too-large", f"{len(data):,} bytes are more than the {limit:,} that are read")
        return data


class AgentevalsSource:
    """The runs in one schema of a PostgreSQL database. `dsn` is a connection string or URI; None if it is not known.

    `missing` says in that case why. Neither is ever shown.
    """

    kind = "agentevals"
    web_url: str | None = None

    def __init__(self, name: str, dsn: str | None, schema: str = SCHEMA, missing: str = ""):
        self.name = name
        self._dsn, self._schema, self._missing = dsn, schema, missing
        self._secrets: list[str] = []
        self._connection: psycopg.Connection[Any] | None = None
        self._looked: datetime | None = None
        self.place = self._describe()

    def open(self) -> None:
        was_open = self._connection is not None
        try:
            with self._errors():
                self._require_known()
        except SourceError:
            if not was_open or self._connection is not None:
                raise
            with self._errors():  # the server may have been restarted since
                self._require_known()

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        """All that differs; with `paths`, whichever, only what new, live and just-ended runs show."""
        with self._errors(), self._transaction() as cursor:
            ((now, since),) = cursor.execute(_SINCE, (self._looked, OVERLAP))
            if paths is None or since is None:
                yield from self._all(cursor, known)
            else:
                yield from self._some(cursor, known, since)
        self._looked = now

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        found = self.find(ref, path)
        return found.folder if found else None

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            run = str(uuid.UUID(path))
        except ValueError:
            return None
        with self._errors(), self._transaction() as cursor:
            rows = cursor.execute(_ONE, (run,)).fetchall()
            return next(self._found(cursor, rows), None)

    # what differs

    def _all(self, cursor: "psycopg.Cursor[Any]", known: Known) -> Iterator[Change]:
        """Compare two lists, both sorted by id: of the database and of the index."""
        indexed = known.fingerprints()
        waiting: list[tuple[str, str]] = []
        path, fingerprint = next(indexed, (None, ""))
        with cursor.connection.cursor("indexer") as rows:
            rows.itersize = 5000
            for run, new in rows.execute(_ALL):
                while path is not None and path < run:
                    yield Gone(None, path)
                    path, fingerprint = next(indexed, (None, ""))
                if path != run or fingerprint != new:
                    waiting.append((run, new))
                if path == run:
                    path, fingerprint = next(indexed, (None, ""))
                if len(waiting) == _BATCH:
                    yield from self._found(cursor, waiting)
                    waiting.clear()
        while path is not None:
            yield Gone(None, path)
            path, fingerprint = next(indexed, (None, ""))
        yield from self._found(cursor, waiting)

    def _some(self, cursor: "psycopg.Cursor[Any]", known: Known, since: datetime) -> Iterator[Change]:
        live = set(known.unfinished())
        rows = cursor.execute(_SOME, {"live": sorted(live), "since": since}).fetchall()
        yield from (Gone(None, path) for path in sorted(live - {run for run, _ in rows}))
        changed = [(run, new) for run, new in rows if known.fingerprint(None, run) != new]
        for at in range(0, len(changed), _BATCH):
            yield from self._found(cursor, changed[at : at + _BATCH])

    def _found(self, cursor: "psycopg.Cursor[Any]", runs: Sequence[tuple[str, str]]) -> Iterator[Found]:
        ids = [run for run, _ in runs]
        told = {run: rest for run, *rest in cursor.execute(_RUNS, (ids,))}
        secrets = {run: secrets_in(spec.encode()) for run, (_, _, spec) in told.items()}
        results: dict[str, list[dict[str, Any]]] = {run: [] for run in ids}
        for run, *row in cursor.execute(_RESULTS, (ids,)):
            result = dict(zip(_RESULT, row, strict=True))
            result["error_text"] = error_line(result["error_text"], secrets[run])
            results[run].append(result)
        for run, fingerprint in runs:
            document, error, _ = told[run]
            document["error"] = error_line(error, secrets[run])
            files = {agentevals.RUN: document, agentevals.RESULTS: results[run]}
            folder = _RunFolder(run, {name: json.dumps(content).encode() for name, content in files.items()})
            yield Found(None, run, fingerprint, folder, agentevals, {})

    # the connection

    def _require_known(self) -> None:
        """Raises SourceError unless the tables are there as this program knows them."""
        with self._transaction() as cursor:
            migrations = cursor.execute("SELECT version, dirty FROM schema_migrations").fetchall()
        if len(migrations) != 1:
            raise SourceError(f"{self.place} has no version of its tables; run agentevals migrate up")
        version, dirty = migrations[0]
        if dirty:
            raise SourceError(f"{self.place} is dirty: its migration {version} failed or has not ended")
        if version not in MIGRATIONS:
            known = f"{MIGRATIONS[0]} to {MIGRATIONS[-1]}"
            raise SourceError(f"{self.place} has tables of version {version}; this program knows {known}")

    @contextmanager
    def _transaction(self) -> "Iterator[psycopg.Cursor[Any]]":
        """A cursor in a read-only transaction, in which names stand for what is in the schema."""
        connection = self._connected()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_SETTINGS, (self._schema,))
            yield cursor

    def _connected(self) -> "psycopg.Connection[Any]":
        psycopg = _driver()
        if self._connection is None or self._connection.closed or self._connection.broken:
            connection = psycopg.connect(self._dsn, **_CONNECTION)
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection = connection
            weakref.finalize(self, connection.close)
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What PostgreSQL says, as a SourceError of one line without secrets."""
        if self._dsn is None:
            raise SourceError(self._missing)
        psycopg = _driver()
        try:
            yield
        except psycopg.Error as error:
            if self._connection is not None and not isinstance(error, psycopg.ProgrammingError):
                self._connection.close()
                self._connection = None
            if isinstance(error, psycopg.errors.UndefinedTable):
                why = "there are no tables of agentevals; run agentevals migrate up, or name the schema"
            else:
                why = error_line(str(error), self._secrets) or type(error).__name__
            raise SourceError(f"{self.place} cannot be read: {why}") from None

    def _describe(self) -> str:
        """Host, port, database and schema, for people."""
        parts: dict[str, Any] = {}
        if self._dsn is not None:
            try:
                psycopg = _driver()
                parts = psycopg.conninfo.conninfo_to_dict(self._dsn)
            except SourceError as error:
                self._dsn, self._missing = None, str(error)
            except psycopg.Error:
                self._dsn, self._missing = None, "dsn is no connection string or URI of PostgreSQL"
        self._secrets = [text for text in (self._dsn, parts.get("password")) if text]
        where = parts.get("host", "") + (f":{parts['port']}" if "port" in parts else "")
        database = parts.get("dbname", "")
        return "/".join(filter(None, (f"postgresql://{where}", database, self._schema)))


def _driver() -> ModuleType:
    try:
        import psycopg
    except ImportError:
        raise SourceError("psycopg is missing: pip install 'indexer[postgres]'") from None
    return psycopg
