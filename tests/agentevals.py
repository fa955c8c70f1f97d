"""A private PostgreSQL, and databases in it with the tables of agentevals."""

import getpass
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from indexer.earlier import Nothing
from indexer.protocols import Options
from indexer.records import Run
from indexer.sources.agentevals.records import RunRows
from tests.worlds import lacking

TABLES = """
CREATE SCHEMA {schema};
SET search_path TO {schema};
CREATE TABLE run (
    run_id uuid PRIMARY KEY, status text NOT NULL, approach text NOT NULL DEFAULT 'trace_replay', spec jsonb NOT NULL,
    attempt integer NOT NULL DEFAULT 0, worker_id text, claimed_at timestamptz, lease_expires_at timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false, error text, summary jsonb,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, finished_at timestamptz);
CREATE INDEX run_queue_idx ON run (status, created_at) WHERE status IN ('queued', 'running');
CREATE TABLE result (
    result_id text PRIMARY KEY, run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE, eval_set_item_id text NOT NULL,
    eval_set_item_name text NOT NULL, evaluator_name text NOT NULL, evaluator_type text NOT NULL, status text NOT NULL,
    score double precision, per_invocation_scores double precision[] NOT NULL DEFAULT '{{}}', trace_id text,
    span_id text, details jsonb NOT NULL DEFAULT '{{}}', error_text text, tokens_used jsonb, latency_ms integer,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz);
CREATE INDEX result_run_id_idx ON result (run_id);
CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);
INSERT INTO schema_migrations VALUES (2, false);
"""


class Server:
    """A PostgreSQL that listens on a socket in a folder of its own."""

    def __init__(self, folder: Path, programs: Path, user: str | None):
        self.folder, self._programs, self._user = folder, programs, user
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--pgdata", folder / "data", "--auth=trust", "--no-sync", "--username=postgres")

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.folder)

    def start(self) -> None:
        options = [f"unix_socket_directories={self.folder}", "listen_addresses=", "fsync=off", "max_connections=20"]
        settings = [part for option in options for part in ("-c", option)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.folder / "data", *settings],
                user=self._user, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # connections are not waited for
        self._process.wait(60)

    def crash(self) -> None:
        """Stop at once, so that the next start has to recover."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(60)

    def dsn(self, database: str) -> str:
        return f"host={self.folder} dbname={database} user=postgres"

    def new(self, schema: str | None = "agentevals") -> "Database":
        """A database of its own, with the tables in a schema."""
        self._databases += 1
        name = f"db{self._databases}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database = Database(self, name, schema or "")
        if schema:
            database.execute(sql.SQL(TABLES).format(schema=sql.Identifier(schema)).as_string())
        return database

    def load(self, dump: Path) -> "Database":
        """A database made of a dump."""
        database = self.new(None)
        database.schema = "agentevals"
        self.reload(database, dump)
        return database

    def reload(self, database: "Database", dump: Path) -> None:
        database.execute("DROP SCHEMA IF EXISTS agentevals CASCADE")
        command = [str(self._programs / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", database.dsn, "-f", str(dump)]
        subprocess.run(command, check=True, capture_output=True)


class Database:
    """A database of agentevals, changed as its workers do."""

    def __init__(self, server: Server, name: str, schema: str):
        self.server, self.name, self.schema = server, name, schema
        self.dsn = server.dsn(name)

    def execute(self, statement: str, *parameters: Any) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            if self.schema:
                connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema)))
            connection.execute(statement.encode(), parameters or None)

    def run(self, status: str = "succeeded", number: int | None = None, spec: Any = None, **columns: Any) -> str:
        """Insert a run; its id."""
        run = str(uuid.uuid4() if number is None else uuid.UUID(int=number))
        columns = {
            "attempt": 1,
            "created_at": "2026-01-05T09:00:00.25Z",
            "started_at": "2026-01-05T09:00:01Z",
        } | columns
        if status in ("succeeded", "failed", "cancelled"):
            columns = {"finished_at": "2026-01-05T09:00:09Z"} | columns
        values = {"run_id": run, "status": status, "spec": json.dumps(spec or SPEC)} | columns
        names = ", ".join(values)
        self.execute(f"INSERT INTO run ({names}) VALUES ({', '.join(['%s'] * len(values))})", *values.values())
        return run

    def result(
        self, run: str, item: str = "item-1", status: str = "passed", score: float | None = 1.0, **more: Any
    ) -> None:
        """Insert the result of an evaluator, or replace it as a retry does."""
        values = {
            "result_id": f"{run}|{item}|{more.get('evaluator_name', 'trajectory')}", "run_id": run,
            "eval_set_item_id": item, "eval_set_item_name": item, "evaluator_name": "trajectory",
            "evaluator_type": "builtin", "status": status, "score": score, "created_at": "2026-01-05T09:00:08Z",
        } | more  # fmt: skip
        names = ", ".join(values)
        self.execute(
            f"INSERT INTO result ({names}) VALUES ({', '.join(['%s'] * len(values))}) "
            "ON CONFLICT (result_id) DO UPDATE SET status = excluded.status, score = excluded.score",
            *values.values(),
        )


CANARY = "FAKE-bearer-CANARY"
SPEC = {
    "approach": "trace_replay",
    "target": {"kind": "inline", "inline": {"data": [{"token": CANARY}]}, "trace_count": 2},
    "eval_set": {"eval_set_id": "k8s", "name": "Eval Set", "eval_cases": [{"text": CANARY}]},
    "context": {"headers": {"Authorization": CANARY}},
    "sinks": [{"kind": "http_webhook", "url": f"https://u:{CANARY}@h/x", "headers": {"X-Auth": CANARY}}],
}
SUMMARY: dict[str, Any] = {
    "trace_count": 2, "agents": ["k8s_agent"], "errors": [CANARY],
    "performance_metrics": {
        "models": ["gpt-4.1-mini"],
        "tokens": {"total_prompt": 2203, "total_output": 139, "cache_read_tokens": 5, "cache_creation_tokens": 0},
    },
}  # fmt: skip


RUN_ID = "23b29240-0000-4000-8000-000000000001"


def documents() -> dict[str, bytes]:
    """A run with the results of two items, as it is taken of the tables: `run` and `results`."""
    run = {
        "run_id": RUN_ID, "status": "succeeded", "attempt": 1, "eval_set_id": "k8s", "trace_count": 2,
        "created_at": "2026-01-05T09:00:00.250Z", "started_at": "2026-01-05T09:00:01.000Z",
        "finished_at": "2026-01-05T09:00:09.000Z",
        "summary": {"trace_count": 2, "agents": ["k8s_agent"]} | SUMMARY["performance_metrics"],
    }  # fmt: skip
    results = [
        {"eval_set_item_id": item, "evaluator_name": name, "evaluator_type": "builtin", "status": status,
         "score": score, "created_at": "2026-01-05T09:00:08.000Z", "error_text": error}
        for item, name, status, score, error in (
            ("item-1", "trajectory", "passed", 1.0, None), ("item-1", "judge", "failed", 0.5, None),
            ("item-2", "judge", "errored", None, "a line"))
    ]  # fmt: skip
    return {
        "run": json.dumps(run).encode(),
        "results": json.dumps({"error": "a line", "results": results}).encode(),
    }


def read(documents: Mapping[str, bytes]) -> Run | None:
    """The run in such documents. Raises Unreadable."""
    results = json.loads(documents["results"])
    rows = RunRows(RUN_ID, documents["run"].decode("utf-8", "replace"), results["error"], results["results"], "{}")
    return rows.read(Options(), Nothing())


@contextmanager
def server() -> Iterator[Server]:
    """Needs the programs of PostgreSQL, and another user than root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = found[-1] if found else Path(shutil.which("initdb") or "")
    user = None if os.geteuid() else "postgres"
    known = {each.pw_name for each in pwd.getpwall()}
    if not program.is_file() or (user or getpass.getuser()) not in known:
        lacking("PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        if user:
            shutil.chown(folder, user)
        running = Server(Path(folder), program.parent, user)
        running.start()
        try:
            yield running
        finally:
            running.stop()
