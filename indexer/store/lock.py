"""The write lock: one process at a time writes an index.

The writer locks `index.db.lock` next to the index. The JSON in that file names the writer, and holds facts that change
without the index: when each source was last compared with it, which falls were reported, how far it was published.
People who delete the index may delete that file too, so the writer holds a second lock in its user's cache folder,
which keeps out every other writer with the same cache folder. `keep` recreates a deleted lock file.
"""

import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from indexer.errors import IndexFileError, LockedError
from indexer.records import utc, utc_now

_SIGNED = b'{"command": "'  # how a lock file of ours begins
_NOTING = threading.Lock()
_GLANCE = 0.1  # seconds to outwait `writer`, which holds the lock for a moment to probe it
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def lock_path(path: Path) -> Path:
    """The lock file of the index at `path`."""
    return Path(f"{path}.lock")


class Held:
    """The write lock of the index at `path`, held until it is released or this process ends."""

    def __init__(self, path: Path, command: str):
        self._path = path
        self._me = {"command": command, "pid": os.getpid(), "host": os.uname().nodename, "since": utc_now()}
        self._guard = _locked_guard(path)
        try:
            self._handle = self._locked_file()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write."""
        if (handle := getattr(self, "_handle", None)) is not None:
            os.close(handle)
        if self._guard is not None:
            handle, path = self._guard
            path.unlink(missing_ok=True)  # a waiting process then sees that its file was replaced
            os.close(handle)

    def keep(self) -> None:
        """Make the lock file again if somebody deleted it. Raises LockedError if another writer was faster."""
        try:
            current = lock_path(self._path).stat()
        except OSError:
            pass
        else:
            held = os.fstat(self._handle)
            if (current.st_dev, current.st_ino) == (held.st_dev, held.st_ino):
                return
        new = self._locked_file()
        os.close(self._handle)
        self._handle = new

    def _locked_file(self) -> int:
        """Open and lock the lock file, and write this process into it. Returns its handle."""
        path = lock_path(self._path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, _FLAGS, 0o644)
        except OSError as error:
            raise IndexFileError(f"{path} cannot be written: {error.strerror}") from None
        try:
            _lock(self._path, handle)
            _require_own(self._path, handle)
            try:
                sign(self._path, self._me | {"looked": looked(self._path), "told": told_falls(self._path)})
            except OSError as error:
                raise IndexFileError(f"{path} cannot be written: {error.strerror}") from None
        except BaseException:
            os.close(handle)
            raise
        return handle


@contextmanager
def held(path: Path, command: str) -> Iterator[Held]:
    """Hold the write lock of the index. Raises LockedError at once if another process has it."""
    mine = Held(path, command)
    try:
        yield mine
    finally:
        mine.release()


def _locked_guard(path: Path) -> tuple[int, Path] | None:
    """The second lock and its file; None where this user has no folder for it. Raises LockedError."""
    import hashlib  # imported here, since only writers need them
    import tempfile

    name = f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]}.lock"
    for parent in (os.environ.get("XDG_CACHE_HOME"), "~/.cache", tempfile.gettempdir()):
        try:
            folder = Path(parent or "~/.cache").expanduser() / f"indexer-{os.getuid()}"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid == os.getuid():
                return _locked_alone(path, folder / name), folder / name
        except (OSError, RuntimeError, IndexFileError):  # no such folder, no home, no locks on it
            continue
    return None


def _locked_alone(path: Path, guard: Path) -> int:
    """A handle on a file that is locked and that nobody removed meanwhile."""
    while True:
        handle = os.open(guard, _FLAGS, 0o600)
        try:
            _lock(path, handle)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), guard.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(path: Path, handle: int) -> None:
    end = time.monotonic() + _GLANCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise IndexFileError(f"{lock_path(path)} cannot be locked: {error.strerror}") from None
            if time.monotonic() > end:
                raise LockedError(f"{path} is being written by {_named(holder(path))}") from None
        time.sleep(_GLANCE / 20)


def note(path: Path, facts: dict[str, Any]) -> None:
    """Add facts about the lock's holder to the lock file, for `status`. Only under the lock; by any of its threads."""
    with _NOTING:
        sign(path, holder(path) | facts)


def writer(path: Path) -> dict[str, Any] | None:
    """Who holds the lock, and what it noted; None if nobody does."""
    try:
        handle = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return holder(path)
    finally:
        os.close(handle)
    return None


def looked(path: Path) -> dict[str, str]:
    """When each source was last compared with the index, by name; for a remote, as of its last fetch."""
    times = holder(path).get("looked")
    known = times.items() if isinstance(times, dict) else ()
    return {name: time for name, time in known if isinstance(time, str) and utc(time) == time}


def told_falls(path: Path) -> list[str]:
    """The falls that a watcher has already reported."""
    names = holder(path).get("told")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def note_looked(path: Path, times: Mapping[str, str], kept: Collection[str] = ()) -> None:
    """Store when sources were compared with the index; drop all others but those in `kept`. Only under the lock."""
    before = {name: time for name, time in looked(path).items() if name in kept}
    with suppress(OSError):  # no row depends on it, and the disk may be full
        note(path, {"looked": {**before, **times}})


def sign(path: Path, who: dict[str, Any]) -> None:
    """Write the lock's holder into the lock file. Raises OSError."""
    if "pid" not in who:
        return
    handle = os.open(lock_path(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:  # one write that never shortens the file, so a concurrent reader sees the old or the new content
        os.pwrite(handle, json.dumps(who).encode().ljust(os.fstat(handle).st_size), 0)
    finally:
        os.close(handle)


def holder(path: Path) -> dict[str, Any]:
    """The content of the lock file, whether or not it is held now; empty if there is none."""
    try:
        content = json.loads(lock_path(path).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _require_own(path: Path, handle: int) -> None:
    """Raises IndexFileError unless a lock file is ours; a partly written or empty one counts as ours."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise IndexFileError(f"{lock_path(path)} is not a regular file; name another index with --db")
    holding, beginning = holder(path), os.pread(handle, len(_SIGNED), 0)
    if "pid" not in holding and (holding or not _SIGNED.startswith(beginning)):
        raise IndexFileError(f"{lock_path(path)} is another program's file; name another index with --db")


def _named(holding: dict[str, Any]) -> str:
    if "pid" not in holding:
        return "another process"
    host, since = holding.get("host"), holding.get("since")
    return f"`indexer {holding.get('command')}` (process {holding['pid']} on {host} since {since})"
