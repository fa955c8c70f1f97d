"""A crowd of readers beside writers that come and go: nobody reads what a finished pass has replaced.

Sixteen clients ask one server, half of them through Datasette's own pages; two readers in this process ask the index
itself, and open and close it all the time. Beside them passes run in processes of their own, watchers are started and
stopped, and now and then the index is made anew.
"""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from indexer import open_index
from tests.bundles import at, bundle
from tests.month import status_of
from tests.observe import Named, in_process, locks
from tests.test_daemon import Watching
from tests.web.serving import Server, serving
from tests.worlds import World

CLIENTS = 16
_BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
_COUNT = "/index.json?sql=select+count(*)+as+n+from+runs&_shape=array"


@dataclass(slots=True)
class Crowd:
    """What the readers met. `finished` is how many runs the last finished pass had to show."""

    finished: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # bytes of the server after each pass
    _done: threading.Event = field(default_factory=threading.Event)

    def ask(self, name: str, question: Callable[[], int | None]) -> None:
        """Ask until the end; an answer of None is one that could not be had."""
        while not self._done.is_set():
            expected = self.finished
            shown = question()
            self.answers[name] += 1
            if shown is None:
                self.wrong.append(f"{name} got no answer")
            elif shown < expected:
                self.wrong.append(f"{name} shows {shown} runs after a pass that found {expected}")

    def end(self) -> None:
        self._done.set()


def gather(root: Path, seconds: float, seed: int = 0) -> Crowd:
    """Let the crowd read for a while."""
    world, random = World(root), Random(seed)
    number = 0

    def publish() -> int:
        nonlocal number
        name = (
            f"2026-{number // 672 % 12 + 1:02}-{number // 24 % 28 + 1:02}T{number % 24:02}-00-{number // 8064:02}-000Z"
        )
        world.repo.commit(at(f"runs/e{number % 5}/{name}", bundle(experiment=None)))
        number += 1
        return number

    publish()
    world.sync()
    crowd = Crowd(finished=1)
    with serving(world) as server:
        questions = [(f"client {n}", _client(server, through_datasette=n % 2 == 1)) for n in range(CLIENTS)]
        questions += [("reader that stays", _staying(world.db)), ("reader that comes and goes", _passing(world.db))]
        threads = [threading.Thread(target=crowd.ask, args=question) for question in questions]
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                _write(world, crowd, random.random(), publish)
                if not locks(server.process.pid, world.db):
                    crowd.wrong.append("the server has lost its locks")
                crowd.memory.append(1024 * status_of(server.process.pid, "RssAnon"))
        finally:
            crowd.end()
            for thread in threads:
                thread.join()
        code, complaints = server.stop()
        crowd.wrong += [complaints] if code or complaints else []
    return crowd


def _write(world: World, crowd: Crowd, choice: float, publish: Callable[[], int]) -> None:
    """A writer comes and goes."""
    sources: list[Named] = [("git", "team", world.repo.path)]
    published = publish()
    if choice < 0.9:
        command = "rebuild" if choice < 0.05 else "sync"
        process = in_process(command, world.db, sources, world.options)
        process.join()
        assert process.exitcode == 0
    else:
        watching = Watching(world)
        watching.sees("SELECT count(*) FROM runs", published)
        published = publish()
        watching.sees("SELECT count(*) FROM runs", published)
        assert watching.stop() == 0
    crowd.finished = published


def _client(server: Server, *, through_datasette: bool) -> Callable[[], int | None]:
    def ask() -> int | None:
        if through_datasette:
            answer = server.get(_COUNT)
            return int(answer.json[0]["n"]) if answer.status == 200 else None
        answer = server.get("/api/health")
        return int(answer.json["sources"][0]["runs"]) if answer.status == 200 else None

    return ask


def _staying(db: Path) -> Callable[[], int | None]:
    index = open_index(db)

    def ask() -> int | None:
        return int(index.select("SELECT count(*) AS n FROM runs")[0]["n"])

    return ask


def _passing(db: Path) -> Callable[[], int | None]:
    def ask() -> int | None:
        with closing(open_index(db)) as index:
            return int(index.select("SELECT count(*) AS n FROM runs")[0]["n"])

    return ask


def main(minutes: float) -> int:
    """A crowd for so many minutes, told on standard output. Returns 1 if anything was wrong."""
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        crowd = gather(Path(folder), 60 * minutes, time.time_ns())
    quarter = max(1, len(crowd.memory) // 4)
    second, last = crowd.memory[quarter : 2 * quarter], crowd.memory[-quarter:]
    print(
        f"{sum(crowd.answers.values()):,} answers to {len(crowd.answers)} readers beside {len(crowd.memory):,} passes"
    )
    print(f"server: {max(second) / 1e6:.0f} MB in the second quarter, {max(last) / 1e6:.0f} MB in the last")
    for wrong in crowd.wrong:
        print(wrong)
    print(f"{len(crowd.wrong):,} failures")
    return 1 if crowd.wrong else 0
