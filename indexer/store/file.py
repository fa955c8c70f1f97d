"""The index file: whether it is ours, whether it is intact, how it is opened.

`application_id` marks a file as ours; anything else at its path is refused and left alone. Another schema
version, another reader version or damage means a rebuild.

Only SQLite opens a database file, even to look at its header: SQLite's locks belong to the process, and closing any
other descriptor of the file drops them all. A writer elsewhere may then delete the write-ahead log under a reader,
which goes on with old rows (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from indexer.errors import IndexFileError
from indexer.store import lock

APPLICATION_ID = 0x69647872
SCHEMA = 8
"""Shape of the tables, kept as `PRAGMA user_version`."""

LONGEST_LOG = 64 << 20
"""Bytes to which the write-ahead log is truncated once nobody needs its content."""

LONGEST_VALUE = 64 << 20
"""Largest text or blob in bytes, so that no query builds one that fills the memory."""

_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html, section 1.3
_OUTSIDE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}
"""SQLite errors that are caused outside this program."""
_PATIENCE = 10.0  # busy timeout in seconds
_COPILOT_TABLES = {"experiments", "variants", "pier_jobs"}


def sql(name: str) -> str:
    """One of the SQL files beside this module."""
    return Path(__file__).with_name(name).read_text("utf-8")


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
    """Name and SQL of every table, index and view of a complete index."""
    with closing(sqlite3.connect(":memory:")) as database:
        for name in ("schema.sql", "lookups.sql", "views.sql", "indexes.sql"):
            run_script(database, name)
        return _schema(database)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's content is broken, rather than busy, full or forbidden."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "decode" in str(error)  # text that is not UTF-8
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_outside(error: sqlite3.DatabaseError) -> bool:
    """Whether an error of SQLite has its cause outside this program: the disk, other programs, a damaged file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE or is_damage(error)


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
        database.execute("PRAGMA cache_size = -16384")
    else:
        database.execute("PRAGMA query_only = 1")
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    return database


def require_ours(path: Path) -> None:
    """Raises IndexFileError if anything but our index is at `path`."""
    if not _is_regular(path):
        return
    try:
        database = connect(path)
        try:
            _require_ours(path, database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise unreadable(path, error) from None


def connect_ours(path: Path) -> sqlite3.Connection:
    """A read-only connection to the index at `path`. Raises IndexFileError if there is none of ours."""
    if not _is_regular(path):
        raise IndexFileError(f"there is no index at {path}; make one: indexer sync")
    database = connect(path)
    try:
        _require_ours(path, database)
    except sqlite3.Error as error:
        database.close()
        raise unreadable(path, error) from None
    except BaseException:
        database.close()
        raise
    return database


def unreadable(path: Path, error: sqlite3.Error) -> IndexFileError:
    """The error for an index that SQLite cannot read."""
    if is_damage(error):
        return IndexFileError(f"{path} is damaged; `indexer sync` makes a new one")
    locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return IndexFileError(f"{path} cannot be read: {error}" + (" by another program" if locked else ""))


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path (device and inode); None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_ours(path: Path) -> bool:
    """Whether a file is an index of ours, whatever its version."""
    try:
        if not _is_regular(path):
            return False
        database = connect(path)
        try:
            return bool(database.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)
        finally:
            database.close()
    except (sqlite3.Error, IndexFileError):
        return False


def _is_regular(path: Path) -> bool:
    """Whether there is a non-empty file. Raises IndexFileError for anything but a regular file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise IndexFileError(f"{path} is a folder; name a file with --db or `db` in indexer.toml")
    if not stat.S_ISREG(status.st_mode):
        raise IndexFileError(f"{path} is not a regular file and was left alone; name another with --db")
    return status.st_size > 0


def _require_ours(path: Path, database: sqlite3.Connection) -> None:
    try:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        if application == APPLICATION_ID:
            return
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if _header_is_ours(path):
            return  # damaged
        raise IndexFileError(f"{path} is not an index and was left alone; name another with --db or `db`") from None
    if tables >= _COPILOT_TABLES or {"experiments", "variants"} <= tables:
        raise IndexFileError(
            f"{path} is copilot-experiments' own index and was left alone; "
            "move it away, or name another file with --db or `db` in indexer.toml"
        )
    if tables or application:
        raise IndexFileError(f"{path} is another program's database and was left alone; name another file with --db")


def _header_is_ours(path: Path) -> bool:
    """Whether a file that SQLite cannot read has our header; another process reads it, see above."""
    import subprocess

    head = subprocess.run(["head", "-c", "100", "--", str(path)], capture_output=True, check=False).stdout
    return head[:16] == _MAGIC and int.from_bytes(head[68:72]) == APPLICATION_ID


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an index must be rebuilt, as a message (`why`), and whether none of its content can be read (`lost`)."""

    why: str
    lost: bool


def fault(path: Path, reader: str) -> Fault | None:
    """Why the index must be rebuilt; None if it need not be. It must be ours."""
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
    """Replace whatever is at `path` with an empty index in WAL mode. Only under the lock. Raises IndexFileError."""
    try:
        remove(path)
        with closing(connect(path, write=True)) as database:
            database.execute("PRAGMA journal_mode = MEMORY")  # a journal left on disk keeps readers out
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute("PRAGMA journal_mode = WAL")
    except (OSError, sqlite3.Error) as error:
        raise IndexFileError(f"{path} cannot be written: {error}") from None


def begin_anew(database: sqlite3.Connection, reader: str) -> None:
    """Replace all tables with empty ones inside the open transaction.

    The indexes for reading are created later, after the rows: see `Runs.index_for_reading`.
    """
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
    except OSError as error:
        raise IndexFileError(f"{path} cannot be removed: {error.strerror}") from error


@contextmanager
def locked(path: Path, command: str) -> Iterator[lock.Held]:
    """Hold the write lock of the index. Raises LockedError at once if another process has it."""
    require_ours(path)
    with lock.held(path, command) as held:
        require_ours(path)  # another writer may have changed the file meanwhile
        yield held


def _schema(database: sqlite3.Connection) -> frozenset[tuple[str, str | None]]:
    return frozenset(database.execute("SELECT name, sql FROM sqlite_master"))
