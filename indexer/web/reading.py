"""Finds the index among the databases of a Datasette, and queries it for many requests at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request

from indexer import Index, open_index
from indexer.errors import IndexFileError
from indexer.project import Project
from indexer.store import file

THREADS = 4
"""Questions that are answered concurrently."""

Answer = TypeVar("Answer")
_PATHS: "WeakKeyDictionary[Datasette, tuple[str, Path]]" = WeakKeyDictionary()
PROJECTS: "WeakKeyDictionary[Datasette, Project]" = WeakKeyDictionary()
"""The project of the index, which locates the files of runs, for each Datasette that may show files."""
SHARED: "WeakKeyDictionary[Datasette, str]" = WeakKeyDictionary()
"""The URL of the shared index that a Datasette shows in place of a file."""
_OTHERS: "WeakKeyDictionary[Datasette, dict[str, Any]]" = WeakKeyDictionary()
"""Databases that are not an index, with their file's state when checked."""
_READERS: "WeakKeyDictionary[Datasette, Readers]" = WeakKeyDictionary()


class Readers:
    """Threads that answer questions to one index."""

    def __init__(self, place: str | Path):
        self._place = place
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="indexer")
        self._index: Index | None = None

    async def ask(self, question: Callable[[Index], Answer]) -> Answer:
        """Answer in one of the threads. Raises what the question raises, and IndexFileError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)

    def _answer(self, question: Callable[[Index], Answer]) -> Answer:
        if self._index is None:
            self._index = open_index(self._place)
        with self._index.snapshot():
            return question(self._index)


def readers(datasette: Datasette) -> Readers:
    """The readers of a Datasette's index. Raises IndexFileError if it has none."""
    if datasette not in _READERS:
        if not has_index(datasette):
            raise IndexFileError("none of the databases here is an index of runs")
        _READERS[datasette] = Readers(SHARED[datasette] if datasette in SHARED else _PATHS[datasette][1])
    return _READERS[datasette]


async def permitted(datasette: Datasette, request: Request) -> None:
    """Raises Forbidden if the settings of Datasette deny the visitor the index."""
    name = index_database(datasette)
    wanted = ["view-instance", *([("view-database", name)] if name is not None else [])]
    await datasette.ensure_permissions(request.actor, wanted)


def has_index(datasette: Datasette) -> bool:
    """Whether there is an index of runs to ask."""
    return datasette in SHARED or index_database(datasette) is not None


def index_database(datasette: Datasette) -> str | None:
    """The name of the first database that is an index of runs; None if there is none, or the index is a shared one."""
    if datasette in SHARED:
        return None
    if datasette not in _PATHS:
        seen = _OTHERS.setdefault(datasette, {})
        for name, database in datasette.databases.items():
            path = Path(database.path) if database.path else None
            file_now = _state(path) if path else None
            if path is None or file_now is None or seen.get(name) == file_now:
                continue
            if file.is_ours(path):
                _PATHS[datasette] = name, path
                break
            seen[name] = file_now
    return _PATHS[datasette][0] if datasette in _PATHS else None


def reopening(datasette: Datasette) -> Callable[[Any], Any]:
    """A wrapper for an ASGI application: Datasette reopens the index once its file was replaced."""
    before: _Files | None = None

    def wrap(app: Any) -> Any:
        async def opened(scope: Any, receive: Any, send: Any) -> None:
            nonlocal before
            name = index_database(datasette)
            now = _files(datasette, name) if name is not None else None
            if name is not None and now is not None:
                if before is not None and before.replaced_by(now):
                    _reopen(datasette, name)
                before = now
            await app(scope, receive, send)

        return opened

    return wrap


def _state(path: Path) -> tuple[int, ...] | None:
    """Identity and state of a file, to tell whether it changed since."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Files(NamedTuple):
    """Identities of the index file and of its log, if any."""

    file: tuple[int, int]
    log: tuple[int, int] | None

    def replaced_by(self, now: "_Files") -> bool:
        """Whether a reader with these open reads files that are no longer written."""
        return self.file != now.file or (self.log is not None and now.log is not None and self.log != now.log)


def _files(datasette: Datasette, name: str) -> _Files | None:
    """The files that Datasette has open; without readers, a log comes and goes."""
    path = _PATHS[datasette][1]
    there = file.identity(path)
    reads = bool(datasette.databases[name]._all_file_connections)
    return None if there is None else _Files(there, file.identity(Path(f"{path}-wal")) if reads else None)


def _reopen(datasette: Datasette, name: str) -> None:
    """Replace Datasette's threads: each keeps a connection under the database's name, and new ones open it anew."""
    old = datasette.databases[name]
    datasette.remove_database(name)
    datasette.add_database(Database(datasette, path=old.path, is_mutable=old.is_mutable), name=name)
    if datasette.executor is not None:
        datasette.executor.shutdown(wait=False)
        datasette.executor = ThreadPoolExecutor(max_workers=datasette.setting("num_sql_threads"))
    old._all_file_connections.clear()  # they close with the threads that use them
