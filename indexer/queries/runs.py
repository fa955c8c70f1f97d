"""Runs as readers get them: pages, one run with what belongs to it, trends."""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo
from typing import Any, Generic, TypeVar, cast, overload

from indexer.queries import filters
from indexer.queries.engines import ONE_OF_MANY
from indexer.queries.filters import Filters
from indexer.queries.pages import matching, page_of_ids
from indexer.queries.select import dicts
from indexer.queries.selection import select
from indexer.queries.types import CommitRow, PlaceRow, RunDetails, RunRow, TargetRow, TrialRow
from indexer.store.rows import RUN, TARGET

PUBLIC = (*RUN, "rev")
"""The columns of `runs` without its internal id."""

_COMMITS = """
SELECT c.repo, c.sha, c.committed_at, c.subject, replace(s.web_url, '{sha}', c.sha) AS url
FROM run_commits c LEFT JOIN sources s ON s.name = c.repo WHERE c.run_key IN (?, ?, ?)
ORDER BY c.committed_at NULLS FIRST, c.repo, c.sha
"""
_TREND = """
SELECT target, pass_rate FROM (
  SELECT target, pass_rate, on_boards FROM runs WHERE experiment = ? ORDER BY timestamp DESC, key DESC LIMIT 100
) AS newest WHERE on_boards
"""
_TARGET_ORDER = "target NULLS FIRST, agent NULLS FIRST, model NULLS FIRST, suite NULLS FIRST"
_TARGET = tuple(column for column in TARGET if column not in ("run_key", "timestamp", "experiment", "on_boards"))
_PLACE = ", ".join(PlaceRow.__annotations__)

Trend = list[float | None]
Content = TypeVar("Content")


class Rows(Sequence[Content], Generic[Content]):
    """A page: a sequence of rows, and the cursor of the next page, which is None at the end."""

    def __init__(self, rows: list[Content], next_cursor: str | None):
        self._rows, self.next_cursor = rows, next_cursor

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Content: ...
    @overload
    def __getitem__(self, at: slice) -> list[Content]: ...
    def __getitem__(self, at: int | slice) -> Content | list[Content]:
        return self._rows[at]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}{', more follow' if self.next_cursor else ''}>"


class Page(Rows[RunRow]):
    """Some runs in order."""

    @property
    def runs(self) -> list[RunRow]:
        return self._rows


class TrialPage(Rows[TrialRow]):
    """Some trials in order."""

    @property
    def trials(self) -> list[TrialRow]:
        return self._rows


def page(
    database: sqlite3.Connection, wanted: Filters, zone: tzinfo, *, sort: str, limit: int, cursor: str | None
) -> Page:
    """A page of runs. Raises QueryError."""
    selection = select(database, wanted, zone)
    ids, next_cursor = page_of_ids(database, selection, filters.given(wanted), sort, limit, cursor)
    return Page(by_ids(database, ids), next_cursor)


def count(database: sqlite3.Connection, wanted: Filters, zone: tzinfo) -> int:
    """How many runs the filters let through. Raises QueryError."""
    where, values = select(database, wanted, zone).of_runs(None, "r.timestamp")
    (number,) = database.execute(
        f"SELECT count(*) FROM runs r WHERE {' AND '.join(where) or 'true'}", values
    ).fetchone()
    return int(number)


def let_through(database: sqlite3.Connection, keys: Sequence[str], wanted: Filters, zone: tzinfo) -> list[RunRow]:
    """The runs with these keys that the filters select. Raises QueryError."""
    return by_ids(database, matching(database, select(database, wanted, zone), keys))


def details(database: sqlite3.Connection, pk: int) -> RunDetails:
    """A run with its targets, places and the commits that name it."""
    run = by_ids(database, [pk])[0]
    names = (run["key"], run["run_id"], f"{run['format']}:{run['run_id']}")
    query = f"SELECT {', '.join(_TARGET)} FROM run_targets WHERE run_pk = ? ORDER BY {_TARGET_ORDER}"
    targets = cast("list[TargetRow]", dicts(database, query, pk))
    for target in targets:
        target["outcomes"] = json.loads(cast("str", target["outcomes"]))
    places = dicts(database, f"SELECT {_PLACE} FROM places WHERE run_pk = ? ORDER BY source, path, ref NULLS FIRST", pk)
    commits = cast("list[CommitRow]", dicts(database, _COMMITS, *names))
    return {**run, "targets": targets, "places": cast("list[PlaceRow]", places), "commits": commits}


def datasets(database: sqlite3.Connection, keys: Sequence[str]) -> Mapping[str, str]:
    """The datasets of these runs by key, joined by `, `; only of runs that have any."""
    query = (
        "SELECT DISTINCT s.run_key, s.suite FROM runs r JOIN run_targets s ON s.run_pk = r.id "
        f"WHERE r.key {ONE_OF_MANY} AND s.suite IS NOT NULL ORDER BY s.suite"
    )
    found: dict[str, str] = {}
    for key, suite in database.execute(query, (json.dumps(keys),)):
        found[key] = f"{found[key]}, {suite}" if key in found else suite
    return found


def trends(
    database: sqlite3.Connection, experiments: Collection[str], runs: int
) -> Mapping[tuple[str, str | None], Trend]:
    """Pass rates by experiment and target, oldest first: the newest ended runs among the last 100."""
    found: dict[tuple[str, str | None], Trend] = {}
    for experiment in experiments:
        for target, rate in database.execute(_TREND, (experiment,)):
            found.setdefault((experiment, target), []).append(rate)
    return {group: rates[:runs][::-1] for group, rates in found.items()}


def key_of(database: sqlite3.Connection, pk: int) -> str:
    """The key of a run by its id."""
    (key,) = database.execute("SELECT key FROM runs WHERE id = ?", (pk,)).fetchone()
    return str(key)


def unnamed(database: sqlite3.Connection) -> Mapping[str, int]:
    """By code repository: how many trailers of its commits name no run of the index."""
    named = (
        "r.key = c.run_key",
        "r.run_id = c.run_key",
        (
            "r.run_id = substr(c.run_key, instr(c.run_key, ':') + 1) "
            "AND r.format = substr(c.run_key, 1, instr(c.run_key, ':') - 1)"
        ),
    )
    none = " AND ".join(f"NOT EXISTS (SELECT 1 FROM runs r WHERE {condition})" for condition in named)
    query = f"SELECT repo, count(*) FROM run_commits c WHERE {none} GROUP BY repo ORDER BY repo"
    return dict(database.execute(query).fetchall())


def by_ids(database: sqlite3.Connection, ids: Sequence[int]) -> list[RunRow]:
    """Runs in the order of the given ids."""
    rows: dict[int, Any] = {}
    for at in range(0, len(ids), 500):
        some = ids[at : at + 500]
        statement = f"SELECT id, {', '.join(PUBLIC)} FROM runs WHERE id IN ({', '.join('?' * len(some))})"
        for row in dicts(database, statement, *some):
            row["tags"] = json.loads(row["tags"])
            row["derived_from"] = json.loads(row["derived_from"]) if row["derived_from"] else None
            rows[row.pop("id")] = row
    return [rows[pk] for pk in ids]
