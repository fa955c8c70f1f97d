"""Looking at an index from outside while a pass writes it, and killing the pass."""

import hashlib
import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from indexer.errors import SourceError
from indexer.passes import sync as passes
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.store import file

TABLES = (
    "meta", "sources", "runs", "trials", "scores", "run_targets", "run_tags", "places", "problems", "deletions"
)  # fmt: skip

# differences that are 0 in every whole state
WHOLE = """
SELECT (SELECT coalesce(sum(trial_count + skipped + cancelled), 0) FROM runs)
       - (SELECT count(*) FROM trials WHERE status <> 'running'),
       (SELECT coalesce(sum(trial_count), 0) FROM runs) - (SELECT coalesce(sum(trial_count), 0) FROM run_targets),
       (SELECT count(*) FROM runs) - (SELECT count(DISTINCT run_pk) FROM places),
       (SELECT coalesce(sum(json_array_length(tags)), 0) FROM runs) - (SELECT count(*) FROM run_tags),
       (SELECT coalesce(sum(runs), 0) FROM sources)
       - (SELECT count(*) FROM (SELECT DISTINCT source, run_key FROM places)),
       (SELECT count(*) FROM runs) - (SELECT count(DISTINCT rev) FROM runs),
       (SELECT count(*) FROM runs, meta WHERE rev > last_rev),
       (SELECT count(*) FROM deletions, meta WHERE rev > last_rev)
"""


class Reader:
    """A connection that stays open while others write."""

    def __init__(self, db: Path):
        self._database = sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)

    def state(self) -> str:
        """A digest of all rows, in one read transaction."""
        digest = hashlib.sha1()
        self._database.execute("BEGIN")
        try:
            for table in TABLES:
                digest.update(repr(self._database.execute(f"SELECT * FROM {table}").fetchall()).encode())
        finally:
            self._database.execute("ROLLBACK")
        return digest.hexdigest()

    def faults(self) -> list[str]:
        """What is wrong with the file or between its tables; empty for a whole state."""
        said = [row[0] for row in self._database.execute("PRAGMA integrity_check") if row[0] != "ok"]
        said += map(str, self._database.execute("PRAGMA foreign_key_check"))
        differences = self._database.execute(WHOLE).fetchone()
        return said + ([f"tables disagree: {differences}"] if any(differences) else [])

    def close(self) -> None:
        self._database.close()


@contextmanager
def statements(hook: Callable[[str], None]) -> Iterator[None]:
    """Call a hook before each statement that a pass executes on the index; what it raises comes at the end."""
    plain, errors = file.connect, list[BaseException]()

    def guarded(statement: str) -> None:
        try:
            hook(statement)
        except BaseException as error:
            errors.append(error)  # SQLite would swallow it

    def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
        database = plain(path, write=write)
        if write:
            database.set_trace_callback(guarded)
        return database

    file.connect = connect
    try:
        yield
    finally:
        file.connect = plain
    if errors:
        raise errors[0]


@dataclass
class Observer:
    """Reads the whole index at every `step`th statement of a pass and before it ends; `seen` are the states it met."""

    reader: Reader
    step: int
    seen: set[str] = field(default_factory=set)
    count: int = 0

    def __call__(self, statement: str) -> None:
        self.count += 1
        if self.count % self.step == 0 or statement in ("COMMIT", "ROLLBACK"):
            self.seen.add(self.reader.state())


AWAY = 3
Named = tuple[str, str, Path]
"""A source as kind, name and path, as another process can be told."""


def opened(sources: Sequence[Named]) -> list[Source]:
    return [GitSource(name, path) if kind == "git" else FolderSource(name, path) for kind, name, path in sources]


def run_pass(command: str, db: Path, sources: Sequence[Named], options: Options, kill_at: int) -> None:
    """`sync` or `rebuild`, in a process that kills itself before the given statement; 0 for never.

    The process exits AWAY if a source could not be opened.
    """
    count = 0

    def hook(_statement: str) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with statements(hook):
        try:
            getattr(passes, command)(db, opened(sources), options)
        except SourceError:
            sys.exit(AWAY)


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__])


def in_process(
    command: str, db: Path, sources: Sequence[Named], options: Options, kill_at: int = 0
) -> ForkServerProcess:
    """Start a pass in a process of its own."""
    process = _SERVER.Process(target=run_pass, args=(command, db, sources, options, kill_at))
    process.start()
    return process


def locks(pid: int, path: Path) -> int:
    """How many locks a process has on a file."""
    inode = path.stat().st_ino
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return sum(line[4] == str(pid) and line[5].endswith(f":{inode}") for line in lines if "->" not in line)
