"""The memory limit for all visitors of a server together, and whose SQL it accepts."""

import sqlite3
from typing import Any
from urllib.parse import parse_qs

_SQL = ("sql", "_where")
HEAP = 1 << 30
"""Bytes that SQLite may hold in a server's process."""


def limit_heap() -> None:
    """Limit the memory of all connections of this process together."""
    database = sqlite3.connect(":memory:")
    database.execute(f"PRAGMA hard_heap_limit = {HEAP}")
    database.close()


def own_queries_only(app: Any) -> Any:
    """Wrap an ASGI application: pages of other sites may not send SQL through a visitor's browser."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            site = dict(scope["headers"]).get(b"sec-fetch-site", b"")
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
            if site not in (b"", b"none", b"same-origin") and not query.keys().isdisjoint(_SQL):
                headers = [(b"content-type", b"text/plain")]
                await send({"type": "http.response.start", "status": 403, "headers": headers})
                await send({"type": "http.response.body", "body": b"SQL from pages of other sites is not accepted.\n"})
                return
        await app(scope, receive, send)

    return answer
