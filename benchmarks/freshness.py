"""How long after a file was written a reader of the index sees it, beside the barest loop that could do the same."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from benchmarks import trees
from indexer.formats.pier_documents import TrialResult
from indexer.index import file

LIVE = "job-live"
IDENTITY = "ffffffff-0000-4000-8000-000000000000"


def make_live_job(root: Path) -> Path:
    """A job that goes on, with ten trials."""
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
                    result = TrialResult.model_validate_json(Path(path).read_bytes())
                    rewards = result.verifier_result.rewards if result.verifier_result else None
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
    code = "import sys; from benchmarks.freshness import bare_loop; bare_loop(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, root, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return latencies(root / "jobs" / LIVE, db, "SELECT 1 FROM trials WHERE score = ?", writes)
    finally:
        process.communicate("")


def of_watcher(root: Path, db: Path, writes: int) -> list[float]:
    with watching(root, db):
        run = f"(SELECT id FROM runs WHERE key = 'pier:{IDENTITY}')"
        query = f"SELECT 1 FROM trials WHERE run_pk = {run} AND score = ?"  # by index: a scan would be most of it
        return latencies(root / "jobs" / LIVE, db, query, writes)


class watching:
    """A running `indexer watch` on a folder, as a context."""

    def __init__(self, root: Path, db: Path):
        config = db.with_suffix(".toml")
        config.write_text(f'db = "{db}"\n[[source]]\nname = "local"\nkind = "folder"\npath = "{root}"\n')
        command = [
            str(Path(sys.executable).parent / "indexer"),
            "watch",
            "--config",
            str(config),
            "--log-format",
            "json",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._until(lambda: bool((file.writer(db) or {}).get("swept")))

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
