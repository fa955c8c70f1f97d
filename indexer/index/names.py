"""What people call a run: an id, a key, a prefix of these, `latest`, `tag:NAME`, each with `~N`.

A unique prefix is searched by index; ambiguous names list candidates, newest first.
"""

import re
import sqlite3
from typing import Any

from indexer.errors import UnknownRunError

_ANCESTOR = re.compile(r"(.*)~(\d{1,9})", re.DOTALL)
_CANDIDATES = 10
_NEWEST = "ORDER BY timestamp DESC, key DESC LIMIT 1 OFFSET ?"


def resolve(database: sqlite3.Connection, name: str) -> int:
    """The internal id of the run that `name` stands for. Raises UnknownRunError, with candidates if there are any."""
    if (pk := _named(database, name)) is not None:
        return pk
    if (match := _ANCESTOR.fullmatch(name)) and (pk := _before(database, match[1], int(match[2]))) is not None:
        return pk
    if match and _is_list(match[1]) and _newest(database, match[1], 0) is not None:
        raise UnknownRunError(f"{match[1]!r} has no run {match[2]} before its newest")
    raise UnknownRunError(f"no run is called {name!r}; `indexer runs` lists them")


def _before(database: sqlite3.Connection, name: str, count: int) -> int | None:
    """The Nth run before a run in the list it was named in: all runs, those of an experiment, or with a tag."""
    if (pk := _newest(database, name, count)) is not None or _is_list(name):
        return pk
    start = _named(database, name)
    if start is None:
        return None
    timestamp, key = database.execute("SELECT timestamp, key FROM runs WHERE id = ?", (start,)).fetchone()
    statement = f"SELECT id FROM runs WHERE (timestamp, key) <= (?, ?) {_NEWEST}"
    return _first(database.execute(statement, (timestamp, key, count)))


def _named(database: sqlite3.Connection, name: str) -> int | None:
    if _is_list(name):
        return _newest(database, name, 0)
    if pk := _first(database.execute("SELECT id FROM runs WHERE key = ?", (name,))):
        return pk
    experiment, slash, run_id = name.rpartition("/")
    exact = [("run_id = ?", [name])]
    if slash:
        exact.append(("experiment = ? AND (run_id = ? OR run_id = ?)", [experiment, run_id, f"{experiment}::{run_id}"]))
    for condition, values in exact:
        if (pk := _only(database, name, condition, values)) is not None:
            return pk
    prefixes = [("run_id >= ? AND run_id < ?", _range(name)), ("key >= ? AND key < ?", _range(name))]
    if slash:
        names = [*_range(run_id), *_range(f"{experiment}::{run_id}")]
        ranges = "(run_id >= ? AND run_id < ? OR run_id >= ? AND run_id < ?)"
        prefixes.append((f"experiment = ? AND {ranges}", [experiment, *names]))
    for condition, values in prefixes if name else []:
        if (pk := _only(database, name, condition, values)) is not None:
            return pk
    return None


def _is_list(name: str) -> bool:
    return name == "latest" or name.startswith(("latest:", "tag:"))


def _newest(database: sqlite3.Connection, name: str, count: int) -> int | None:
    """The Nth newest run of a named list."""
    if name == "latest":
        return _first(database.execute(f"SELECT id FROM runs {_NEWEST}", (count,)))
    kind, _, value = name.partition(":")
    if kind == "latest":
        return _first(database.execute(f"SELECT id FROM runs WHERE experiment = ? {_NEWEST}", (value, count)))
    if kind == "tag":
        statement = "SELECT run_pk FROM run_tags WHERE tag = ? ORDER BY timestamp DESC, run_key DESC LIMIT 1 OFFSET ?"
        return _first(database.execute(statement, (value, count)))
    return None


def _only(database: sqlite3.Connection, name: str, condition: str, values: list[Any]) -> int | None:
    order = f"ORDER BY timestamp DESC, key DESC LIMIT {_CANDIDATES + 1}"
    found = database.execute(f"SELECT id, run_id, key FROM runs WHERE {condition} {order}", values).fetchall()
    if len(found) > 1:
        shown = [key if [run_id for _, run_id, _ in found].count(run_id) > 1 else run_id for _, run_id, key in found]
        more = ", …" if len(found) > _CANDIDATES else ""
        raise UnknownRunError(f"{name!r} is ambiguous: {', '.join(shown[:_CANDIDATES])}{more}")
    return found[0][0] if found else None


def _first(cursor: sqlite3.Cursor) -> int | None:
    row = cursor.fetchone()
    return row[0] if row else None


def _range(prefix: str) -> list[str]:
    """The bounds of all texts that start with `prefix`."""
    return [prefix, prefix + "\U0010ffff"]
