"""Read connections to an index: one per thread, on the current file and write-ahead log.

A rebuild in place needs no reopening; if the file itself was replaced, which only happens after damage, the next
call opens the new one.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from indexer.errors import IndexFileError
from indexer.store import file


class _Opened(NamedTuple):
    """A connection, and the file and the log that it has open."""

    database: sqlite3.Connection
    file: tuple[int, int]
    log: tuple[int, int] | None


class Reading:
    """An index that is open for reading. Threads may share it."""

    def __init__(self, path: Path):
        self.path = path
        self._mine = threading.local()
        self._closed = threading.Event()
        with self._reading():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}{', closed' if self._closed.is_set() else ''})"

    def close(self) -> None:
        """Close the file. Other threads get an IndexFileError from then on; their connections close when they end."""
        self._closed.set()
        self._disconnect()

    def _disconnect(self) -> None:
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None:
            self._mine.opened = None
            opened.database.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction on the file that is there now."""
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None and opened.database.in_transaction:
            yield opened.database
            return
        try:
            database = self._current()
            database.execute("BEGIN")
            try:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version != file.SCHEMA:
                    raise IndexFileError(f"{self.path} has schema version {version}; rebuild it: indexer sync")
                yield database
            finally:
                database.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            self._disconnect()
            if not file.is_outside(error):
                raise  # our own mistake
            raise file.unreadable(self.path, error) from None

    def _current(self) -> sqlite3.Connection:
        """This thread's connection, opened anew when the file or its log was replaced."""
        if self._closed.is_set():
            raise IndexFileError(f"{self.path} was closed by this program; open it again")
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None and (opened.file, opened.log) == self._files(opened.log is not None):
            return opened.database
        self._disconnect()
        while True:
            before = file.identity(self.path)
            database = file.connect_ours(self.path)
            try:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log
            except BaseException:
                database.close()
                raise
            on_disk, log = self._files(True)
            if on_disk is not None and on_disk == before:
                self._mine.opened = _Opened(database, on_disk, log)
                return database
            database.close()  # it was replaced while it was opened

    def _files(self, with_log: bool) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Identities of the current file and log."""
        return file.identity(self.path), file.identity(Path(f"{self.path}-wal")) if with_log else None
