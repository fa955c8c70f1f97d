"""Keyset pagination of runs: constant cost at any depth, correct across inserts, deletions and rebuilds.

A page continues after a (sort value, key) pair, never after an offset or a row id. NULLs come last in both
directions, so a sorted list has two segments, each a range of the index on (column, key): the rows with a
value, compared as a row value `(column, key) < (?, ?)`, which SQLite searches by index
(https://www.sqlite.org/rowvalue.html#scrolling_window_queries), then the rows without.

A filter by experiment, status, target, model, tag or source in timestamp order uses an index that starts with that
column; of several filters, one leads and the rest are tested row by row. If the leading filter has several values,
each is a range of its own, and the ranges are merged.
"""

import base64
import hashlib
import json
import math
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from indexer.errors import QueryError
from indexer.queries.engines import ONE_OF_MANY, Engine
from indexer.queries.filters import DECLARED
from indexer.queries.selection import Selection

SORTS = ("timestamp", "pass_rate", "avg_score", "cost_usd", "duration_s")
LARGEST_PAGE = 1000

Query = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the sort value and key of its last row."""

    value: Any
    key: str


def page_of_ids(
    database: Engine,
    selection: Selection,
    asked: Mapping[str, Any],
    sort: str,
    limit: int,
    cursor: str | None,
) -> tuple[list[int], str | None]:
    """The ids of the runs of a page in order, and the cursor of the next page, bound to `asked`. Raises QueryError."""
    column, descending = _sort(sort)
    require_limit(limit)
    bound = {**asked, "sort": sort}
    position = _position(cursor, bound, column) if cursor is not None else None
    ids: list[int] = []
    last: Position | None = None
    for queries in segments(selection, column, descending, position, limit + 1):
        for pk, value, key in _first(database, queries, limit + 1, descending=descending):
            if len(ids) == limit:
                assert last is not None
                return ids, encode(bound, last.value, last.key)
            ids.append(pk)
            last = Position(value, key)
    return ids, None


def matching(database: sqlite3.Connection, selection: Selection, keys: Sequence[str]) -> list[int]:
    """The ids of the runs with these keys that the filters select."""
    where, parameters = selection.of_runs(None, "r.timestamp")
    wanted = " AND ".join([f"r.key {ONE_OF_MANY}", *where])
    found = database.execute(f"SELECT r.id FROM runs r WHERE {wanted}", (json.dumps(keys), *parameters))
    return [pk for (pk,) in found]


def require_limit(limit: int) -> None:
    """Raises QueryError unless a page may hold this many rows."""
    if not isinstance(limit, int) or not 1 <= limit <= LARGEST_PAGE:
        raise QueryError(f"limit: a page holds 1 to {LARGEST_PAGE}, not {limit}")


def segments(
    selection: Selection, column: str, descending: bool, position: Position | None, limit: int
) -> Iterator[list[Query]]:
    """The queries of one page, segment by segment until it is full; a row is (id, sort value, key).

    Each query of a segment is in the page's order; the caller merges their rows.
    """
    leading = leading_filter(selection) if column == "timestamp" else None
    table = "runs" if leading is None else DECLARED[leading].table
    aliased = "runs r" if table == "runs" else f"{table} s"
    sorted_by, key, pk = (
        (f"r.{column}", "r.key", "r.id") if table == "runs" else ("s.timestamp", "s.run_key", "s.run_pk")
    )
    where, parameters = selection.of_runs(leading, sorted_by if column == "timestamp" else "r.timestamp")
    if table != "runs" and any("r." in condition for condition in where):
        aliased += " JOIN runs r ON r.id = s.run_pk"
    direction, past = ("DESC", "<") if descending else ("ASC", ">")
    # a run may have several rows in a side table
    columns = f"SELECT {'' if table == 'runs' else 'DISTINCT '}{pk}, {sorted_by}, {key} FROM {aliased} WHERE "
    # all selected columns, so that DISTINCT needs no sort of its own
    ordered = [sorted_by, key, *([] if table == "runs" else [pk])]
    order = f" ORDER BY {', '.join(f'{column} {direction}' for column in ordered)} LIMIT ?"
    if position is None or position.value is not None:
        bounds, values = list(where), list(parameters)
        if position is not None:
            bounds.append(f"({sorted_by}, {key}) {past} (?, ?)")
            values += [position.value, position.key]
        elif column != "timestamp":
            bounds.append(f"{sorted_by} IS NOT NULL")
        if leading is None:
            yield [(columns + (" AND ".join(bounds) or "true") + order, [*values, limit])]
        else:
            each = " AND ".join([f"{pk[0]}.{DECLARED[leading].column} = ?", *bounds])
            yield [(columns + each + order, [value, *values, limit]) for value in selection.groups[leading][0]]
    always_known = column == "timestamp" or (column == "pass_rate" and selection.min_pass_rate is not None)
    if not always_known:
        bounds, values = [*where, f"{sorted_by} IS NULL"], list(parameters)
        if position is not None and position.value is None:
            bounds.append(f"{key} {past} ?")
            values.append(position.key)
        yield [(columns + " AND ".join(bounds) + f" ORDER BY {key} {direction} LIMIT ?", [*values, limit])]


def leading_filter(selection: Selection) -> str | None:
    """The filter whose index yields a page's runs in order, one range for each value."""
    leading = [name for name in selection.groups if DECLARED[name].leads]
    return min(leading, key=lambda name: DECLARED[name].leads, default=None)


def _first(database: Engine, queries: Sequence[Query], limit: int, *, descending: bool) -> Iterable[tuple[Any, ...]]:
    """The first rows of several queries merged in order, each run once.

    The first row of each query decides in which order they are read, and when to stop.
    """
    if len(queries) == 1:
        return database.execute(*queries[0])
    order = itemgetter(slice(1, None))
    heads = [(order(row), query) for query in queries if (row := _head(database, query)) is not None]
    heads.sort(key=itemgetter(0), reverse=descending)
    found: list[tuple[Any, ...]] = []  # ascending
    for head, query in heads:
        if len(found) == limit and (head < order(found[0]) if descending else head > order(found[-1])):
            break
        for row in database.execute(*query):
            at = bisect_left(found, order(row), key=order)
            if len(found) == limit and at == (0 if descending else limit):
                break
            if not (at < len(found) and found[at] == row):
                found.insert(at, row)
            if len(found) > limit:
                found.pop(0 if descending else -1)
    return reversed(found) if descending else found


def _head(database: Engine, query: Query) -> tuple[Any, ...] | None:
    text, (*parameters, _limit) = query
    return next(iter(database.execute(text, [*parameters, 1])), None)


def _sort(sort: str) -> tuple[str, bool]:
    column = sort.removeprefix("-")
    if column not in SORTS:
        raise QueryError(f"sort: {sort!r} is none of {', '.join(SORTS)}, with - in front for descending")
    return column, sort.startswith("-")


def encode(bound: dict[str, Any], value: Any, key: str) -> str:
    """A cursor after a sort value and a key; it is only valid with what it is bound to."""
    text = json.dumps([_digest(bound), value, key], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _digest(bound: dict[str, Any]) -> str:
    """A short digest of what a cursor is bound to, however many values."""
    told = json.dumps(bound, sort_keys=True).encode()
    return base64.b64encode(hashlib.blake2b(told, digest_size=9).digest()).decode()


def decode(cursor: str, bound: dict[str, Any]) -> tuple[Any, str]:
    """The sort value and key of a cursor. Raises QueryError if malformed, or bound to something else."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        cursor_bound, value, key = json.loads(raw)
        f"{value}{key}".encode()  # raises for lone surrogates
    except (ValueError, TypeError, RecursionError, AttributeError):
        raise QueryError("cursor: it is not one of ours") from None
    if not isinstance(key, str):
        raise QueryError("cursor: it is not one of ours")
    if cursor_bound != _digest(bound):
        raise QueryError("cursor: it belongs to another sort or other filters")
    return value, key


def _position(cursor: str, bound: dict[str, Any], column: str) -> Position:
    value, key = decode(cursor, bound)
    expected = str if column == "timestamp" else (int, float, type(None))
    finite = not isinstance(value, float) or math.isfinite(value)
    too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
    if not isinstance(value, expected) or isinstance(value, bool) or not finite or too_large:
        raise QueryError("cursor: it is not one of ours")
    return Position(value, key)
