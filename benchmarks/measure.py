"""Times and memory of tasks in processes of their own, taken in turns so that a noisy machine hits all alike."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Task = Callable[[], float]
"""Does the work once and returns its seconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """A measurement (`ours`), what it is compared with (`floor`), and the largest ratio that is promised (`limit`).

    Both are in seconds, unless `note` names another unit.
    """

    name: str
    ours: float
    floor: float
    limit: float | None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.floor


def in_turns(tasks: Sequence[Task], rounds: int) -> list[float]:
    """The median seconds of each task."""
    taken: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for times, task in zip(taken, tasks, strict=True):
            times.append(task())
    return [sorted(times)[len(times) // 2] for times in taken]


def timed(work: Callable[[], object]) -> float:
    """The seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def task(*arguments: object) -> float:
    """The seconds of a task of `benchmarks.work`, without the start of its process."""
    return memory_of(*arguments)[0]


def memory_of(*arguments: object) -> tuple[float, int]:
    """Seconds of a task, and the most anonymous memory that its processes had together, in bytes."""
    command = [sys.executable, "-m", "benchmarks.work", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.05):
            most = max(most, sum(map(_anonymous, _tree(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.communicate()[0]
    ended.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return float(output), most


def command(*arguments: object, cwd: Path | None = None) -> float:
    """The seconds of a whole process, its start included."""
    began = time.perf_counter()
    subprocess.run(
        [str(a) for a in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=cwd
    )
    return time.perf_counter() - began


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def remove_index(db: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{db}{suffix}").unlink(missing_ok=True)


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown processor",
    )
    return f"{os.cpu_count()} x {cpu}, Python {sys.version.split()[0]}, Linux {os.uname().release}"
