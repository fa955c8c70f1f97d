"""Which database of a Datasette is an index, and asking it from many requests at once."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request

from indexer import Index, open_index
from indexer.errors import IndexFileError
from indexer.index.file import APPLICATION_ID
from indexer.project import Project

THREADS = 4
"""Questions that are answered at the same time."""

Answer = TypeVar("Answer")
_PATHS: "WeakKeyDictionary[Datasette, tuple[str, Path]]" = WeakKeyDictionary()
PROJECTS: "WeakKeyDictionary[Datasette, Project]" = WeakKeyDictionary()
"""The settings around the index, which tell where files of runs are, for each Datasette that may show files."""
_READERS: "WeakKeyDictionary[Datasette, Readers]" = WeakKeyDictionary()


class Readers:
    """An open index for each thread that answers."""

    def __init__(self, path: Path):
        self._path = path
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="indexer")
        self._opened = threading.local()

    async def ask(self, question: Callable[[Index], Answer]) -> Answer:
        """Answer in one of the threads. Raises what the question raises, and IndexFileError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)

    def _answer(self, question: Callable[[Index], Answer]) -> Answer:
        if not hasattr(self._opened, "index"):
            self._opened.index = open_index(self._path)
        index: Index = self._opened.index
        with index.snapshot():
            return question(index)


def readers(datasette: Datasette) -> Readers:
    """How to ask the index of a Datasette. Raises IndexFileError if it has none."""
    if datasette not in _READERS:
        if index_database(datasette) is None:
            raise IndexFileError("none of the databases here is an index of runs")
        _READERS[datasette] = Readers(_PATHS[datasette][1])
    return _READERS[datasette]


async def permitted(datasette: Datasette, request: Request) -> None:
    """Raises Forbidden where the settings of Datasette keep the index from who asks."""
    name = index_database(datasette)
    await datasette.ensure_permissions(request.actor, [("view-database", name), "view-instance"])


def index_database(datasette: Datasette) -> str | None:
    """The name of the first database that is an index of runs."""
    if datasette not in _PATHS:
        for name, database in datasette.databases.items():
            if database.path and _is_index(Path(database.path)):
                _PATHS[datasette] = name, Path(database.path)
                break
    return _PATHS[datasette][0] if datasette in _PATHS else None


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(100)[68:72]) == APPLICATION_ID
    except OSError:
        return False


def reopening(datasette: Datasette) -> Callable[[Any], Any]:
    """Wraps an ASGI application so that Datasette opens the index anew once its file was replaced."""
    identity: tuple[int, int] | None = None

    def wrap(app: Any) -> Any:
        async def opened(scope: Any, receive: Any, send: Any) -> None:
            nonlocal identity
            name = index_database(datasette)
            if name is not None:
                now = _identity(_PATHS[datasette][1])
                if identity is not None and now is not None and now != identity:
                    _reopen(datasette, name)
                identity = now or identity
            await app(scope, receive, send)

        return opened

    return wrap


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _reopen(datasette: Datasette, name: str) -> None:
    """Datasette keeps a connection in each of its threads under the database's name: new threads open new ones."""
    old = datasette.databases[name]
    datasette.remove_database(name)
    datasette.add_database(Database(datasette, path=old.path, is_mutable=old.is_mutable), name=name)
    if datasette.executor is not None:
        datasette.executor.shutdown(wait=False)
        datasette.executor = ThreadPoolExecutor(max_workers=datasette.setting("num_sql_threads"))
    old._all_file_connections.clear()  # they close with the threads that use them
