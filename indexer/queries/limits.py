"""Limits of user-written queries: none fills the memory with a value, row or result, and none runs forever.

A time limit does not stop a function that builds one huge value, so SQLite itself limits their length
(https://www.sqlite.org/c3ref/limit.html), and results are counted row by row.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any
from weakref import ref

LONGEST_VALUE = 1 << 20
"""Bytes of one text or blob."""
MOST_COLUMNS = 200
LARGEST_RESULT = 64 << 20
"""Bytes of the texts and blobs in one result, plus a little for each row."""
_ROW = 64  # bytes added for each row
_STEPS = 10_000
"""SQLite instructions between two looks at the clock."""


def limit(database: sqlite3.Connection) -> None:
    """Set the limits of a connection that runs queries of users or visitors."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    database.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, MOST_COLUMNS)
    database.row_factory = _counted()


def limit_time(database: sqlite3.Connection, seconds: float) -> None:
    """Stop whatever query still runs so many seconds from now."""
    end = time.monotonic() + seconds
    database.set_progress_handler(lambda: time.monotonic() > end, _STEPS)


def _counted() -> Callable[[sqlite3.Cursor, tuple[Any, ...]], sqlite3.Row]:
    """A row factory that fails once the rows of one cursor are too large together."""
    current: ref[sqlite3.Cursor] | None = None
    size = 0

    def row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> sqlite3.Row:
        nonlocal current, size
        if current is None or current() is not cursor:
            current, size = ref(cursor), 0
        size += _ROW + sum(len(value) for value in values if isinstance(value, str | bytes))
        if size > LARGEST_RESULT:
            raise sqlite3.OperationalError(f"the result is larger than {LARGEST_RESULT >> 20} MiB")
        return sqlite3.Row(cursor, values)

    return row
