"""Pages of runs by keyset: constant cost at any depth, right after inserts, deletions and rebuilds.

A page goes on after a (sort value, key) pair, never after an offset or a row id. NULLs come last in both
directions, so a sorted list has two segments, each a range of the index on (column, key): the rows with a
value, compared as a row value `(column, key) < (?, ?)`, which SQLite searches by index
(https://www.sqlite.org/rowvalue.html#scrolling_window_queries), then the rows without.

Each one of experiment, status, target, model, tag and source in timestamp order is answered by an index
that starts with that column; several filters together take one of them and test the rest row by row. For several
values of that one, each is a range of its own, and the ranges are merged.
"""

import base64
import heapq
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.errors import QueryError
from indexer.records import span_seconds, utc, utc_text

SORTS = ("timestamp", "pass_rate", "avg_score", "cost_usd", "duration_s")
STATUSES = ("queued", "running", "completed", "failed", "cancelled")
LARGEST_PAGE = 1000

_TABLES = {
    "tag": "run_tags",
    "target": "run_targets",
    "model": "run_targets",
    "source": "places",
    "experiment": "runs",
    "status": "runs",
}
"""Where the value of a filter is found, in the order in which they lead."""

Values = str | Sequence[str] | None
Query = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which runs: equal values, `since` <= timestamp < `until` (a date, a time, or a span such as `7d` ago).

    Of several values of a filter any counts, but of tags all.
    """

    experiment: Values = None
    target: Values = None
    model: Values = None
    status: Values = None
    source: Values = None
    tag: Values = None
    since: str | None = None
    until: str | None = None
    min_pass_rate: float | None = None
    commit: str | None = None  # a prefix, of at least 4 digits, of the run's, the code's or a naming commit

    def values(self, name: str) -> list[str]:
        """The different values of a filter, sorted; empty without it. Raises QueryError for what is no text."""
        given = getattr(self, name)
        several = isinstance(given, Iterable) and not isinstance(given, str)
        values = list(given) if several else [given] if given is not None else []
        if not all(isinstance(value, str) for value in values):
            raise QueryError(f"{name}: {given!r} is neither a text nor several")
        return sorted(set(values))


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the sort value and key of its last row."""

    value: Any
    key: str


def page_of_ids(
    database: sqlite3.Connection, filters: Filters, sort: str, limit: int, cursor: str | None
) -> tuple[list[int], str | None]:
    """The ids of the runs of a page in order, and the cursor of the next page. Raises QueryError."""
    column, descending = _sort(sort)
    require_limit(limit)
    bound = {name: value for name, value in asdict(filters).items() if value is not None and name not in _TABLES}
    bound |= {name: values for name in _TABLES if (values := filters.values(name))} | {"sort": sort}
    position = _decode(cursor, bound, column) if cursor is not None else None
    ids: list[int] = []
    last: Position | None = None
    for queries in segments(filters, column, descending, position, limit + 1):
        for pk, value, key in _merged(database, queries, descending):
            if len(ids) == limit:
                assert last is not None
                return ids, _encode(last, bound)
            ids.append(pk)
            last = Position(value, key)
    return ids, None


def matching(database: sqlite3.Connection, filters: Filters, keys: Sequence[str]) -> list[int]:
    """The ids of those of some runs that the filters let through. Raises QueryError."""
    where, parameters = _conditions(filters, None, "r.timestamp")
    wanted = " AND ".join(["r.key IN (SELECT value FROM json_each(?))", *where])
    found = database.execute(f"SELECT r.id FROM runs r WHERE {wanted}", (json.dumps(keys), *parameters))
    return [pk for (pk,) in found]


def require_limit(limit: int) -> None:
    """Raises QueryError unless a page may hold this many rows."""
    if not 1 <= limit <= LARGEST_PAGE:
        raise QueryError(f"limit: a page holds 1 to {LARGEST_PAGE}, not {limit}")


def segments(
    filters: Filters, column: str, descending: bool, position: Position | None, limit: int
) -> Iterator[list[Query]]:
    """The queries of one page, (id, sort value, key) a row: those of one segment after the other until it is full.

    Each query of a segment is in the page's order; their rows are to be merged.
    """
    leading = next((name for name in _TABLES if filters.values(name)), None) if column == "timestamp" else None
    table = "runs" if leading is None else _TABLES[leading]
    aliased = "runs r" if table == "runs" else f"{table} s"
    sorted_by, key, pk = (
        (f"r.{column}", "r.key", "r.id") if table == "runs" else ("s.timestamp", "s.run_key", "s.run_pk")
    )
    where, parameters = _conditions(filters, leading, sorted_by if column == "timestamp" else "r.timestamp")
    if table != "runs" and any("r." in condition for condition in where):
        aliased += " JOIN runs r ON r.id = s.run_pk"
    direction, past = ("DESC", "<") if descending else ("ASC", ">")
    # a run may stand in a side table more than once
    columns = f"SELECT {'' if table == 'runs' else 'DISTINCT '}{pk}, {sorted_by}, {key} FROM {aliased} WHERE "
    order = f" ORDER BY {sorted_by} {direction}, {key} {direction} LIMIT ?"
    if position is None or position.value is not None:
        bounds, values = list(where), list(parameters)
        if position is not None:
            bounds.append(f"({sorted_by}, {key}) {past} (?, ?)")
            values += [position.value, position.key]
        elif column != "timestamp":
            bounds.append(f"{sorted_by} IS NOT NULL")
        if leading is None:
            yield [(columns + (" AND ".join(bounds) or "1") + order, [*values, limit])]
        else:
            each = " AND ".join([f"{pk[0]}.{leading} = ?", *bounds])
            led_by = filters.values(leading)[:1] if leading == "tag" else filters.values(leading)
            yield [(columns + each + order, [value, *values, limit]) for value in led_by]
    always_known = column == "timestamp" or (column == "pass_rate" and filters.min_pass_rate is not None)
    if not always_known:
        bounds, values = [*where, f"{sorted_by} IS NULL"], list(parameters)
        if position is not None and position.value is None:
            bounds.append(f"{key} {past} ?")
            values.append(position.key)
        yield [(columns + " AND ".join(bounds) + f" ORDER BY {key} {direction} LIMIT ?", [*values, limit])]


def _merged(database: sqlite3.Connection, queries: Sequence[Query], descending: bool) -> Iterator[tuple[Any, ...]]:
    """The rows of several queries in one order, each run once."""
    if len(queries) == 1:
        yield from database.execute(*queries[0])
        return
    last = None
    rows = (database.execute(*query) for query in queries)
    for row in heapq.merge(*rows, key=lambda row: row[1:], reverse=descending):
        if row[0] != last:
            last = row[0]
            yield row


def _conditions(filters: Filters, leading: str | None, time: str) -> tuple[list[str], list[Any]]:
    """The conditions beside the leading filter, of whose values the first tag is meant; `time` is their column."""
    where: list[str] = []
    parameters: list[Any] = []
    for name, when in (("since", ">="), ("until", "<")):
        if (text := getattr(filters, name)) is not None:
            where.append(f"{time} {when} ?")
            parameters.append(moment(text, name))
    if wrong := set(filters.values("status")) - set(STATUSES):
        raise QueryError(f"status: {min(wrong)!r} is none of {', '.join(STATUSES)}")
    for name, table in _TABLES.items():
        values = filters.values(name)
        if name == "tag":
            alternatives = [[value] for value in (values[1:] if leading == "tag" else values)]
        else:
            alternatives = [values] if values and name != leading else []
        for some in alternatives:
            is_one = "= ?" if len(some) == 1 else f"IN ({', '.join('?' * len(some))})"
            if table == "runs":
                where.append(f"r.{name} {is_one}")
            else:
                where.append(f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_pk = r.id AND x.{name} {is_one})")
            parameters += some
    if filters.min_pass_rate is not None:
        if not 0 <= filters.min_pass_rate <= 1:
            raise QueryError(f"min_pass_rate: {filters.min_pass_rate} is not between 0 and 1")
        where.append("r.pass_rate >= ?")
        parameters.append(filters.min_pass_rate)
    if filters.commit is not None:
        if len(filters.commit) < 4 or not set(filters.commit.lower()) <= set("0123456789abcdef"):
            raise QueryError(f"commit: {filters.commit!r} is no commit id of at least 4 digits")
        names = "(r.key, r.run_id, r.format || ':' || r.run_id)"  # a trailer names a run by its id, or its key
        named = f"SELECT 1 FROM run_commits c WHERE c.run_key IN {names} AND c.sha GLOB ?"
        where.append(f"(r.sha GLOB ? OR r.code_sha GLOB ? OR EXISTS ({named}))")
        parameters += [f"{filters.commit.lower()}*"] * 3
    return where, parameters


def moment(text: str, name: str) -> str:
    """A date, a time or a span before now as UTC text. Raises QueryError that names the filter."""
    try:
        return utc_text(datetime.now(UTC) - timedelta(seconds=span_seconds(text)))
    except (ValueError, OverflowError):
        pass
    time = utc(text)
    if time is None:
        raise QueryError(f"{name}: {text!r} is no date (2026-11-22), time or span (7d)")
    return time


def _sort(sort: str) -> tuple[str, bool]:
    column = sort.removeprefix("-")
    if column not in SORTS:
        raise QueryError(f"sort: {sort!r} is none of {', '.join(SORTS)}, with - in front for descending")
    return column, sort.startswith("-")


def _encode(position: Position, bound: dict[str, Any]) -> str:
    text = json.dumps([bound, position.value, position.key], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, bound: dict[str, Any], column: str) -> Position:
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = json.loads(raw)
        cursor_bound, value, key = content
        f"{value}{key}".encode()  # raises for halves of characters
    except (ValueError, TypeError, RecursionError):
        raise QueryError("cursor: it is not one of ours") from None
    expected = str if column == "timestamp" else (int, float, type(None))
    finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(key, str) or not isinstance(value, expected) or isinstance(value, bool) or not finite:
        raise QueryError("cursor: it is not one of ours")
    if cursor_bound != bound:
        raise QueryError("cursor: it belongs to another sort or other filters")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise QueryError("cursor: it is not one of ours")
    return Position(value, key)
