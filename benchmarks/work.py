"""One task in a process of its own: `python -m benchmarks.work TASK ARGUMENT…` prints the seconds it took."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import floors
from indexer.passes.sync import sync
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource


def sync_git(repository: str, db: str) -> None:
    sources: list[Source] = [GitSource("team", Path(repository))]
    sync(Path(db), sources, Options())


def sync_jobs(root: str, db: str) -> None:
    sources: list[Source] = [FolderSource("local", Path(root))]
    sync(Path(db), sources, Options())


TASKS: dict[str, Callable[..., object]] = {
    "sync-git": sync_git,
    "sync-jobs": sync_jobs,
    "floor-git": lambda repository, db: floors.read_repository(Path(repository), Path(db)),
    "floor-jobs": lambda root, db: floors.read_jobs(Path(root), Path(db)),
    "floor-logs": lambda root, db: floors.read_logs(Path(root)),
    "floor-stat": lambda root: floors.stat_jobs(Path(root)),
    "floor-log": lambda repository: floors.history(Path(repository)),
}

if __name__ == "__main__":
    began = time.perf_counter()
    TASKS[sys.argv[1]](*sys.argv[2:])
    print(time.perf_counter() - began)
