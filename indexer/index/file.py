"""The index file: whose it is, whether it is sound, who writes it.

`application_id` marks a file as ours; anything else in its place is refused and left alone. The schema
version, the reader version or damage make it be built anew. One process at a time writes: it holds a lock
on `index.db.lock`, whose JSON names it.
"""

import errno
import fcntl
import json
import os
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from indexer.errors import IndexFileError, LockedError
from indexer.records import utc, utc_now

APPLICATION_ID = 0x69647872
SCHEMA = 4
"""Shape of the tables, kept as `PRAGMA user_version`."""

LONGEST_LOG = 64 << 20
"""Bytes that the write-ahead log keeps on disk once nobody needs what is in it, however long it was before."""

_PATIENCE = 10.0  # seconds to wait for others who write or lock the file
_GLANCE = 0.1  # seconds in which `writer`, who looks whether the lock is held, is gone again

_SIGNED = b'{"command": "'  # how a lock file of ours begins
_MAGIC = b"SQLite format 3\0"
_COPILOT_TABLES = {"experiments", "variants", "pier_jobs"}


def sql(name: str) -> str:
    """One of the SQL files beside this module."""
    return Path(__file__).with_name(name).read_text("utf-8")


def view_query(name: str, conditions: str) -> str:
    """The query of a view that groups rows, with more conditions (` AND …`) on the rows before they are grouped."""
    query = sql("views.sql").partition(f"CREATE VIEW {name} AS")[2].partition(";")[0]
    return query.replace("GROUP BY", f"{conditions} GROUP BY")


def run_script(database: sqlite3.Connection, name: str) -> None:
    """Execute one of the SQL files inside the open transaction."""
    statement = ""
    for line in sql(name).splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""


@cache
def expected_schema() -> frozenset[tuple[str, str | None]]:
    """Name and SQL of everything a complete index consists of."""
    with sqlite3.connect(":memory:") as database:
        for name in ("schema.sql", "lookups.sql", "views.sql", "indexes.sql"):
            run_script(database, name)
        return _schema(database)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's content is broken, rather than busy, full or forbidden."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "decode" in str(error)  # text that is none
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode; read-only unless `write`. Raises IndexFileError."""
    mode = "rwc" if write else "ro"
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        database = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=_PATIENCE, check_same_thread=False, cached_statements=512
        )
    except sqlite3.Error as error:
        raise IndexFileError(f"{path} cannot be opened: {error}") from None
    if write:
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA temp_store = FILE")
        database.execute(f"PRAGMA journal_size_limit = {LONGEST_LOG}")
        database.execute("PRAGMA cache_size = -65536")
    else:
        database.execute("PRAGMA query_only = 1")
    return database


def require_ours(path: Path) -> None:
    """Raises IndexFileError if there is something at `path` that is no index of ours."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise IndexFileError(f"{path} is a folder; name a file with --db or `db` in indexer.toml")
    if not stat.S_ISREG(status.st_mode):
        raise IndexFileError(f"{path} is no regular file and was left alone; name another with --db")
    if status.st_size == 0:
        return
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read: {error.strerror}") from None
    if header[:16] != _MAGIC or len(header) < 100:
        if _holder(path).get("inode") == status.st_ino:
            return  # the very file that was our index, damaged since
        raise IndexFileError(f"{path} is no index and was left alone; name another file with --db or `db`")
    if int.from_bytes(header[68:72]) == APPLICATION_ID:
        return
    tables = _tables(path)
    if tables >= _COPILOT_TABLES or {"experiments", "variants"} <= tables:
        raise IndexFileError(
            f"{path} is copilot-experiments' own index and was left alone; "
            "move it away, or name another file with --db or `db` in indexer.toml"
        )
    if tables or int.from_bytes(header[68:72]):
        raise IndexFileError(f"{path} is another program's database and was left alone; name another file with --db")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an index must be built anew, for people; `lost` when nothing of it can be read any more."""

    why: str
    lost: bool


def fault(path: Path, reader: str) -> Fault | None:
    """What keeps the index from being continued; None if it can be. It must be ours."""
    if not path.exists() or path.stat().st_size == 0:
        return Fault("there is no index yet", lost=True)
    try:
        database = connect(path)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA:
                return Fault(f"the index has schema version {version} and this program {SCHEMA}", lost=True)
            if not _schema(database) >= expected_schema():
                return Fault("the index lacks tables", lost=True)
            if database.execute("SELECT reader FROM meta").fetchall() != [(reader,)]:
                return Fault("the index was read by another version or with other settings", lost=False)
        finally:
            database.close()
    except UnicodeDecodeError as error:
        return Fault(f"the index is damaged ({error.reason})", lost=True)
    except sqlite3.Error as error:
        if is_damage(error):
            return Fault(f"the index is damaged ({error})", lost=True)
        raise IndexFileError(f"{path} cannot be read: {error}") from None
    return None


def create(path: Path) -> None:
    """An empty database marked as ours, in WAL mode, instead of whatever is at `path`. Only under the lock."""
    try:
        remove(path)
        with open(path, "xb"):
            _sign(path, _holder(path))
        database = connect(path, write=True)
        database.execute("PRAGMA journal_mode = MEMORY")  # a journal left on disk keeps readers out
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA journal_mode = WAL")
        database.close()
    except (OSError, sqlite3.Error) as error:
        raise IndexFileError(f"{path} cannot be written: {error}") from None


def begin_anew(database: sqlite3.Connection, reader: str) -> None:
    """Replace all tables by empty ones inside the open transaction; the indexes for reading come last, not here."""
    order = "CASE name WHEN 'scores' THEN 0 WHEN 'trials' THEN 1 WHEN '_files' THEN 1 WHEN 'runs' THEN 3 ELSE 2 END"
    kinds = (
        "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    )
    for kind, name in database.execute(f"{kinds} ORDER BY type = 'table', {order}").fetchall():
        database.execute(f'DROP {kind} IF EXISTS "{name}"')
    database.execute(f"PRAGMA user_version = {SCHEMA}")
    for script in ("schema.sql", "lookups.sql", "views.sql"):
        run_script(database, script)
    generation = os.urandom(8).hex()
    database.execute("INSERT INTO meta VALUES (?, ?, ?, 0, 0)", (generation, SCHEMA, reader))


def remove(path: Path) -> None:
    """Remove an index with its WAL. Only under the lock. Raises IndexFileError."""
    try:
        for suffix in ("-journal", "-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        _sign(path, _holder(path))
    except OSError as error:
        raise IndexFileError(f"{path} cannot be removed: {error.strerror}") from error


def lock_path(path: Path) -> Path:
    return Path(f"{path}.lock")


@contextmanager
def locked(path: Path, command: str) -> Iterator[None]:
    """Hold the right to write the index. Raises LockedError at once if another process has it."""
    require_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(lock_path(path), flags, 0o644)
    except OSError as error:
        raise IndexFileError(f"{lock_path(path)} cannot be written: {error.strerror}") from None
    try:
        _lock(path, handle)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise IndexFileError(f"{lock_path(path)} is no regular file; name another index with --db")
        require_ours(path)  # another writer may have ended since
        if not _is_ours(path):
            raise IndexFileError(f"{lock_path(path)} is another program's file; name another index with --db")
        me = {"command": command, "pid": os.getpid(), "host": os.uname().nodename, "since": utc_now()}
        holder = me | {"looked": looked(path)}
        try:
            _sign(path, holder)
        except OSError as error:
            raise IndexFileError(f"{lock_path(path)} cannot be written: {error.strerror}") from None
        yield
    finally:
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
                raise LockedError(f"{path} is being written by {_named(_holder(path))}") from None
        time.sleep(_GLANCE / 20)


def note(path: Path, facts: dict[str, Any]) -> None:
    """Write down what the holder of the lock did, for `status`. Only under the lock."""
    _sign(path, _holder(path) | facts)


def writer(path: Path) -> dict[str, Any] | None:
    """Who holds the lock, and what it noted; None if nobody does."""
    try:
        handle = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(path)
    finally:
        os.close(handle)
    return None


def looked(path: Path) -> dict[str, str]:
    """When each source was last compared with the index, by name; of a remote, what had been fetched till then."""
    times = _holder(path).get("looked")
    known = times.items() if isinstance(times, dict) else ()
    return {name: time for name, time in known if isinstance(time, str) and utc(time) == time}


def note_looked(path: Path, times: Mapping[str, str], kept: Collection[str] = ()) -> None:
    """Write down when sources were compared with the index, and forget others but those `kept`. Only under the lock."""
    before = {name: time for name, time in looked(path).items() if name in kept}
    with suppress(OSError):  # no row depends on it, and the disk may be full
        note(path, {"looked": {**before, **times}})


def _sign(path: Path, holder: dict[str, Any]) -> None:
    """Write down who holds the lock, and which file is the index: no other one may ever be overwritten."""
    if "pid" not in holder:
        return
    inode = path.stat().st_ino if path.exists() else None
    handle = os.open(lock_path(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:  # at once and never shorter, so that who reads meanwhile finds the old or the new
        os.pwrite(handle, json.dumps(holder | {"inode": inode}).encode().ljust(os.fstat(handle).st_size), 0)
    finally:
        os.close(handle)


def _holder(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(lock_path(path).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_ours(path: Path) -> bool:
    """Whether a lock file is one of ours, even if it was written only in part, or is empty."""
    holder = _holder(path)
    with lock_path(path).open("rb") as lock:
        beginning = lock.read(len(_SIGNED))
    return "pid" in holder or (not holder and _SIGNED.startswith(beginning))


def _named(holder: dict[str, Any]) -> str:
    if "pid" not in holder:
        return "another process"
    host, since = holder.get("host"), holder.get("since")
    return f"`indexer {holder.get('command')}` (process {holder['pid']} on {host} since {since})"


def _tables(path: Path) -> set[str]:
    try:
        database = connect(path)
        try:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        finally:
            database.close()
    except (sqlite3.Error, IndexFileError):
        return {"(unreadable)"}


def _schema(database: sqlite3.Connection) -> frozenset[tuple[str, str | None]]:
    return frozenset(database.execute("SELECT name, sql FROM sqlite_master"))
