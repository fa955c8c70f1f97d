"""What a query of a visitor may cost: no value, row or result that fills the memory.

Datasette's time limit does not stop a function that makes one huge value, so SQLite itself is told the longest
(https://www.sqlite.org/c3ref/limit.html), and what a query returns is counted row by row.
"""

import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs
from weakref import ref

LONGEST_VALUE = 1 << 20
"""Bytes of one text or blob."""
MOST_COLUMNS = 200
LARGEST_RESULT = 64 << 20
"""Bytes of texts and blobs in the rows of one query."""
_SQL = ("sql", "_where")
HEAP = 1 << 30
"""Bytes that SQLite may hold in a server's process."""


def limit(database: sqlite3.Connection) -> None:
    """Set the limits of a connection that answers queries of visitors."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    database.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, MOST_COLUMNS)
    database.row_factory = _counted()


def limit_heap() -> None:
    """Limit what all connections of this process hold together."""
    database = sqlite3.connect(":memory:")
    database.execute(f"PRAGMA hard_heap_limit = {HEAP}")
    database.close()


def _counted() -> Callable[[sqlite3.Cursor, tuple[Any, ...]], sqlite3.Row]:
    """Rows by name, until those of one cursor are too large together."""
    current: ref[sqlite3.Cursor] | None = None
    size = 0

    def row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> sqlite3.Row:
        nonlocal current, size
        if current is None or current() is not cursor:
            current, size = ref(cursor), 0
        size += sum(len(value) for value in values if isinstance(value, str | bytes))
        if size > LARGEST_RESULT:
            raise sqlite3.OperationalError(f"the result is larger than {LARGEST_RESULT >> 20} MiB")
        return sqlite3.Row(cursor, values)

    return row


def own_queries_only(app: Any) -> Any:
    """Wraps an ASGI application: a page elsewhere may not send SQL through somebody's browser."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            site = dict(scope["headers"]).get(b"sec-fetch-site", b"")
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
            if site not in (b"", b"none", b"same-origin") and not query.keys().isdisjoint(_SQL):
                headers = [(b"content-type", b"text/plain")]
                await send({"type": "http.response.start", "status": 403, "headers": headers})
                await send({"type": "http.response.body", "body": b"SQL is not taken from pages of other sites.\n"})
                return
        await app(scope, receive, send)

    return answer
