"""`indexer watch` as a process: readers see what happened almost at once, and nothing is missed for good."""

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.inotify_c import InotifyFD
from watchdog.observers.polling import PollingObserver

from indexer.errors import LockedError
from indexer.passes.check import check
from indexer.passes.sync import look
from indexer.store import file, lock
from indexer.watch.events import Watches
from indexer.watch.kernel import Observed
from tests.bundles import at, bundle, row
from tests.faults import shim
from tests.jobs import job, result, trial
from tests.repos import Repo
from tests.worlds import SETTINGS, World, lacking

LIMIT = 20.0  # seconds: far beyond what anything here takes
A = "runs/with_skills/2026-01-05T09-00-00-123Z"


def until(what: Callable[[], Any]) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class Watching:
    """A running watcher."""

    def __init__(
        self,
        world: World,
        settings: str = SETTINGS,
        sweep: float = 60.0,
        poll: float = 5.0,
        **environment: str,
    ):
        self.world = world
        config = world.root / "indexer.toml"
        config.write_text(settings.format(db=world.db, repo=world.repo.path, local=world.local))
        code = "from indexer.cli.main import main; from indexer.sources.agentevals import AgentevalsSource; "
        code += "from indexer.watch import followers, service; "
        code += f"service.SWEEP, followers.POLL, AgentevalsSource.pause = {sweep}, {poll}, {poll}; main()"
        command = [sys.executable, "-c", code, "watch", "--config", str(config)]
        command += ["--log-format", "json"]
        with (world.root / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        until(lambda: (lock.writer(world.db) or {}).get("swept"))

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

    def sees_when_there(self, query: str, *expected: Any) -> None:
        """As `sees`, of an index that is being made."""

        def answer() -> bool:
            try:
                return self.world.column(query) == list(expected)
            except sqlite3.OperationalError:
                return False

        until(answer)


@pytest.fixture
def watching(world: World) -> Iterator[Watching]:
    world.write({"jobs/README": "-"} | at("jobs/old", job(id="23b29240-0000-4000-8000-000000000009")))
    running = Watching(world)
    try:
        yield running
        assert running.stop() == 0
        own = ("is gone; building a new one", "was replaced; bringing it up to date")  # where a test deletes the index
        assert [told for told in running.told("error") if not told["error"].endswith(own)] == []
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


def test_refs_are_followed_from_a_linked_work_tree(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    tree = world.root / "tree"
    world.repo.git("worktree", "add", "--quiet", "--detach", str(tree), "agentv/results/v1")
    watching = Watching(world, SETTINGS.replace("{repo}", str(tree)))
    try:
        world.repo.commit(at(A.replace("2026", "2027"), bundle()))
        watching.sees("SELECT count(*) FROM runs", 2)
        assert watching.stop() == 0
    finally:
        watching.process.kill()


def test_commits_that_name_runs_are_followed(world: World) -> None:
    code = Repo(world.root / "code.git")
    code.commit({}, ref="refs/heads/main")
    watching = Watching(world, SETTINGS + '[[repo]]\npath = "{repo}/../code.git"\n')
    try:
        code.commit({}, ref="refs/heads/main", message="Fix\n\nAgentV-Run: run-1\n")
        watching.sees("SELECT run_key FROM run_commits", "agentv:run-1")
        assert watching.stop() == 0
    finally:
        watching.process.kill()


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


FOLDER = 'db = "{db}"\n[[source]]\nname = "local"\nkind = "folder"\npath = "{local}"\n'


def test_the_first_run_of_an_empty_project(world: World) -> None:
    (world.local / "jobs").mkdir()
    (world.local / "indexer.toml").touch()
    watching = Watching(world, FOLDER)
    try:
        (world.local / "jobs/a").mkdir()
        time.sleep(0.3)  # until it was seen empty
        world.write(at("jobs/a", job()))
        watching.sees("SELECT path FROM runs", "jobs/a")
        world.write(at(f".agentv/results/{A}", bundle()))
        watching.sees("SELECT path FROM runs ORDER BY path", f".agentv/results/{A}", "jobs/a")
        (world.local / "build/lib").mkdir(parents=True)
        world.write(at("build/jobs/b", job(id="23b29240-0000-4000-8000-000000000003")))
        world.write(at("jobs/c", job(id="23b29240-0000-4000-8000-000000000004")))
        watching.sees("SELECT path FROM runs ORDER BY path", f".agentv/results/{A}", "jobs/a", "jobs/c")
    finally:
        assert watching.stop() == 0


def test_a_place_that_goes_keeps_its_rows_and_comes_back(world: World) -> None:
    world.write(at("jobs/a", job()))
    watching = Watching(world, FOLDER, sweep=0.3)
    try:
        watching.sees("SELECT path FROM runs", "jobs/a")
        away = world.local.with_name("away")
        world.local.rename(away)
        watching.sees("SELECT error LIKE '%does not exist' FROM sources", 1)
        assert world.column("SELECT path FROM runs") == ["jobs/a"]
        away.rename(world.local)
        watching.sees("SELECT error FROM sources", None)
        world.write(at("jobs/b", job(id="23b29240-0000-4000-8000-000000000003")))
        watching.sees("SELECT path FROM runs ORDER BY path", "jobs/a", "jobs/b")
    finally:
        assert watching.stop() == 0


def test_an_index_that_cannot_be_written_ends_nothing(world: World) -> None:
    world.write(at("jobs/a", job(finished=False, stats={"n_running_trials": 1})))
    watching = Watching(world, FOLDER, sweep=0.3)
    try:
        for suffix in ("-wal", "-shm", ""):
            world.db.with_name(f"index.db{suffix}").unlink()
        world.db.mkdir()
        until(lambda: watching.told("error"))
        world.db.rmdir()
        until(lambda: world.db.exists())
        until(lambda: world.select("SELECT 1 FROM sqlite_master WHERE name = 'runs_rev'") != [])
        watching.sees("SELECT path FROM runs", "jobs/a")
        world.write({"jobs/a/result.json": result()})
        watching.sees("SELECT status FROM runs", "completed")
    finally:
        assert watching.stop() == 0


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
    holder = lock.writer(world.db)
    assert holder is not None
    assert (holder["command"], holder["pid"]) == ("watch", watching.process.pid)
    assert watching.stop(number) == 0
    assert lock.writer(world.db) is None
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


def test_a_remote_is_fetched_now_and_then(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.root / "cache"))
    world.repo.git("config", "uploadpack.allowFilter", "true")
    world.repo.commit(at(A, bundle()))
    settings = SETTINGS.replace('path = "{repo}"', 'url = "file://{repo}"\nfetch_every = "1s"')
    watching = Watching(world, settings)
    try:
        watching.sees("SELECT status FROM runs", "completed")
        world.repo.commit({f"metadata/{A}/tags.json": '{"tags": ["x"], "updated_at": "2026-01-06T09:00:00Z"}'})
        watching.sees("SELECT tags FROM runs", '["x"]')
        away = world.repo.path.with_name("away")
        world.repo.path.rename(away)
        watching.sees("SELECT count(*) FROM sources WHERE error LIKE '%cannot be fetched%'", 1)
        world.write(at("jobs/a", job()))
        watching.sees("SELECT source FROM runs ORDER BY source", "local", "team")
        away.rename(world.repo.path)
        watching.sees("SELECT count(*) FROM sources WHERE error IS NULL", 2)
    finally:
        assert watching.stop() == 0


def test_what_no_event_tells_is_found_by_sweeps(world: World) -> None:
    world.write(at("jobs/old", job()))
    watching = Watching(world, sweep=0.3)
    try:
        world.write({"jobs/old/fizz__aaaaaaa/result.json": trial(reward=0.0)})  # an ended job is not watched
        watching.sees("SELECT passed FROM runs", 0)
        world.write({"jobs/old/result.json": result(finished=False, stats={"n_running_trials": 1})})
        watching.sees("SELECT status FROM runs", "running")
    finally:
        assert watching.stop() == 0


BURST = """
import sys, os
root, writer, jobs, writes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
for number in range(writes):
    folder = f"{root}/jobs/live/trial__{number % 50:07}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/noise-{writer}.log", "w") as file:
        file.write("x")
for number in range(jobs):
    os.makedirs(f"{root}/jobs/{writer}-{number}")
    with open(f"{root}/jobs/{writer}-{number}/noise", "w") as file:
        file.write("x")
"""


@pytest.mark.slow
def test_a_storm_of_events_makes_it_neither_deaf_nor_wrong(world: World) -> None:
    world.write(at("jobs/live", job(finished=False, stats={"n_running_trials": 1})))
    watching = Watching(world, sweep=1.0)
    try:
        command = [sys.executable, "-c", BURST, str(world.local)]
        writers = [subprocess.Popen([*command, str(number), "700", "12000"]) for number in range(3)]
        world.write(at("jobs/during", job(id="23b29240-0000-4000-8000-000000000003")))
        assert [writer.wait() for writer in writers] == [0, 0, 0]
        world.write(at("jobs/after", job(id="23b29240-0000-4000-8000-000000000004")))
        watching.sees("SELECT path FROM runs ORDER BY path", "jobs/after", "jobs/during", "jobs/live")
        until(lambda: check(world.db, world.sources, world.options) == [])
        memory = Path(f"/proc/{watching.process.pid}/status").read_text()
        anonymous = next(int(line.split()[1]) for line in memory.splitlines() if line.startswith("RssAnon"))
        assert anonymous < 200_000  # kB
    finally:
        assert watching.stop() == 0


def test_who_deletes_everything_lets_no_second_writer_in(watching: Watching) -> None:
    world = watching.world
    for path in world.db.parent.glob("index.db*"):
        path.unlink()
    with pytest.raises(LockedError):
        world.sync()
    world.write(at("jobs/a", job()))
    watching.sees_when_there("SELECT count(*) FROM runs", 2)
    assert (lock.writer(world.db) or {}).get("pid") == watching.process.pid


@pytest.mark.parametrize(("call", "error"), [("inotify", errno.EMFILE), ("watch", errno.ENOSPC)])
def test_a_watcher_that_may_watch_nothing_rests_and_sweeps(world: World, call: str, error: int) -> None:
    """It would look at what it cannot watch, find it unwatched, and look again, for ever."""
    for number in range(30):
        world.write(at(f"jobs/{number}", job({"fizz__aaaaaaa": ""}, finished=False, id=f"{number}")))
    library, fault = str(shim(world.root)), f"{call} {error} / 1 1000000"
    watching = Watching(world, LD_PRELOAD=library, FAULT=fault)
    try:
        used, began = cpu_seconds(watching.process.pid), time.monotonic()
        time.sleep(5)
        assert cpu_seconds(watching.process.pid) - used <= 0.01 * (time.monotonic() - began) + 0.02  # two ticks
        assert len(watching.told("refused")) == 1
        assert "limit reached" in (lock.writer(world.db) or {})["refused"]
    finally:
        assert watching.stop() == 0
    watching = Watching(world, sweep=1.0, LD_PRELOAD=library, FAULT=fault)
    try:
        world.write(at("jobs/late", job(id="late")))
        watching.sees("SELECT count(*) FROM runs WHERE path = 'jobs/late'", 1)
        assert watching.told("error") == []
    finally:
        assert watching.stop() == 0


def test_a_job_that_is_resumed_is_followed_at_once(world: World) -> None:
    now = datetime.now(UTC)
    times = {name: f"{now - timedelta(hours=back):%Y-%m-%dT%H:%M:%S}" for name, back in (("began", 3), ("ended", 2))}
    for name, state in (("done", {}), ("stopped", {"n_cancelled_trials": 1})):
        files = job(id=name, started_at=times["began"], finished_at=times["ended"], stats=state)
        files["lock.json"] = json.dumps({"created_at": f"{times['began']}Z", "pier": {"version": "1"}})
        world.write(at(f"jobs/{name}", files))
    for number in range(22):  # abandoned ones, which say that they run
        world.write(at(f"jobs/old-{number}", job({"fizz__aaaaaaa": ""}, finished=False, id=f"{number}")))
        for path in sorted((world.local / f"jobs/old-{number}").rglob("*")):
            os.utime(path, (1_767_600_000, 1_767_600_000))
    watching = Watching(world)
    try:
        for name in ("done", "stopped"):
            resumed = result(id=name, started_at=times["began"], finished=False, stats={"n_running_trials": 1})
            began = time.monotonic()
            world.write({f"jobs/{name}/result.json": resumed})
            watching.sees(f"SELECT status FROM runs WHERE path = 'jobs/{name}'", "running")
            assert time.monotonic() - began < 2
            world.write({f"jobs/{name}/fizz__ccccccc/result.json": trial(reward=0.0)})
            watching.sees(f"SELECT failed FROM runs WHERE path = 'jobs/{name}'", 1)
            assert time.monotonic() - began < 4
        assert watching.told("error") == []
    finally:
        assert watching.stop() == 0


def cpu_seconds(pid: int) -> float:
    """Processor time that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_fall_is_told_once(world: World) -> None:
    for day in range(20):
        name = f"2026-01-{day + 1:02}T09-00-00-000Z"
        world.write(at(f".agentv/results/runs/e/{name}", bundle(rows=[row("t1", float(day < 12))], experiment="e")))
    for number in range(2):
        watching = Watching(world, FOLDER, sweep=0.3)
        try:
            until(lambda: (lock.writer(world.db) or {}).get("told"))
        finally:
            assert watching.stop() == 0
        if number == 0:
            falls = watching.told("drift")
            assert {fall["target"] for fall in falls} == {"mock-alpha"}
            assert {fall["since"][-24:] for fall in falls} == {"2026-01-13T09-00-00-000Z"}
            assert {fall["measure"] for fall in falls} == {"quality_rate"}
        else:
            assert watching.told("drift") == []


def test_a_run_and_the_folder_above_it_are_looked_at_once(world: World) -> None:
    world.sync()
    world.write({".git/HEAD": ""} | at("jobs/a", job()))
    with closing(file.connect(world.db, write=True)) as database:
        look(database, world.sources, world.options, {"local": ["jobs", "jobs/a", "jobs/a/fizz__aaaaaaa"]})
    assert world.column("SELECT path FROM places") == ["jobs/a"]


def test_the_kernels_limits_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, Watches(lambda path, done: None, lambda: None) as watches:
        patched.setattr(InotifyFD, "add_callback", refuse)
        assert watches.follow([str(world.local)]) == []  # nothing happened there
        assert watches.refused == "No space left on device"
        patched.undo()
        assert watches.follow([str(world.local)]) == []
        later = time.monotonic() + 61
        patched.setattr(time, "monotonic", lambda: later)
        assert watches.follow([str(world.local)]) == [str(world.local)]
        assert watches.refused == ""


def test_a_folder_that_goes_or_is_closed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = InotifyFD.add_callback

    def watch(self: InotifyFD, path: bytes, *rest: Any) -> int:
        if path.endswith(b"went"):
            raise OSError(errno.ENOENT, "No such file or directory")
        return -1 if path.endswith(b"closed") else original(self, path, *rest)  # as watchdog says of EACCES

    monkeypatch.setattr(InotifyFD, "add_callback", watch)
    folders = [str(tmp_path / name) for name in ("went", "closed", "there")]
    for folder in folders:
        Path(folder).mkdir()
    with Watches(lambda path, done: None, lambda: None) as watches:
        assert watches.follow(folders) == folders[2:]
        assert watches.refused == ""
        monkeypatch.undo()
        assert watches.follow(folders) == folders[:2]


def test_where_the_kernel_tells_nothing_folders_are_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.watch.events.kernel", lambda happened, lost: Observed(happened, PollingObserver))
    heard: list[str] = []
    with Watches(lambda path, done: heard.append(path), lambda: None) as watches:
        assert watches.follow([str(tmp_path)]) == [str(tmp_path)]
        (tmp_path / "file").touch()
        until(lambda: str(tmp_path / "file") in heard)


def test_dropped_events_are_heard_of(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        lacking("a kernel that queues at most 100,000 events")
    first, going_on, lost = threading.Event(), threading.Event(), threading.Event()

    def hear(path: str, done: bool) -> None:
        first.set()
        going_on.wait(60)  # meanwhile nobody reads events

    with Watches(hear, lost.set) as watches:
        watches.follow([str(tmp_path)])
        (tmp_path / "first").touch()
        first.wait(5)
        for number in range(most):
            (tmp_path / f"{number % 2}").touch()
        assert not lost.is_set()
        going_on.set()
        assert lost.wait(60)


def test_a_folder_made_again_with_the_same_number_is_watched_again(tmp_path: Path) -> None:
    folder, heard = tmp_path / "folder", list[str]()
    folder.mkdir()
    with Watches(lambda path, done: heard.append(path), lambda: None) as watches:
        watches.follow([str(folder)])
        for _ in range(100):
            number = folder.stat().st_ino
            folder.rmdir()
            until(lambda: str(folder) in heard)
            folder.mkdir()
            heard.clear()
            watches.follow([str(folder)])
            (folder / "file").touch()
            until(lambda: str(folder / "file") in heard)
            (folder / "file").unlink()
            if folder.stat().st_ino == number:
                return
    pytest.skip("this file system gives no number twice")
