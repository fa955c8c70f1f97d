"""Runs in a real PostgreSQL with the tables of agentevals."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexer.errors import SourceError
from indexer.passes import sync as passes
from indexer.passes.walk import Work
from indexer.project import find_project
from indexer.settings import load
from indexer.sources.agentevals import AgentevalsSource
from indexer.store import file
from tests.agentevals import CANARY, SUMMARY, Database, Server, server
from tests.bundles import at, bundle
from tests.jobs import job
from tests.test_daemon import FOLDER, Watching
from tests.worlds import World


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def database(postgres: Server) -> Database:
    return postgres.new()


@pytest.fixture
def evals(world: World, database: Database) -> World:
    """A world whose sources are a database and the usual ones."""
    world.sources.append(AgentevalsSource("evals", database.dsn))
    return world


def test_a_run_with_results(evals: World, database: Database) -> None:
    run = database.run(summary=json.dumps(SUMMARY))
    database.result(run, "item-1", evaluator_name="trajectory")
    database.result(run, "item-1", "failed", 0.5, evaluator_name="judge", evaluator_type="remote")
    database.result(run, "item-2", "skipped", None)
    (row,) = evals.synced()
    expected = {
        "key": f"agentevals:{run}", "run_id": run, "source": "evals", "path": run, "ref": None,
        "format": "agentevals", "experiment": "k8s", "target": "k8s_agent", "agent": "k8s_agent",
        "model": "gpt-4.1-mini", "status": "completed", "timestamp": "2026-01-05T09:00:00.250Z",
        "started_at": "2026-01-05T09:00:01.000Z", "finished_at": "2026-01-05T09:00:09.000Z", "duration_s": 8.0,
        "planned_count": 2, "ended_count": 2, "trial_count": 1, "passed": 0, "failed": 1, "skipped": 1,
        "input_tokens": 2203, "cached_tokens": 5, "output_tokens": 139, "attempt": 1,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    trials = evals.select("SELECT trial, suite, test_id, status, score, attempt, finished_at FROM trials ORDER BY 1")
    assert trials == [
        {"trial": "item-1", "suite": "k8s", "test_id": "item-1", "status": "failed", "score": 0.75, "attempt": 1,
         "finished_at": "2026-01-05T09:00:08.000Z"},
        {"trial": "item-2", "suite": "k8s", "test_id": "item-2", "status": "skipped", "score": None, "attempt": 1,
         "finished_at": "2026-01-05T09:00:08.000Z"},
    ]  # fmt: skip
    scores = evals.select("SELECT name, type, score, passed FROM scores ORDER BY name, passed")
    assert [tuple(score.values()) for score in scores] == [
        ("judge", "remote", 0.5, 0), ("trajectory", "builtin", None, None), ("trajectory", "builtin", 1.0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "shown"),
    [("queued", "queued"), ("running", "running"), ("succeeded", "completed"), ("failed", "failed"),
     ("cancelled", "cancelled")],
)  # fmt: skip
def test_states(evals: World, database: Database, status: str, shown: str) -> None:
    database.run(status)
    assert evals.synced()[0]["status"] == shown


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (["passed", "errored", "failed"], "errored"),
        (["passed", "failed", "skipped"], "failed"),
        (["passed", "skipped"], "passed"),
        (["skipped"], "skipped"),
    ],
)
def test_the_worst_evaluator_decides(evals: World, database: Database, results: list[str], verdict: str) -> None:
    run = database.run()
    for number, status in enumerate(results):
        database.result(run, status=status, evaluator_name=f"e{number}")
    evals.synced()
    assert evals.column("SELECT status FROM trials") == [verdict]


def test_whatever_changes_there_is_found(evals: World, database: Database) -> None:
    first, second = database.run("queued", 1), database.run("running", 2)
    database.run("succeeded", 3)
    assert evals.synced("SELECT run_id FROM runs ORDER BY 1")[0] == {"run_id": first}
    before = file.connect(evals.db).execute("SELECT changed_at, last_rev FROM sources, meta").fetchall()
    evals.sync()
    assert file.connect(evals.db).execute("SELECT changed_at, last_rev FROM sources, meta").fetchall() == before
    changes = [
        f"UPDATE run SET status = 'running', attempt = 1 WHERE run_id = '{first}'",
        f"INSERT INTO result SELECT 'r', '{first}', 'i', 'i', 'e', 'builtin', 'failed', 0.25",
        "UPDATE result SET status = 'passed', score = 1",  # a retry, with the time of the first
        f"UPDATE run SET status = 'succeeded', finished_at = now() WHERE run_id = '{first}'",
        "DELETE FROM result",
        f"UPDATE run SET status = 'queued', attempt = 2 WHERE run_id = '{first}'",
        f"DELETE FROM run WHERE run_id = '{second}'",
        "VACUUM FULL run",
        f"INSERT INTO run (run_id, status, spec) VALUES ('{second}', 'cancelled', '{{}}')",
        "TRUNCATE run CASCADE",
    ]
    for change in changes:
        database.execute(change)
        evals.synced()
    assert evals.select("SELECT * FROM runs") == []


def test_a_short_look_finds_what_is_new_live_and_just_ended(world: World, database: Database) -> None:
    old, live, gone = database.run("succeeded", 1), database.run("running", 2), database.run("queued", 3)
    source = AgentevalsSource("evals", database.dsn)
    world.sources = [source]
    world.sync()
    work: Work = {"evals": []}

    def look() -> dict[str, str]:
        with file.connect(world.db, write=True) as index:
            report = passes.look(index, world.sources, world.options, work)
        index.close()
        assert not report.failed
        return {row["path"]: row["status"] for row in world.select("SELECT path, status FROM runs")}

    new = database.run("queued", 4, created_at="now")
    late = database.run("queued", 5, created_at="2020-01-01")  # by a clock that is wrong
    database.execute(f"DELETE FROM run WHERE run_id = '{gone}'")
    database.execute(f"UPDATE run SET status = 'succeeded', finished_at = '2020-01-01' WHERE run_id = '{live}'")
    database.result(live)
    database.result(old)  # what no short look can see
    assert look() == {old: "completed", live: "completed", new: "queued", late: "queued"}
    assert world.column("SELECT count(*) FROM trials") == [1]
    database.execute(f"UPDATE run SET status = 'failed', finished_at = now(), error = 'x' WHERE run_id = '{new}'")
    assert look()[new] == "failed"
    database.execute(f"UPDATE run SET status = 'cancelled' WHERE run_id = '{new}'")
    assert look()[new] == "cancelled"
    world.synced()
    assert world.column("SELECT count(*) FROM trials") == [2]


def test_the_dumps_of_a_real_database(world: World, postgres: Server, shared: Path) -> None:
    fixtures = shared / "fixtures/agentevals"
    database = postgres.load(fixtures / "dump_midflight.sql")
    world.sources = [AgentevalsSource("evals", database.dsn)]
    statuses = (
        "SELECT status, count(*) AS runs, sum(passed) AS passed, sum(failed) AS failed FROM runs GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in world.synced(statuses)] == [
        ("cancelled", 1, 0, 0), ("completed", 3, 1, 1), ("failed", 1, 0, 0), ("queued", 1, 0, 0), ("running", 2, 0, 0),
    ]  # fmt: skip
    postgres.reload(database, fixtures / "dump.sql")
    assert [tuple(row.values()) for row in world.synced(statuses)] == [
        ("cancelled", 1, 0, 0), ("completed", 5, 3, 1), ("failed", 4, 0, 0),
    ]  # fmt: skip
    (row,) = world.select("SELECT * FROM runs WHERE run_id LIKE '579b94c0%'")
    assert (row["attempt"], row["experiment"], row["model"]) == (2, "evalset_k8s_2026-02-20", "gpt-4.1-mini")
    assert (row["input_tokens"], row["output_tokens"], row["pass_rate"]) == (2203, 139, 1.0)
    assert world.select("SELECT * FROM problems") == []
    assert "FAKE-" not in world.content()


def test_no_secret_of_a_spec_or_an_error_is_kept(evals: World, database: Database) -> None:
    error = f"401 for https://u:pw-CANARY@h/x with {CANARY}\nTraceback"
    run = database.run("failed", error=error, summary=json.dumps(SUMMARY))
    database.result(run, status="errored", score=None, error_text=error, details=json.dumps({"a": CANARY}))
    evals.synced()
    assert evals.column("SELECT error FROM trials") == ["401 for https://***@h/x with ***"]
    assert evals.column("SELECT error FROM runs") == ["401 for https://***@h/x with ***"]
    assert "CANARY" not in evals.content()
    assert evals.sources[-1].folder_at(None, run) is None  # rows lie in no folder


# what may go wrong there


def failed(world: World) -> str:
    """The error of the database in a pass; the other sources go on, and what was read of it before stays."""
    before = world.column("SELECT path FROM places WHERE source = 'evals' ORDER BY path")
    number = world.column("SELECT count(*) FROM places WHERE source = 'team'")[0]
    world.repo.commit(at(f"runs/e/2026-01-{number + 1:02}T09-00-00-123Z", bundle(experiment=None)))
    report = world.sync()
    (error,) = [source.error for source in report.sources if source.error]
    assert world.column("SELECT count(*) FROM places WHERE source = 'team'") == [number + 1]
    assert world.column("SELECT path FROM places WHERE source = 'evals' ORDER BY path") == before
    assert world.column("SELECT error FROM sources WHERE name = 'evals'") == [error]
    with pytest.raises(SourceError, match="the index is as it was"):
        world.rebuild()
    assert "\n" not in error
    return error


WRONG = {
    "dirty": ("UPDATE schema_migrations SET dirty = true", "is dirty: its migration 2 failed"),
    "newer": ("UPDATE schema_migrations SET version = 3", "tables of version 3; this program knows 1 to 2"),
    "no version": ("DELETE FROM schema_migrations", "run agentevals migrate up"),
    "no tables": ("DROP SCHEMA agentevals CASCADE", "there is no schema agentevals"),
    "no table": ("DROP TABLE schema_migrations", "there are no tables of agentevals"),
    "another table": ("ALTER TABLE run RENAME COLUMN spec TO other; UPDATE run SET attempt = 7", "spec"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_there_is_one_line(evals: World, database: Database, what: str) -> None:
    database.run()
    evals.sync()
    change, error = WRONG[what]
    database.execute(change)
    assert error in failed(evals)


def test_a_database_that_is_not_there(evals: World, database: Database) -> None:
    evals.sync()
    place = evals.sources[-1].place
    evals.sources[-1] = AgentevalsSource("evals", database.dsn.replace("dbname=", "dbname=not-"))
    evals.sources[-1].place = place
    assert "does not exist" in failed(evals)


def test_a_role_without_rights(evals: World, database: Database) -> None:
    database.run()
    evals.sync()
    place = evals.sources[-1].place
    database.execute("CREATE ROLE reader LOGIN")
    try:
        evals.sources[-1] = AgentevalsSource("evals", database.dsn.replace("user=postgres", "user=reader"))
        assert evals.sources[-1].place == place
        assert "the role may not use the schema agentevals" in failed(evals)
        database.execute("GRANT USAGE ON SCHEMA agentevals TO reader")
        assert "permission denied for table schema_migrations" in failed(evals)
        database.execute("GRANT SELECT ON run, result, schema_migrations TO reader")
        evals.synced()
    finally:
        database.execute("DROP OWNED BY reader")
        database.execute("DROP ROLE reader")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of cursors that it takes with it
def test_a_connection_that_is_lost(evals: World, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        database.run(number=number)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'indexer'"
    evals.sync()
    database.execute(end)
    evals.synced()  # between two looks it is not even noticed
    database.execute("UPDATE run SET attempt = 2")
    source = evals.sources[-1]
    found = AgentevalsSource._found
    monkeypatch.setattr("indexer.sources.agentevals.source._BATCH", 3)

    def cut(self: AgentevalsSource, *arguments: object) -> Iterator[object]:
        for number, each in enumerate(found(self, *arguments)):  # type: ignore[arg-type]
            yield each
            if number == 1:
                database.execute(end)

    with monkeypatch.context() as patch:
        patch.setattr(AgentevalsSource, "_found", cut)
        assert "terminating connection" in failed(evals)
    assert source is evals.sources[-1]
    evals.synced()
    assert evals.column("SELECT DISTINCT attempt FROM runs WHERE source = 'evals'") == [2]


def test_a_server_that_is_restarted(evals: World, postgres: Server, database: Database) -> None:
    run = database.run("running")
    evals.sync()
    postgres.stop()
    try:
        assert "No such file or directory" in failed(evals)
    finally:
        postgres.start()
    database.execute("UPDATE run SET status = 'succeeded'")
    evals.synced()
    assert evals.column("SELECT status FROM runs WHERE path = ?", run) == ["completed"]
    assert evals.column("SELECT error FROM sources WHERE name = 'evals'") == [None]


SETTINGS = """
[[source]]
name = "evals"
kind = "agentevals"
"""


def test_settings(world: World, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    config = world.root / "indexer.toml"

    def source(text: str) -> AgentevalsSource:
        config.write_text(SETTINGS + text)
        _, (source,) = load(find_project(config))
        assert isinstance(source, AgentevalsSource)
        assert CANARY not in source.place
        return source

    source(f"dsn = '{database.dsn}'").open()
    monkeypatch.setenv("EVALS", f"postgresql://u:{CANARY}@127.0.0.1:1/evals")
    away = source("dsn_env = 'EVALS'\nschema = 'other'")
    assert away.place == "postgresql://127.0.0.1:1/evals, schema other"
    with pytest.raises(SourceError, match="Connection refused"):
        away.open()
    monkeypatch.delenv("EVALS")
    with pytest.raises(SourceError, match="the environment variable EVALS is not set"):
        source("dsn_env = 'EVALS'").open()
    for wrong in (f"{CANARY}", f"postgresql://u:p {CANARY}@h"):
        with pytest.raises(SourceError, match="not a PostgreSQL connection string") as error:
            source(f"dsn = '{wrong}'").open()
        assert CANARY not in str(error.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SourceError, match=r"pip install 'eval-indexer\[postgres\]'"):
        source("dsn = 'host=/x'").open()


def test_it_is_watched(world: World, postgres: Server, database: Database) -> None:
    first = database.run("queued", created_at="now")
    settings = FOLDER + SETTINGS + "dsn_env = 'EVALS'\n"
    watching = Watching(world, settings, poll=0.1, EVALS=f"{database.dsn} password={CANARY}")
    try:
        watching.sees("SELECT status FROM runs", "queued")
        for status in ("running", "succeeded"):
            database.execute(f"UPDATE run SET status = '{status}', finished_at = now()")
            watching.sees("SELECT status FROM runs", {"succeeded": "completed"}.get(status, status))
        postgres.stop()
        try:
            watching.sees("SELECT error LIKE '%No such file%' FROM sources WHERE name = 'evals'", 1)
            world.write(at("jobs/a", job()))
            watching.sees("SELECT path FROM runs ORDER BY path = 'jobs/a'", first, "jobs/a")
        finally:
            postgres.start()
        watching.sees("SELECT error FROM sources WHERE name = 'evals'", None)
        second = database.run("running", created_at="now")
        watching.sees(f"SELECT status FROM runs WHERE path = '{second}'", "running")
    finally:
        assert watching.stop() == 0
    assert CANARY not in world.content() + (world.root / "log").read_text()


def test_a_schema_of_another_name(world: World, postgres: Server) -> None:
    database = postgres.new('odd "name')
    database.run()
    world.sources = [AgentevalsSource("evals", database.dsn, 'odd "name')]
    assert len(world.synced()) == 1


# what nobody expects


def test_a_server_that_counts_anew(world: World, postgres: Server) -> None:
    with server() as other:
        databases = [each.new() for each in (postgres, other)]
        for database, status in zip(databases, ("passed", "failed"), strict=True):
            database.result(database.run(number=1), status=status)
        for database in databases:
            world.sources = [AgentevalsSource("evals", database.dsn)]
            world.sources[0].place = "the same"
            world.synced()
        assert world.column("SELECT status FROM trials") == ["failed"]


def test_transactions_that_end_in_another_order(evals: World, database: Database) -> None:
    run = database.run()
    for item in "abc":
        database.result(run, item)
    update = "UPDATE result SET status = 'failed' WHERE eval_set_item_id = %s"
    with psycopg.connect(database.dsn, options="-c search_path=agentevals") as late:
        late.execute("SELECT txid_current()")
        database.execute(update, "a")
        evals.synced()
        late.execute(update, ["a"])
        late.execute(update, ["b"])
        late.execute(update, ["c"])
        late.commit()
        evals.synced()
    assert evals.column("SELECT count(*) FROM trials WHERE status = 'failed'") == [3]


ODD: dict[str, dict[str, Any]] = {
    "spec text": {"spec": '"x"'},
    "spec null": {"spec": "null"},
    "spec list": {"spec": "[1]"},
    "target list": {"spec": '{"target": [1], "eval_set": [1]}'},
    "target text": {"spec": '{"target": "x", "context": "x"}'},
    "digits": {"summary": '{"trace_count": %s}' % ("9" * 5000)},
    "fraction": {"summary": '{"trace_count": %s.5, "performance_metrics": 1}' % ("9" * 400)},
    "deep": {"summary": '{"agents": %s}' % ("[" * 3000 + "]" * 3000)},
    "deep context": {"spec": '{"context": %s}' % ("[" * 3000 + "]" * 3000), "error": "x"},
    "names": {"summary": '{"agents": [1, null, "", "\\u001b[31m"], "performance_metrics": {"models": "m"}}'},
    "long": {"summary": json.dumps({"agents": ["x" * 20_000]})},
    "infinity": {"started_at": "infinity", "finished_at": "-infinity"},
    "before Christ": {"started_at": "0044-03-15 BC"},
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_costs_its_own_run(evals: World, database: Database, what: str) -> None:
    good = database.run()
    database.result(good)
    odd = database.run(**ODD[what])
    database.result(odd, "x" * 12_000)
    database.result(odd, "", score=float("nan"), evaluator_name="")
    runs = {row["run_id"]: row for row in evals.synced()}
    assert (runs[good]["passed"], runs[good]["status"]) == (1, "completed")
    if odd in runs:
        assert runs[odd]["duration_s"] in (None, 8.0)
        assert evals.column("SELECT score FROM trials t JOIN runs ON runs.id = run_pk WHERE run_id = ?", odd) == [None]
    else:
        assert evals.column("SELECT kind FROM problems") == ["malformed"]


def test_items_that_are_masked_alike_stay_apart(evals: World, database: Database) -> None:
    run = database.run()
    for letter, status in (("A", "failed"), ("B", "passed")):
        database.result(run, f"ghp_{letter * 30}", status)
    evals.synced()
    assert evals.select("SELECT trial, status FROM trials ORDER BY trial") == [
        {"trial": "***", "status": "failed"},
        {"trial": "***#2", "status": "passed"},
    ]


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:a/{CANARY}@127.0.0.1:5/db",
        f"postgresql://user:a@{CANARY}@127.0.0.1:5/db",
        f"dbname=postgresql://u:{CANARY}@h/db host=x",
        f"postgresql://127.0.0.1:{CANARY}/db",
        f"{CANARY}",
        f"postgresql+asyncpg://u:{CANARY}@h/db",
        "host=" + "x" * 70 + f" password={CANARY}",
        f"host=x\udcff password={CANARY}",
    ],
)
def test_a_connection_string_that_is_wrong_is_not_shown(dsn: str) -> None:
    source = AgentevalsSource("evals", dsn)
    with pytest.raises(SourceError) as error:
        source.open()
    assert CANARY not in source.place + str(error.value)


def test_a_server_that_stops_answering_holds_nobody_up(world: World, postgres: Server, database: Database) -> None:
    database.run("running")
    watching = Watching(world, FOLDER + SETTINGS + f"dsn = '{database.dsn}'\n", poll=0.2)
    stopped: list[int] = []
    try:
        watching.sees("SELECT status FROM runs", "running")
        with psycopg.connect(database.dsn) as connection:
            name = "SELECT pid FROM pg_stat_activity WHERE application_name = 'indexer'"
            stopped += [pid for (pid,) in connection.execute(name)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)  # so that the thread that asks it hangs
        world.write(at("jobs/a", job()))
        watching.sees("SELECT path FROM runs WHERE source = 'local'", "jobs/a")
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        database.execute("UPDATE run SET status = 'succeeded', finished_at = now()")
        watching.sees("SELECT status FROM runs WHERE source = 'evals'", "completed")
        assert watching.stop() == 0
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        watching.process.kill()
