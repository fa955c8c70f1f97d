"""`publish`, `watch` and `serve` around a shared index, as processes."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest

from indexer import open_index
from tests.agentevals import Server as Postgres
from tests.agentevals import server as private
from tests.bundles import at
from tests.commands import COMMAND, indexer
from tests.jobs import job, trial
from tests.shared.machines import Machine, asked, url_of
from tests.test_daemon import until
from tests.web.serving import Server, configured

OTHER = "23b29240-0000-4000-8000-000000000002"


@pytest.fixture
def machine(tmp_path: Path, postgres: Postgres) -> Machine:
    machine = Machine(tmp_path / "anna", "anna", url_of(postgres))
    machine.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0), "half__bbbbbbb": trial("half", 0.0)})))
    machine.write({"jobs/one/half__bbbbbbb/trial.log": "what happened\n"})
    machine.sync()
    settings(machine)
    return machine


def settings(machine: Machine, url: str | None = None) -> Path:
    """Its settings, with what it publishes to."""
    config = configured(machine)
    config.write_text(f'{config.read_text()}\n[publish]\nurl = "{url or machine.url}"\nmachine = "{machine.name}"\n')
    return config


def published(machine: Machine) -> int:
    """How many runs are there; 0 while the server recovers."""
    try:
        return int(asked(machine.url, "SELECT count(*) FROM indexer.runs")[0][0])
    except psycopg.Error:
        return 0


def run(machine: Machine, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return indexer(machine.root, *words, "--config", machine.root / "indexer.toml", **environment)


def test_publish_check_and_forget(machine: Machine) -> None:
    assert run(machine, "publish", "--dry-run").stdout == "anna: 1 would be sent, 0 removed\n"
    assert run(machine, "check", "--db", machine.url).returncode == 1
    assert run(machine, "publish").stdout == "anna: 1 sent, 0 removed\n"
    assert json.loads(run(machine, "publish", "--json").stdout) == {"machine": "anna", "sent": 0, "removed": 0}
    done = run(machine, "check", "--db", machine.url)
    assert (done.returncode, done.stdout) == (0, "the part of anna equals its index\n")
    machine.execute("UPDATE runs SET error = 'differs'")
    done = run(machine, "check", "--db", machine.url, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["row"] == "pier:23b29240-0000-4000-8000-000000000001"
    assert run(machine, "publish", "--forget", "anna").stdout == "anna: 1 removed\n"
    done = run(machine, "publish", "--forget", "anna", "--dry-run")
    assert (done.returncode, done.stderr) == (2, "indexer: --forget and --dry-run: choose one\n")
    done = run(machine, "publish", "results/index.db")
    assert (done.returncode, done.stderr) == (
        2,
        "indexer: publish: the URL of a shared index begins with postgresql://\n",
    )
    done = run(machine, "publish", "postgresql://127.0.0.1:1/none")
    assert done.returncode == 1
    assert done.stderr.startswith("indexer: postgresql://127.0.0.1:1/none: ")
    assert done.stderr.count("\n") == 1


def test_files_are_shown_where_they_lie(machine: Machine) -> None:
    run(machine, "publish")
    words = ("show", "one", "half__bbbbbbb", "--db", machine.url)
    assert run(machine, *words, "--file", "trial.log").stdout == "what happened\n"
    assert run(machine, *words, "--path").stdout.strip() == str(machine.local / "jobs/one/half__bbbbbbb")
    config = machine.root / "indexer.toml"
    config.write_text(config.read_text().replace('machine = "anna"', 'machine = "bert"'))
    done = run(machine, *words, "--file", "trial.log")
    assert (done.returncode, done.stderr) == (1, "indexer: the files of one are on anna, at local:jobs/one\n")
    assert "half" in run(machine, *words).stdout


def test_a_watcher_sends_what_changes(machine: Machine) -> None:
    command = [str(COMMAND), "watch", "--config", str(machine.root / "indexer.toml")]
    watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: asked(machine.url, "SELECT to_regclass('indexer.runs') IS NOT NULL") == [(True,)])
        until(lambda: asked(machine.url, "SELECT count(*) FROM indexer.runs") == [(1,)])
        with open_index(machine.url) as index:
            token = index.token()
            began = time.monotonic()
            machine.write(at("jobs/two", job({"fizz__aaaaaaa": trial("fizz", 0.0)}, id=OTHER)))
            until(lambda: bool(index.changes(token).changes))
            assert index.run("two")["failed"] == 1
            print(f"seen by a reader after {time.monotonic() - began:.3f} s")
    finally:
        watcher.send_signal(signal.SIGTERM)
        _, said = watcher.communicate(timeout=20)
    assert watcher.returncode == 0
    assert "published sent=1" in said


def test_a_server_that_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    with private() as postgres:
        machine = Machine(tmp_path / "anna", "anna", url_of(postgres))
        machine.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
        machine.sync()
        config = settings(machine)
        postgres.crash()
        told = tmp_path / "log"
        with told.open("w") as log:
            watcher = subprocess.Popen([COMMAND, "watch", "--config", str(config)], stderr=log)
        try:
            until(lambda: "error publish=" in told.read_text())
            machine.write(at("jobs/two", job({"fizz__aaaaaaa": trial("fizz", 0.0)}, id=OTHER)))
            until(lambda: machine.column("SELECT count(*) FROM runs") == [2])
            assert published(machine) == 0
            postgres.start()
            until(lambda: published(machine) == 2)
        finally:
            watcher.send_signal(signal.SIGTERM)
            assert watcher.wait(20) == 0
    assert told.read_text().count("error publish=") < 5  # not once for each try


@pytest.fixture
def pages(machine: Machine) -> Iterator[Server]:
    run(machine, "publish")
    server = Server(COMMAND, "serve", "--db", machine.url, "--config", machine.root / "indexer.toml", cwd=machine.root)
    yield server
    assert server.stop()[0] == 0


def test_every_page_shows_a_shared_index(pages: Server) -> None:
    key = "pier:23b29240-0000-4000-8000-000000000001"
    of_trial = {"key": key, "trial": "half__bbbbbbb"}
    run_, trial_, file_ = (urlencode(each) for each in ({"key": key}, of_trial, of_trial | {"path": "trial.log"}))
    for path in (
        "/", "/runs", "/runs?search=ONE", "/runs.csv", "/trials", "/leaderboard", "/leaderboard?by=target", "/drift",
        "/failures", "/dashboards", "/history?test=half", f"/run?{run_}", f"/trial?{trial_}", f"/view?{file_}",
        "/api", "/api/runs", "/api/count", "/api/trials", "/api/values?of=target", "/api/changes", "/api/health",
        "/api/drift", "/api/leaderboard", "/api/flaky", "/api/failures", "/api/history?test=half", f"/api/run?{run_}",
    ):  # fmt: skip
        answer = pages.get(path)
        assert answer.status == 200, (path, answer.text[:300])
    assert "what happened" in pages.get(f"/view?{file_}").text
    assert "machines that publish" in pages.get("/runs").text
    assert "Tables and SQL" not in pages.get("/runs").text
