"""The change feed: what was written or deleted after a token."""

import sqlite3
from dataclasses import dataclass

from indexer.errors import QueryError, StaleTokenError
from indexer.queries.pages import require_limit
from indexer.queries.runs import by_ids
from indexer.queries.types import Change

_CHANGED = """
SELECT rev, key, id, 0 FROM runs WHERE rev > ? UNION ALL
SELECT rev, key, NULL, 1 FROM deletions WHERE rev > ? ORDER BY 1 LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a token, oldest first, and the next token."""

    changes: list[Change]
    next: str


def changes(database: sqlite3.Connection, since: str | None, limit: int) -> Changes:
    """What changed after a token; all runs without one. Raises StaleTokenError, QueryError if it is malformed."""
    require_limit(limit)
    generation, last = database.execute("SELECT generation, last_rev FROM meta").fetchone()
    after = _revision(database, since, generation)
    found = database.execute(_CHANGED, (after, after, limit)).fetchall()
    runs = {run["key"]: run for run in by_ids(database, [pk for _, _, pk, gone in found if not gone])}
    changes: list[Change] = [
        {"key": key, "deleted": True} if gone else {"key": key, "deleted": False, "run": runs[key]}
        for _, key, _, gone in found
    ]
    return Changes(changes, f"{generation}.{found[-1][0] if len(found) == limit else last}")


def token(database: sqlite3.Connection) -> str:
    """The current token: `changes` with it returns what changes from now on."""
    generation, last = database.execute("SELECT generation, last_rev FROM meta").fetchone()
    return f"{generation}.{last}"


def _revision(database: sqlite3.Connection, token: str | None, generation: str) -> int:
    if token is None:
        return 0
    made_in, dot, text = token.partition(".")
    if not dot or not text.isascii() or not text.isdigit() or len(text) > 18:
        raise QueryError(f"since: {token!r} is not a change token")
    last, forgotten = database.execute("SELECT last_rev, forgotten_rev FROM meta").fetchone()
    if made_in != generation or not forgotten <= int(text) <= last:
        raise StaleTokenError("since: the token is from before a rebuild or too old; list all runs again")
    return int(text)
