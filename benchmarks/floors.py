"""The least that any program would have to do for the same rows, in one process and without checking anything."""

import json
import os
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pygit2
import zstandard

from benchmarks.trees import BRANCH
from indexer.store import file

AGGREGATE = "benchmark.json"
AGENTV_FILES = (AGGREGATE, "index.jsonl")


def read_logs(folder: Path) -> None:
    """The members of logs that have to be read, unpacked and parsed, by zipfile and zstandard."""
    for entry in os.scandir(folder / "logs"):
        with zipfile.ZipFile(entry.path) as archive, open(entry.path, "rb") as file:
            members = {member.filename: member for member in archive.infolist()}
            for name in ("header.json", "summaries.json"):
                file.seek(members[name].header_offset + 30 + len(name))
                packed = file.read(members[name].compress_size)
                with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
                    json.loads(reader.read())


def read_repository(repository: Path, db: Path) -> None:
    """Read the blobs, parse them, write as many rows of the same width with the same indexes, list the history."""
    git = pygit2.Repository(str(repository))
    odb = git.odb
    waiting = [("", git.references[BRANCH].peel(pygit2.Commit).tree_id)]
    database = _database(db)
    rows = _Rows(database)
    while waiting:
        path, oid = waiting.pop()
        tree = git[oid]
        assert isinstance(tree, pygit2.Tree)
        for entry in tree:
            if entry.type_str == "tree":
                if "/case-" not in path:
                    waiting.append((f"{path}/{entry.name}", entry.id))
            elif (name := entry.name) in AGENTV_FILES:
                data = odb.read(entry.id)[1]
                if name == AGGREGATE:
                    json.loads(data)
                    rows.add_run(path)
                    rows.flush_if_full()
                else:
                    for row in map(json.loads, data.splitlines()):
                        rows.add_trial(row["test_id"], row["target"], row["score"], len(row["scores"]))
    rows.finish()
    history(repository)


def history(repository: Path) -> None:
    """One `git log --raw --no-renames` of everything, read and thrown away."""
    log = ["git", f"--git-dir={repository}", "log", "--raw", "--no-renames", "--no-abbrev", "--format=%H", "-z", BRANCH]
    git = subprocess.Popen(log, stdout=subprocess.PIPE)
    assert git.stdout is not None
    while git.stdout.read(1 << 20):
        pass
    git.wait()


def read_jobs(root: Path, db: Path) -> None:
    """Scan the folders, read and parse what rows come from, write as many rows of the same width."""
    rows = _Rows(_database(db))
    for job in os.scandir(root / "jobs"):
        for name in ("result.json", "config.json", "lock.json"):
            json.loads(_content(f"{job.path}/{name}"))
        rows.add_run(job.name)
        for trial in os.scandir(job.path):
            if trial.is_dir():
                result = json.loads(_content(f"{trial.path}/result.json"))
                rows.add_trial(result["task_name"], "target", 1.0, 1)
        rows.flush_if_full()
    rows.finish()


def stat_jobs(root: Path) -> int:
    """A bare stat of every file that rows were read from."""
    return sum(1 for path in _job_files(root) if os.stat(path))


def _job_files(root: Path) -> Iterator[str]:
    for job in os.scandir(root / "jobs"):
        for entry in os.scandir(job.path):
            if entry.is_dir():
                yield f"{entry.path}/result.json"
            elif entry.name.endswith(".json"):
                yield entry.path


def _content(path: str) -> bytes:
    with open(path, "rb") as opened:
        return opened.read()


def _database(db: Path) -> sqlite3.Connection:
    database = sqlite3.connect(db, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -65536"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("BEGIN")
    for script in ("schema.sql", "lookups.sql"):
        file.run_script(database, script)
    return database


class _Rows:
    """Rows for the large tables, inserted in batches; the indexes for reading come last."""

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        self._batch: dict[str, list[tuple[object, ...]]] = {}
        self._widths: dict[str, int] = {}
        self._run = self._trial = 0

    def add_run(self, path: str) -> None:
        self._run += 1
        text = "2026-01-05T09:00:00.000Z"
        key = f"agentv:{path}"
        run = (self._run, key, path, "team", path, BRANCH, "agentv", "v3", path[:20],
               "mock-alpha", None, None, "completed", f"{text}{self._run}", text, text, text, 1.5, 4, 0, *[1] * 9,
               *[0.5] * 4, 1, 1, 1, 0.5, 1000, "[]", "f" * 40, text, "bot", None, None, None, self._run)  # fmt: skip
        self._insert("runs", run)
        total = (*[1] * 9, *[0.5] * 4, 1, 1, 1, 0.5)
        names = (key, text, "e", "completed", "mock-alpha", None, None, "suite-0")
        self._insert("run_targets", (None, self._run, *names, *total))
        place = (None, self._run, key, text, "team", path, BRANCH, "f" * 40, "completed", 1, 4, text, path[-24:], None,
                 None, "[]", "f" * 40)  # fmt: skip
        self._insert("places", place)

    def add_trial(self, test: str, target: str | None, score: float | None, scores: int) -> None:
        self._trial += 1
        values = (
            self._trial,
            self._run,
            f"{self._trial}",
            "suite-0",
            test,
            None,
            target,
            *[None] * 5,
            1,
            "passed",
            score,
        )
        times = ("2026-01-05T09:00:00.000Z", "2026-01-05T09:00:00.000Z", 1.5, 1000, 400, None, 90, None, 0.02)
        self._insert("trials", (*values, None, None, None, *times, *[None] * 8, times[0]))
        for _ in range(scores):
            self._insert("scores", (None, self._trial, "contains", "contains", score, 1.0, 1))

    def _insert(self, table: str, row: tuple[object, ...]) -> None:
        if table not in self._widths:
            self._widths[table] = len(self._database.execute(f"PRAGMA table_info({table})").fetchall())
        row = (*row, *[1] * (self._widths[table] - len(row)))  # what was added to the table since
        self._batch.setdefault(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", []).append(row)

    def flush_if_full(self) -> None:
        if self._run % 500 == 0:
            self._flush()

    def _flush(self) -> None:
        for statement, rows in self._batch.items():
            self._database.executemany(statement, rows)
        self._batch.clear()

    def finish(self) -> None:
        self._flush()
        file.run_script(self._database, "indexes.sql")
        self._database.execute("COMMIT")
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()
