"""How soon a reader of the index sees a file that was written, compared with the barest loop that could do the same."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pygit2
from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from benchmarks import trees
from indexer.store import lock

LIVE = "job-live"
IDENTITY = "ffffffff-0000-4000-8000-000000000000"


def make_live_job(root: Path) -> Path:
    """A running job, with ten finished trials."""
    folder = root / "jobs" / LIVE
    trees.make_job(folder, 0xFFFFFFFF % 1_000_000, 10)
    result = json.loads((folder / "result.json").read_text())
    result |= {"id": IDENTITY, "finished_at": None, "n_total_trials": 20}
    result["stats"]["n_running_trials"] = 1
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def bare_loop(root: str, db: str) -> None:
    """A process: event, read, parse, upsert."""
    with closing(sqlite3.connect(db, isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE trials (path TEXT PRIMARY KEY, score REAL)")

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                path = os.fsdecode(event.dest_path or event.src_path)
                if path.endswith("/result.json"):
                    result = json.loads(Path(path).read_bytes())
                    rewards = (result.get("verifier_result") or {}).get("rewards")
                    row = (path, (rewards or {}).get("reward"))
                    database.execute(
                        "INSERT INTO trials VALUES (?, ?) ON CONFLICT DO UPDATE SET score = excluded.score", row
                    )

        observer = Observer()
        for trial in (Path(root) / "jobs" / LIVE).iterdir():
            if trial.is_dir():
                observer.schedule(Handler(), str(trial), event_filter=[FileClosedEvent, FileMovedEvent])
        observer.start()
        print("ready", flush=True)
        sys.stdin.read()


def bare_git_loop(repository: str, db: str) -> None:
    """A process: event on a ref, `git diff-tree`, read, parse, insert."""
    git = pygit2.Repository(repository)
    with closing(sqlite3.connect(db, isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE runs (run_id TEXT PRIMARY KEY, rows INTEGER)")
        tip = str(git.references[trees.BRANCH].target)

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                nonlocal tip
                new = Path(repository, trees.BRANCH).read_text().strip()
                if new == tip:
                    return
                diff = ["git", f"--git-dir={repository}", "diff-tree", "-r", "--raw", "--no-abbrev", tip, new]
                changed = subprocess.run(diff, check=True, stdout=subprocess.PIPE, text=True).stdout
                tip = new
                for line in changed.splitlines():
                    facts, _, path = line.partition("\t")
                    if path.endswith("/index.jsonl"):
                        lines = git.odb.read(facts.split()[3])[1].splitlines()
                        rows = [json.loads(line) for line in lines]
                        run = path.split("/")[-2]
                        database.execute("INSERT INTO runs VALUES (?, ?)", (run, len(rows)))

        observer = Observer()
        folder = Path(repository, trees.BRANCH).parent
        folder.mkdir(parents=True, exist_ok=True)
        observer.schedule(Handler(), str(folder), event_filter=[FileClosedEvent, FileMovedEvent])
        observer.start()
        print("ready", flush=True)
        sys.stdin.read()


def pushes(repository: Path, db: Path, query: str, first: int, count: int) -> list[float]:
    """Seconds from the end of each push of one run until a reader sees it, sorted."""
    found = []
    with closing(sqlite3.connect(db)) as database:
        for number in range(first, first + count):
            time.sleep(0.3)
            trees.append_run(repository, number)
            began = time.perf_counter()
            while database.execute(query, (trees.run_name(number),)).fetchone() is None:
                if time.perf_counter() - began > 30:
                    raise TimeoutError(f"push {number} was never seen")
                time.sleep(0.0002)
            found.append(time.perf_counter() - began)
    return sorted(found)


def latencies(job: Path, db: Path, query: str, writes: int) -> list[float]:
    """Seconds from the end of each write until a reader sees it, sorted. Every second write is by rename."""
    found = []
    with closing(sqlite3.connect(db)) as database:
        for number in range(writes):
            time.sleep(0.06 + 0.0007 * (number % 50))
            value = 2.0 + number + time.time() % 1
            if number % 2:
                trees.write_trial(job, IDENTITY, number % 10, reward=value)
            else:
                trees.replace_trial(job, IDENTITY, number % 10, reward=value)
            began = time.perf_counter()
            while database.execute(query, (value,)).fetchone() is None:
                if time.perf_counter() - began > 30:
                    raise TimeoutError(f"write {number} was never seen")
                time.sleep(0.0002)
            found.append(time.perf_counter() - began)
    return sorted(found)


def of_bare_loop(root: Path, db: Path, writes: int) -> list[float]:
    with _looping("bare_loop", root, db):
        return latencies(root / "jobs" / LIVE, db, "SELECT 1 FROM trials WHERE score = ?", writes)


def of_bare_git_loop(repository: Path, db: Path, first: int, count: int) -> list[float]:
    with _looping("bare_git_loop", repository, db):
        return pushes(repository, db, "SELECT 1 FROM runs WHERE run_id = ?", first, count)


@contextmanager
def _looping(loop: str, place: Path, db: Path) -> Iterator[None]:
    code = f"import sys; from benchmarks import freshness; freshness.{loop}(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(place), str(db)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.communicate("")


def of_git_watcher(repository: Path, db: Path, first: int, count: int) -> list[float]:
    with watching(repository, db, kind="git"):
        return pushes(repository, db, "SELECT 1 FROM places WHERE source = 'local' AND name = ?", first, count)


def of_watcher(root: Path, db: Path, writes: int) -> list[float]:
    with watching(root, db):
        run = f"(SELECT id FROM runs WHERE key = 'pier:{IDENTITY}')"
        query = f"SELECT 1 FROM trials WHERE run_pk = {run} AND score = ?"  # by index: a scan would be most of it
        return latencies(root / "jobs" / LIVE, db, query, writes)


class watching:
    """A running `indexer watch` on a folder or repository, as a context."""

    def __init__(self, root: Path, db: Path, kind: str = "folder"):
        config = db.with_suffix(".toml")
        config.write_text(f'db = "{db}"\n[[source]]\nname = "local"\nkind = "{kind}"\npath = "{root}"\n')
        command = [
            str(Path(sys.executable).parent / "indexer"),
            "watch",
            "--config",
            str(config),
            "--log-format",
            "json",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._until(lambda: bool((lock.writer(db) or {}).get("swept")))

    def _until(self, what: Callable[[], bool]) -> None:
        while not what():
            if self.process.poll() is not None:
                raise RuntimeError("the watcher ended")
            time.sleep(0.05)

    def __enter__(self) -> "watching":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
