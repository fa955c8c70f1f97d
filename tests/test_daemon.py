"""`indexer watch` as a process: readers see what happened almost at once, and nothing is missed for good."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from indexer.check import check
from indexer.index import file
from tests.bundles import at, bundle, row
from tests.jobs import job, result, trial
from tests.worlds import World

LIMIT = 20.0  # seconds: far beyond what anything here takes
A = "runs/with_skills/2026-01-05T09-00-00-123Z"
SETTINGS = """
db = "{db}"
[[source]]
name = "team"
kind = "git"
path = "{repo}"
[[source]]
name = "local"
kind = "folder"
path = "{local}"
"""


def until(what: Callable[[], Any]) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class Watching:
    """A running watcher."""

    def __init__(self, world: World, **environment: str):
        self.world = world
        config = world.root / "indexer.toml"
        config.write_text(SETTINGS.format(db=world.db, repo=world.repo.path, local=world.local))
        command = [sys.executable, "-c", "from indexer.cli import main; main()", "watch", "--config", str(config)]
        command += ["--log-format", "json"]
        with (world.root / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        until(lambda: (file.writer(world.db) or {}).get("swept"))

    def told(self, event: str) -> list[dict[str, Any]]:
        """What it told of one kind of event."""
        lines = map(json.loads, (self.world.root / "log").read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT)
        finally:
            self.process.kill()

    def sees(self, query: str, *expected: Any) -> None:
        """Wait until a query gives these values, a column of rows."""
        with closing(sqlite3.connect(self.world.db)) as database:

            def answer() -> bool:
                return [value for (value,) in database.execute(query)] == list(expected)

            until(answer)


@pytest.fixture
def watching(world: World) -> Iterator[Watching]:
    world.write({"jobs/README": "-"} | at("jobs/old", job(id="23b29240-0000-4000-8000-000000000009")))
    running = Watching(world)
    try:
        yield running
        assert running.stop() == 0
        world.sync()
        assert check(world.db, world.sources, world.options) == []
    finally:
        running.process.kill()


COUNTS = "SELECT status || ' ' || ended_count || '/' || planned_count FROM runs WHERE path = 'jobs/a'"


def test_a_job_is_followed_from_its_first_file_to_its_end(watching: Watching) -> None:
    world = watching.world
    stats = {"n_running_trials": 1, "n_pending_trials": 1}
    (world.local / "jobs/a").mkdir()
    world.write(at("jobs/a", job({}, finished=False, stats=stats)))
    watching.sees(COUNTS, "running 0/2")
    world.write(at("jobs/a", {k: v for k, v in job({"fizz__aaaaaaa": ""}).items() if k.startswith("fizz")}))
    watching.sees("SELECT running_count FROM runs WHERE path = 'jobs/a'", 1)
    world.write({"jobs/a/fizz__aaaaaaa/result.json": trial()})
    watching.sees(COUNTS, "running 1/2")
    new = world.local / "jobs/a/fizz__aaaaaaa/result.json.new"
    new.write_text(trial(reward=0.0))
    new.rename(new.with_suffix(""))
    watching.sees("SELECT failed FROM runs WHERE path = 'jobs/a'", 1)
    world.write({"jobs/a/result.json": result()})
    watching.sees(COUNTS, "completed 1/2")
    shutil.rmtree(world.local / "jobs/a")
    watching.sees(COUNTS)


def test_a_torn_file_is_looked_at_again(watching: Watching) -> None:
    world = watching.world
    world.write(at("jobs/a", job(finished=False, stats={"n_running_trials": 1})))
    watching.sees(COUNTS, "running 2/2")
    path = world.local / "jobs/a/fizz__aaaaaaa/result.json"
    path.write_text("{")
    watching.sees("SELECT path FROM problems", "jobs/a/fizz__aaaaaaa/result.json")
    watching.sees(COUNTS, "running 2/2")
    path.write_text(trial(reward=0.0))
    watching.sees("SELECT failed FROM runs WHERE path = 'jobs/a'", 2)
    watching.sees("SELECT path FROM problems")


def test_refs_of_a_repository_are_followed(watching: Watching) -> None:
    world = watching.world
    wip = "refs/heads/agentv/wip/laptop/" + A.rpartition("/")[2]
    world.repo.commit(at(A, bundle(rows=[row("t1")], summary={}, planned=2)), ref=wip)
    watching.sees("SELECT status FROM runs WHERE format = 'agentv'", "running")
    world.repo.commit(at(A, bundle()))
    world.repo.delete_ref(wip)
    watching.sees("SELECT status FROM runs WHERE format = 'agentv'", "completed")
    world.repo.commit({f"metadata/{A}/tags.json": '{"tags": ["baseline"], "updated_at": "2026-01-06T09:00:00Z"}'})
    watching.sees("SELECT tags FROM runs WHERE format = 'agentv'", '["baseline"]')
    world.repo.git("pack-refs", "--all")
    world.repo.commit({A: None})
    watching.sees("SELECT tags FROM runs WHERE format = 'agentv'")


def test_folders_that_come_later_and_roots_that_are_replaced(watching: Watching) -> None:
    world = watching.world
    world.write(at("jobs/n/20260105-090000", job()))
    watching.sees("SELECT path FROM runs WHERE path LIKE 'jobs/n%'", "jobs/n/20260105-090000")
    shutil.rmtree(world.local / "jobs")
    watching.sees("SELECT path FROM runs")
    world.write(at("jobs/again", job()))
    watching.sees("SELECT path FROM runs", "jobs/again")
    world.write(at("jobs/again2", job(id="23b29240-0000-4000-8000-000000000003")))
    watching.sees("SELECT path FROM runs ORDER BY path", "jobs/again", "jobs/again2")


def test_an_index_that_is_deleted_comes_back(watching: Watching) -> None:
    world = watching.world
    before = world.db.stat().st_ino
    keep = world.db.with_name("keep")
    world.db.rename(keep)  # so that its number is not given again
    for suffix in ("-wal", "-shm"):
        world.db.with_name(f"index.db{suffix}").unlink(missing_ok=True)
    world.write(at("jobs/a", job()))
    until(lambda: world.db.exists() and world.db.stat().st_ino != before)
    until(lambda: world.select("SELECT 1 FROM sqlite_master WHERE name = 'runs_rev'") != [])
    watching.sees("SELECT path FROM runs ORDER BY path", "jobs/a", "jobs/old")
    assert watching.told("built")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_and_status_knows(world: World, number: int) -> None:
    world.write(at("jobs/old", job()))
    watching = Watching(world)
    holder = file.writer(world.db)
    assert holder is not None
    assert (holder["command"], holder["pid"]) == ("watch", watching.process.pid)
    assert watching.stop(number) == 0
    assert file.writer(world.db) is None
    assert "Traceback" not in (world.root / "log").read_text()


def test_it_does_not_wake_itself(world: World) -> None:
    world.write(at("jobs/old", job()))
    world.db = world.local / "results" / "index.db"
    watching = Watching(world)
    try:
        (world.local / "jobs/a").mkdir()
        world.write(at("jobs/a", job(id="23b29240-0000-4000-8000-000000000003")))
        watching.sees("SELECT count(*) FROM runs", 2)
        time.sleep(1)  # until it is calm
        used = Path(f"/proc/{watching.process.pid}/stat").read_text().split()[13:15]
        content = world.db.read_bytes(), world.db.with_name("index.db-wal").read_bytes()
        time.sleep(3)
        later = Path(f"/proc/{watching.process.pid}/stat").read_text().split()[13:15]
        assert sum(map(int, later)) - sum(map(int, used)) <= 10  # hundredths of a second
        assert (world.db.read_bytes(), world.db.with_name("index.db-wal").read_bytes()) == content
    finally:
        assert watching.stop() == 0


def test_systemd_is_told(world: World) -> None:
    world.write(at("jobs/old", job()))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(world.root / "notify"))
        listening.settimeout(LIMIT)
        watching = Watching(world, NOTIFY_SOCKET=str(world.root / "notify"))
        assert listening.recv(100) == b"READY=1"
        assert watching.stop() == 0
        assert listening.recv(100) == b"STOPPING=1"
