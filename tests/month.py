"""A compressed month: runs are published, tagged and deleted, jobs live and die, beside a watcher and readers.

Nothing that lasts may grow with the time: memory, file handles, threads, the write-ahead log. In the end the index
equals a rebuild, and so does what a reader knows who only followed the changes.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from indexer import open_index
from indexer.passes.check import check
from indexer.queries.index import Index
from tests.bundles import at, bundle, row
from tests.jobs import job, result, trial
from tests.repos import RESULTS
from tests.test_daemon import Watching
from tests.web.serving import Server, serving
from tests.worlds import World

LIVE, KEPT = 5, 40
_BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


class Events:
    """What happens in a month, one thing after another."""

    def __init__(self, world: World, seed: int):
        self._world, self._random = world, Random(seed)
        self._git = subprocess.Popen(
            ["git", f"--git-dir={world.repo.path}", "fast-import", "--quiet"], stdin=subprocess.PIPE
        )
        self.published: list[str] = []
        self.runs = 0
        self._live: dict[str, int] = {}
        self._ended: list[str] = []
        self._commits = self._jobs = 0

    def close(self) -> None:
        self._git.communicate()

    def happen(self) -> None:
        """The next event."""
        choice = self._random.random()
        if choice < 0.6 or not self.published:
            self.publish(self._random.choice([1, 1, 1, 2, 8]))
        elif choice < 0.72:
            self._tag(self._random.choice(self.published))
        elif choice < 0.8:
            self._commit({self.published.pop(self._random.randrange(len(self.published))): None})
        elif choice < 0.85:
            self._begin_job()
        else:
            self._go_on_with_a_job()

    def publish(self, count: int) -> str:
        """Publish new runs; the path of the last one."""
        files: dict[str, str | None] = {}
        for _ in range(count):
            self.runs += 1
            when = _BEGIN + timedelta(seconds=130 * self.runs)
            name = when.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(":", "-").replace(".", "-")
            experiment = f"e{self.runs % 20}"
            scores = [self._random.choice([0.0, 0.5, 0.9, 1.0]) for _ in range(4)]
            rows = [row(f"t{number}", score) for number, score in enumerate(scores)]
            self.published.append(f"runs/{experiment}/{name}")
            files |= at(self.published[-1], bundle(rows=rows, experiment=experiment))
        self._commit(files)
        return self.published[-1]

    def _tag(self, run: str) -> None:
        tags = self._random.sample(["baseline", "best", "odd", "team=a"], self._random.randrange(4))
        document = {"tags": tags, "updated_at": (_BEGIN + timedelta(seconds=self._commits)).isoformat()}
        self._commit({f"{run.replace('runs/', 'metadata/runs/', 1)}/tags.json": json.dumps(document)})

    def _commit(self, files: dict[str, str | None]) -> None:
        self._commits += 1
        seconds = int(_BEGIN.timestamp()) + self._commits
        stream = [f"commit {RESULTS}\ncommitter eval bot <eval@example.org> {seconds} +0000\ndata 1\nx\n".encode()]
        if self._commits == 1 and RESULTS in self._world.repo.pygit2.references:
            stream.append(f"from {RESULTS}^0\n".encode())
        for path, text in files.items():
            data = (text or "").encode()
            if text is None:
                stream.append(f"D {path}\n".encode())
            else:
                stream.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        assert self._git.stdin is not None
        self._git.stdin.write(b"".join([*stream, b"\ncheckpoint\n\n"]))
        self._git.stdin.flush()

    def _begin_job(self) -> None:
        if len(self._live) == LIVE:
            return
        self._jobs += 1
        name = f"job-{self._jobs}"
        self._live[name] = 0
        stats = {"n_running_trials": 1}
        self._world.write(at(f"jobs/{name}", job({}, id=self._id(name), finished=False, stats=stats, total=6)))

    def _go_on_with_a_job(self) -> None:
        if not self._live:
            return self._begin_job()
        name = self._random.choice(list(self._live))
        self._live[name] += 1
        number = self._live[name]
        if number <= 6:
            text = trial(reward=self._random.choice([0.0, 1.0]), second=number)
            self._world.write({f"jobs/{name}/fizz__{number:07}/result.json": text})
            return None
        del self._live[name]
        self._ended.append(name)
        self._world.write({f"jobs/{name}/result.json": result(id=self._id(name), total=6)})
        if len(self._ended) > KEPT:
            shutil.rmtree(self._world.local / "jobs" / self._ended.pop(0))
        return None

    def _id(self, name: str) -> str:
        return f"23b29240-0000-4000-8000-{int(name.removeprefix('job-')):012}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the processes held after some events. Bytes and milliseconds."""

    events: int
    runs: int
    memory: int
    handles: int
    threads: int
    log: int
    serve_memory: int
    serve_handles: int
    answer: float  # median of /api/runs since the last sample
    seen: float  # until a reader saw a published run


@dataclass(slots=True)
class Readers:
    """Threads that read all the time: one over HTTP, one that follows the changes."""

    db: Path
    server: Server
    answers: list[float] = field(default_factory=list)
    followed: dict[str, object] = field(default_factory=dict)
    wrong: list[object] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Readers":
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._follow)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._done.wait(0.1):
            began = time.perf_counter()
            answer = self.server.get("/api/runs?limit=50")
            self.answers.append(1000 * (time.perf_counter() - began))
            if answer.status != 200:
                self.wrong.append((answer.status, answer.text))

    def _follow(self) -> None:
        token = None
        with closing(open_index(self.db)) as index:
            while True:
                last = self._done.is_set()
                while True:
                    changes = index.changes(token)
                    for change in changes.changes:
                        if change["deleted"]:
                            self.followed.pop(change["key"], None)
                        else:
                            self.followed[change["key"]] = change["run"]
                    if changes.next == token:
                        break
                    token = changes.next
                if last:
                    return
                self._done.wait(0.05)


def live(root: Path, events: int, every: int, seed: int = 0) -> list[Sample]:
    """Let so many events happen, with samples in between. Raises AssertionError where a promise is broken."""
    world = World(root)
    world.write({"jobs/README": "-"})
    world.repo.commit(at("runs/e/2026-01-01T09-00-00-000Z", bundle(experiment="e")))
    happening = Events(world, seed)
    watching = Watching(world, sweep=5.0)
    samples = []
    try:
        with serving(world) as server, Readers(world.db, server) as readers, closing(open_index(world.db)) as index:
            for number in range(1, events + 1):
                happening.happen()
                if number % every == 0:
                    seen = _until_seen(index, happening.publish(1))
                    samples.append(_sample(world, number, watching.process.pid, server.process.pid, readers, seen))
                if number % 2000 == 0:
                    world.repo.git("gc", "--quiet")
                time.sleep(0.002)
            _until_seen(index, happening.publish(1))
            time.sleep(12)  # a sweep, and what follows from it
        assert watching.stop() == 0
    finally:
        watching.process.kill()
        happening.close()
    assert readers.wrong == []
    assert check(world.db, world.sources, world.options) == []
    with closing(open_index(world.db)) as index:
        assert readers.followed == {run["key"]: run for run in index.each_run()}
    return samples


def _until_seen(index: Index, path: str) -> float:
    """Milliseconds until a reader sees the run at a path."""
    began = time.perf_counter()
    while not index.select("SELECT 1 FROM places WHERE path = ?", path):
        assert time.perf_counter() < began + 60, f"{path} never came"
        time.sleep(0.001)
    return 1000 * (time.perf_counter() - began)


def _sample(world: World, events: int, watcher: int, server: int, readers: Readers, seen: float) -> Sample:
    answers = [readers.answers.pop() for _ in range(len(readers.answers))]
    return Sample(
        events=events,
        runs=world.column("SELECT count(*) FROM runs")[0],
        memory=status_of(watcher, "RssAnon") * 1024,
        handles=_handles(watcher),
        threads=status_of(watcher, "Threads"),
        log=Path(f"{world.db}-wal").stat().st_size,
        serve_memory=status_of(server, "RssAnon") * 1024,
        serve_handles=_handles(server),
        answer=statistics.median(answers) if answers else 0.0,
        seen=seen,
    )


def status_of(process: int, name: str) -> int:
    """A number of /proc/PID/status."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def _handles(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """By what was measured: the median of the last quarter over that of the second one."""
    quarter = len(samples) // 4
    parts = samples[quarter : 2 * quarter], samples[3 * quarter :]
    return {
        each.name: statistics.median(getattr(s, each.name) for s in parts[1])
        / (statistics.median(getattr(s, each.name) for s in parts[0]) or 1)
        for each in fields(Sample)
    }


def main(events: int) -> int:
    """A month of so many events, told on standard output."""
    with tempfile.TemporaryDirectory(prefix="month-") as folder:
        samples = live(Path(folder), events, max(10, events // 40))
    print("  ".join(each.name for each in fields(Sample)))
    for sample in samples:
        print("  ".join(f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in astuple(sample)))
    print("last quarter / second:", ", ".join(f"{name} {ratio:.2f}" for name, ratio in growth(samples).items()))
    return 0
