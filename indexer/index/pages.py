"""Pages of runs by keyset: constant cost at any depth, right after inserts, deletions and rebuilds.

A page goes on after a (sort value, key) pair, never after an offset or a row id. NULLs come last in both
directions, so a sorted list has two segments, each a range of the index on (column, key): the rows with a
value, compared as a row value `(column, key) < (?, ?)`, which SQLite searches by index
(https://www.sqlite.org/rowvalue.html#scrolling_window_queries), then the rows without.

Each one of experiment, status, target, model, tag and source in timestamp order is answered by an index
that starts with that column; several filters together take one of them and test the rest row by row.
"""

import base64
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.errors import QueryError
from indexer.records import span_seconds, utc, utc_text

SORTS = ("timestamp", "pass_rate", "avg_score", "cost_usd", "duration_s")
STATUSES = ("queued", "running", "completed", "failed", "cancelled")
LARGEST_PAGE = 1000

_SIDE_TABLES = {
    "tag": ("run_tags", "tag"),
    "target": ("run_targets", "target"),
    "model": ("run_targets", "model"),
    "source": ("places", "source"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which runs: equal values, `since` <= timestamp < `until` (a date, a time, or a span such as `7d` ago)."""

    experiment: str | None = None
    target: str | None = None
    model: str | None = None
    status: str | None = None
    source: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    min_pass_rate: float | None = None
    commit: str | None = None  # a prefix, of at least 4 digits, of the run's, the code's or a naming commit


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
    bound = {name: value for name, value in asdict(filters).items() if value is not None} | {"sort": sort}
    position = _decode(cursor, bound, column) if cursor is not None else None
    ids: list[int] = []
    last: Position | None = None
    for statement, parameters in statements(filters, column, descending, position, limit + 1):
        for pk, value, key in database.execute(statement, parameters):
            if len(ids) == limit:
                assert last is not None
                return ids, _encode(last, bound)
            ids.append(pk)
            last = Position(value, key)
    return ids, None


def matching(database: sqlite3.Connection, filters: Filters, keys: Sequence[str]) -> list[int]:
    """The ids of those of some runs that the filters let through. Raises QueryError."""
    table, where, parameters = _source_of_rows(filters, "key")
    wanted = " AND ".join(["r.key IN (SELECT value FROM json_each(?))", *where])
    found = database.execute(f"SELECT r.id FROM {table} WHERE {wanted}", (json.dumps(keys), *parameters))
    return [pk for (pk,) in found]


def require_limit(limit: int) -> None:
    """Raises QueryError unless a page may hold this many rows."""
    if not 1 <= limit <= LARGEST_PAGE:
        raise QueryError(f"limit: a page holds 1 to {LARGEST_PAGE}, not {limit}")


def statements(
    filters: Filters, column: str, descending: bool, position: Position | None, limit: int
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The queries of one page, (id, sort value, key) a row, to be run until the page is full."""
    table, where, parameters = _source_of_rows(filters, column)
    sorted_by, key, pk = (
        (f"r.{column}", "r.key", "r.id") if table == "runs r" else ("s.timestamp", "s.run_key", "s.run_pk")
    )
    direction, past = ("DESC", "<") if descending else ("ASC", ">")
    # a run may stand in a side table more than once
    columns = f"SELECT {'' if table == 'runs r' else 'DISTINCT '}{pk}, {sorted_by}, {key} FROM {table} WHERE "
    order = f" ORDER BY {sorted_by} {direction}, {key} {direction} LIMIT ?"
    if position is None or position.value is not None:
        bounds, values = list(where), list(parameters)
        if position is not None:
            bounds.append(f"({sorted_by}, {key}) {past} (?, ?)")
            values += [position.value, position.key]
        elif column != "timestamp":
            bounds.append(f"{sorted_by} IS NOT NULL")
        yield columns + (" AND ".join(bounds) or "1") + order, [*values, limit]
    always_known = column == "timestamp" or (column == "pass_rate" and filters.min_pass_rate is not None)
    if not always_known:
        bounds, values = [*where, f"{sorted_by} IS NULL"], list(parameters)
        if position is not None and position.value is None:
            bounds.append(f"{key} {past} ?")
            values.append(position.key)
        yield columns + " AND ".join(bounds) + f" ORDER BY {key} {direction} LIMIT ?", [*values, limit]


def _source_of_rows(filters: Filters, column: str) -> tuple[str, list[str], list[Any]]:
    """What to select from, and the conditions: a side table leads where its index has the order, else `runs`."""
    leading = next((name for name in _SIDE_TABLES if getattr(filters, name) is not None), None)
    if column != "timestamp":
        leading = None
    where: list[str] = []
    parameters: list[Any] = []
    if leading:
        where.append(f"s.{_SIDE_TABLES[leading][1]} = ?")
        parameters.append(getattr(filters, leading))
    others, values = _row_conditions(filters, leading)
    time = "s.timestamp" if leading else "r.timestamp"
    for condition, when in (("since", ">="), ("until", "<")):
        if (text := getattr(filters, condition)) is not None:
            where.append(f"{time} {when} ?")
            parameters.append(moment(text, condition))
    if not leading:
        return "runs r", where + others, parameters + values
    table = f"{_SIDE_TABLES[leading][0]} s"
    return (f"{table} JOIN runs r ON r.id = s.run_pk" if others else table), where + others, parameters + values


def _row_conditions(filters: Filters, leading: str | None) -> tuple[list[str], list[Any]]:
    """The conditions on `runs r` beside time and the leading filter."""
    where: list[str] = []
    parameters: list[Any] = []
    for name in ("experiment", "status"):
        if (value := getattr(filters, name)) is not None:
            where.append(f"r.{name} = ?")
            parameters.append(value)
    if filters.status is not None and filters.status not in STATUSES:
        raise QueryError(f"status: {filters.status!r} is none of {', '.join(STATUSES)}")
    if filters.min_pass_rate is not None:
        if not 0 <= filters.min_pass_rate <= 1:
            raise QueryError(f"min_pass_rate: {filters.min_pass_rate} is not between 0 and 1")
        where.append("r.pass_rate >= ?")
        parameters.append(filters.min_pass_rate)
    for name, (table, column) in _SIDE_TABLES.items():
        if name != leading and (value := getattr(filters, name)) is not None:
            where.append(f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_pk = r.id AND x.{column} = ?)")
            parameters.append(value)
    if filters.commit is not None:
        if len(filters.commit) < 4 or not set(filters.commit.lower()) <= set("0123456789abcdef"):
            raise QueryError(f"commit: {filters.commit!r} is no commit id of at least 4 digits")
        names = "(r.key, r.format || ':' || r.run_id)"  # a trailer names a run by its id
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
