"""Runs in the PostgreSQL database of agentevals (tables `run` and `result` of its schema, migrations 1 and 2).

No column there is written with every change, and `created_at` comes from the clocks of several hosts. But PostgreSQL
gives each version of a row the number of the transaction that wrote it (`xmin`), so the fingerprint of a run hashes
that of its row and those of its results, beside the identity of the server, since each begins anew to count. A whole
look compares the fingerprints of all runs, sorted by id, with those of the index; a short one those of new, live and
just-ended runs. Only runs that differ are read.

Each look is one read-only transaction with one snapshot, on the source's only connection. Columns and JSON paths are
taken by name, never a whole `spec`, which holds traces and secrets; texts of errors are masked before they leave here.
"""

import itertools
import json
import logging
import math
import os
import re
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from indexer.changes import Change, Found, Gone, Known
from indexer.errors import SourceError
from indexer.formats import agentevals
from indexer.formats.masking import error_line, secrets_in
from indexer.protocols import Folder, Unreadable
from indexer.sources import Source

if TYPE_CHECKING:
    import psycopg

SCHEMA = "agentevals"
MIGRATIONS = range(1, 3)
"""Versions of agentevals' tables that are known."""
OVERLAP = 600
"""Seconds before the last look in which a short one searches for runs that came or ended."""
PATIENCE = 5.0
"""Seconds to wait for a server to take a connection, or for another thread to be done with it."""

LONGEST = 300.0
"""Seconds that one statement may take."""

_BATCH = 200
_MOST_SECRETS = 1000  # each is looked for in each error
_CONNECTION = {
    "application_name": "indexer", "client_encoding": "utf8", "connect_timeout": int(PATIENCE), "keepalives_idle": 30,
    "tcp_user_timeout": 30_000, "prepare_threshold": None, "autocommit": True,
}  # fmt: skip
_SETTINGS = f"""
SELECT set_config('search_path', quote_ident(%s), true), set_config('datestyle', 'ISO', true),
       set_config('statement_timeout', '{LONGEST:.0f}s', true), set_config('lock_timeout', '2s', true),
       set_config('idle_in_transaction_session_timeout', '600s', true), set_config('work_mem', '64MB', true)
"""

_TIME = """
CASE WHEN {0} >= '0001-01-01Z' AND {0} < '9999-12-31Z'
THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END"""
# where the encoding of a database is none, a cut may leave half a character, which is an error
_TEXT = "CASE WHEN octet_length({0}) < 100000 THEN {0} ELSE left({0}, 4000) END"
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
)::text, {_TEXT.format("error")}, jsonb_build_object(
    'env', jsonb_build_array(spec -> 'context', spec -> 'sinks', spec -> 'credential_refs'),
    'eval_config', spec -> 'eval_config', 'target', spec -> 'target')::text
FROM (
    SELECT run_id, status, attempt, created_at, started_at, finished_at, error, summary,
           CASE WHEN jsonb_typeof(spec) <> 'object' THEN NULL
                WHEN jsonb_typeof(spec -> 'target') <> 'object' THEN spec - 'target'
                ELSE spec #- '{{target,inline}}' END AS spec
    FROM run WHERE run_id = ANY(%s::uuid[]) OFFSET 0
) AS run
"""
_RESULT = ("eval_set_item_id", "evaluator_name", "evaluator_type", "status", "score", "created_at", "error_text")
_RESULTS = f"""
SELECT run_id::text, eval_set_item_id, evaluator_name, evaluator_type, status,
       CASE WHEN score NOT IN ('NaN', 'Infinity', '-Infinity') THEN score END, {_TIME.format("created_at")},
       {_TEXT.format("error_text")}
FROM result WHERE run_id = ANY(%s::uuid[]) ORDER BY run_id, eval_set_item_id, evaluator_name, result_id
"""

_NOW = """
SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       %s::timestamptz - %s * interval '1 second'
"""
_SERVER = """
SELECT concat_ws('.', (SELECT oid FROM pg_database WHERE datname = current_database()),
    CASE WHEN has_function_privilege('pg_control_system()', 'execute')
         THEN (SELECT system_identifier FROM pg_control_system()) END,
    CASE WHEN has_function_privilege('pg_control_checkpoint()', 'execute')
         THEN (SELECT timeline_id FROM pg_control_checkpoint()) END)
"""
_FINGERPRINT = """
SELECT run.run_id::text, concat_ws(' ', %(server)s::text,
    hashtextextended(concat_ws(' ', status, attempt, error), run.xmin::text::bigint),
    coalesce(written.results, 0), coalesce(written.hash, 0))
"""
_WRITTEN = """
SELECT count(*) AS results, bit_xor(hashtextextended(result_id, xmin::text::bigint)) AS hash FROM result
"""
_ALL = f"""
{_FINGERPRINT} FROM run LEFT JOIN (
    SELECT run_id, {_WRITTEN.strip().removeprefix("SELECT")} GROUP BY run_id) AS written USING (run_id)
ORDER BY run.run_id
"""
_EACH = f"{_FINGERPRINT} FROM run CROSS JOIN LATERAL ({_WRITTEN} WHERE result.run_id = run.run_id) AS written"
_SOME = f"""
{_EACH} WHERE run.status IN ('queued', 'running') OR run.run_id = ANY(%(live)s::uuid[])
           OR run.created_at >= %(since)s OR run.finished_at >= %(since)s
"""
_ONE = f"{_EACH} WHERE run.run_id = %(run)s"


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


class AgentevalsSource(Source):
    """The runs in one schema of a PostgreSQL database. `dsn` is a connection string or URI; None if it is not known.

    `missing` says in that case why. Neither is ever shown.
    """

    kind = "agentevals"
    wakes = "rows"
    pause = 5.0
    longest_pause = 60.0

    def __init__(self, name: str, dsn: str | None, schema: str = SCHEMA, missing: str = ""):
        self.name = name
        self.kept = False
        self._dsn, self._schema, self._missing = dsn, schema, missing
        self._secrets: list[str] = []
        self._connection: psycopg.Connection[Any] | None = None
        self._closing: weakref.finalize[Any, Any] | None = None
        self._using = threading.RLock()
        self._looked: str | None = None
        self._silence, self._deadline = PATIENCE, 0.0
        self.place = self._describe()

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
        """Connect, or see that the server still answers; whether it does. A failure is kept for `open`.

        False while a look is under way, which knows better. Raises SourceError.
        """
        if not self._using.acquire(blocking=False):
            return False
        try:
            was_open = self._connection is not None
            try:
                self._require_known()
            except SourceError:
                if not was_open or self._connection is not None:
                    raise
                self._require_known()  # the server was restarted since
        except SourceError as error:
            self.error = str(error)
            raise
        finally:
            self._using.release()
        self.error = None
        return True

    def nothing_found(self) -> str:
        return f"no runs: {self.place} has none"

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        """All that differs; with `paths`, be they none, only what new, live and just-ended runs show."""
        with self._transaction(PATIENCE if paths is not None else LONGEST) as cursor:
            ((now, since),) = cursor.execute(_NOW, (self._looked, OVERLAP))
            ((server,),) = cursor.execute(_SERVER)
            if paths is None or since is None:
                yield from self._all(cursor, known, server)
            else:
                yield from self._some(cursor, known, server, since)
        self._looked = now

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        found = self.find(ref, path)
        return found.folder if found else None

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            run = str(uuid.UUID(path))
        except ValueError:
            return None
        with self._transaction() as cursor:
            ((server,),) = cursor.execute(_SERVER)
            rows = cursor.execute(_ONE, {"server": server, "run": run}).fetchall()
            return next(self._found(cursor, rows), None)

    # what differs

    def _all(self, cursor: "psycopg.Cursor[Any]", known: Known, server: str) -> Iterator[Change]:
        """Compare two lists, both sorted by id: of the database and of the index."""
        indexed = known.fingerprints()
        waiting: list[tuple[str, str]] = []
        path, fingerprint = next(indexed, (None, ""))
        with cursor.connection.cursor("indexer_runs") as rows:
            rows.itersize = 5000
            for run, new in rows.execute(_ALL, {"server": server}):
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

    def _some(self, cursor: "psycopg.Cursor[Any]", known: Known, server: str, since: Any) -> Iterator[Change]:
        live = set(known.unfinished())
        parameters = {"server": server, "live": sorted(live), "since": since}
        rows = cursor.execute(_SOME, parameters).fetchall()
        yield from (Gone(None, path) for path in sorted(live - {run for run, _ in rows}))
        changed = [(run, new) for run, new in rows if known.fingerprint(None, run) != new]
        for at in range(0, len(changed), _BATCH):
            yield from self._found(cursor, changed[at : at + _BATCH])

    def _found(self, cursor: "psycopg.Cursor[Any]", runs: Sequence[tuple[str, str]]) -> Iterator[Found]:
        """These runs, the results of one after the other."""
        ids = sorted(run for run, _ in runs)
        fingerprints = dict(runs)
        told = {run: rest for run, *rest in cursor.execute(_RUNS, (ids,))}
        with cursor.connection.cursor("indexer_results") as rows:
            rows.itersize = 1000
            results = itertools.groupby(rows.execute(_RESULTS, (ids,)), lambda row: row[0])
            of, group = next(results, (None, iter(())))
            for run in ids:
                document, error, spec = told[run]
                secrets = _secrets_of(spec)
                found = []
                if of == run:
                    found = [dict(zip(_RESULT, row[1:], strict=True)) for row in group]
                    of, group = next(results, (None, iter(())))
                for result in found:
                    result["error_text"] = error_line(result["error_text"], secrets)
                content = json.dumps({"error": error_line(error, secrets), "results": found})
                files = {agentevals.RUN: document.encode(), agentevals.RESULTS: content.encode()}
                self._deadline = math.inf  # what is done with it takes the time that it takes
                yield Found(None, run, fingerprints[run], _RunFolder(run, files), agentevals, {})
                self._heard()

    # the connection

    def _require_known(self) -> None:
        """Raises SourceError unless the tables are there as this program knows them."""
        with self._transaction() as cursor:
            ((schema, usable),) = cursor.execute(
                "SELECT count(*), coalesce(bool_and(has_schema_privilege(oid, 'usage')), true) "
                "FROM pg_namespace WHERE nspname = %s",
                (self._schema,),
            )
            if not schema:
                raise SourceError(f"{self.place} cannot be read: there is no schema {self._schema}")
            if not usable:
                raise SourceError(f"{self.place} cannot be read: the role may not use the schema {self._schema}")
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
    def _transaction(self, silence: float = PATIENCE) -> "Iterator[psycopg.Cursor[Any]]":
        """A cursor in a read-only transaction, in which names stand for what is in the schema. Raises SourceError.

        The connection is cut when nothing is heard of the server for `silence` seconds.
        """
        if not self._using.acquire(timeout=2 * PATIENCE):
            raise SourceError(f"{self.place} does not answer")
        ended = threading.Event()
        try:
            self._silence = silence
            self._heard()
            threading.Thread(target=self._end_silence, args=(ended,), daemon=True).start()
            with self._errors():
                connection = self._connected()
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.execute(_SETTINGS, (self._schema,))
                    yield cursor
        finally:
            ended.set()
            self._using.release()

    def _heard(self) -> None:
        self._deadline = time.monotonic() + self._silence

    def _end_silence(self, ended: threading.Event) -> None:
        """In a thread: cut the connection to a server which is there but does not answer."""
        while not ended.wait(1.0):
            connection = self._connection
            if connection is not None and time.monotonic() > self._deadline:
                with suppress(OSError, _driver().Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)
                return

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._dsn is None:
            raise SourceError(self._missing)
        psycopg = _driver()
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            self._disconnect()
        if self._connection is None:
            connection = psycopg.connect(self._dsn, **_CONNECTION)
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection = connection
            self._closing = weakref.finalize(self, connection.close)
        return self._connection

    def _disconnect(self) -> None:
        self._connection = None
        if self._closing is not None:
            self._closing()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What PostgreSQL or its driver says, as a SourceError of one line without secrets."""
        psycopg = _driver()
        try:
            yield
        except (psycopg.Error, ValueError, NotImplementedError) as error:  # names and texts that are none, odd settings
            if not isinstance(error, psycopg.ProgrammingError):
                self._disconnect()
            if isinstance(error, psycopg.errors.UndefinedTable):
                why = "there are no tables of agentevals; run agentevals migrate up"
            else:
                why = error_line(str(error), self._secrets) or type(error).__name__
            raise SourceError(f"{self.place} cannot be read: {why}") from None

    def _describe(self) -> str:
        """Host, port and database, for people; nothing of a connection string that was not understood."""
        parts: dict[str, Any] = {}
        if self._dsn is not None:
            try:
                psycopg = _driver()
                parts = _understood(psycopg.conninfo.conninfo_to_dict(self._dsn))
            except SourceError as error:
                self._dsn, self._missing = None, str(error)
            except (psycopg.Error, UnicodeError):
                pass
        if self._dsn is not None and not parts:
            self._dsn = None
            self._missing = (
                "what it is connected by is no connection string of PostgreSQL; in a URI, special characters of a "
                "password are written as %2F, %40 and so on"
            )
        self._secrets = [text for text in (self._dsn, parts.get("password")) if text]
        where = parts.get("host", "") + (f":{parts['port']}" if "port" in parts else "")
        schema = "" if self._schema == SCHEMA else f", schema {self._schema}"
        return (f"postgresql://{where}/{parts.get('dbname', '')}" if parts else "a database") + schema


def _understood(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of a connection string; none if one looks as if a password had got into it."""
    plain = {"host": r"[^@:]*|[0-9a-fA-F:,]*", "port": r"[\d,]*", "dbname": r"[^@:/]*"}
    return parts if all(re.fullmatch(form, str(parts.get(name, ""))) for name, form in plain.items()) else {}


def _secrets_of(spec: str) -> set[str] | None:
    """What a run was given; None where that cannot be told."""
    try:
        secrets = set(secrets_in(spec.encode()))
    except ValueError:
        return None
    return secrets if len(secrets) <= _MOST_SECRETS else None


def _driver() -> ModuleType:
    try:
        import psycopg
    except ImportError:
        raise SourceError("psycopg is missing: pip install 'psycopg[binary]'") from None
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it tells whom it connects as
    return psycopg
