"""What fell most lately: a recent window of runs against the one before, by experiment x target and by test.

A window is a number of runs that ended (of that experiment with that target), or a span of time back from the newest of
them. Rates are compared by their 95 % intervals: `gap` is how far these are apart, negative where they overlap,
so a few executions never rank before many.
"""

import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta

from indexer.errors import QueryError
from indexer.index.boards import COUNTED
from indexer.index.pages import require_limit
from indexer.index.select import Row, distinct
from indexer.records import span_seconds, utc_text
from indexer.statistics import rate, wilson

FEWEST = 5
"""Executions that both windows must have."""
WINDOW = "10"

_GROUP = "FROM run_targets WHERE experiment = ? AND target IS ? AND on_boards"
_NEWEST = f"SELECT DISTINCT run_pk, timestamp, run_key {_GROUP} ORDER BY timestamp DESC, run_key DESC LIMIT ? OFFSET ?"
_BETWEEN = f"SELECT DISTINCT run_pk {_GROUP} AND timestamp > ? AND timestamp <= ?"
_TESTS = f"""
SELECT t.suite, t.test_id, sum(t.status = 'passed'), count(*)
FROM json_each(?) w CROSS JOIN trials t ON t.run_pk = w.value
WHERE t.target IS ? AND t.status IN {COUNTED} GROUP BY t.suite, t.test_id
"""
Counts = dict[tuple[str | None, str | None], tuple[int, int]]
"""Passed and all executions by (suite, test_id)."""


def drift(
    database: sqlite3.Connection,
    *,
    window: str = WINDOW,
    experiment: str | None = None,
    target: str | None = None,
    limit: int = 20,
) -> dict[str, list[Row]]:
    """`targets` and `tests` whose pass rate fell, each with `before`, `recent` and `gap`, the widest gap first.

    Raises QueryError for a window that is neither a number of runs nor a span.
    """
    require_limit(limit)
    targets: list[Row] = []
    tests: list[Row] = []
    for group in _groups(database, experiment, target):
        recent, before = _windows(database, group, window)
        if not recent or not before:
            continue
        now, then = (_tests(database, runs, group[1]) for runs in (recent, before))
        name = {"experiment": group[0], "target": group[1]}
        targets += _fallen(name, _sum(then), _sum(now))
        for suite, test_id in then.keys() & now.keys():
            test = (suite, test_id)
            tests += _fallen(name | {"suite": suite, "test_id": test_id}, then[test], now[test])
    return {"targets": _widest_first(targets)[:limit], "tests": _widest_first(tests)[:limit]}


def _groups(
    database: sqlite3.Connection, experiment: str | None, target: str | None
) -> Iterator[tuple[str, str | None]]:
    """Every experiment x target, each found by one step in the index."""
    all_runs, one_experiment = "FROM run_targets WHERE 1", "FROM run_targets WHERE experiment = ?"
    for name in [experiment] if experiment is not None else distinct(database, "experiment", all_runs):
        assert name is not None
        targets = [target] if target is not None else distinct(database, "target", one_experiment, name)
        yield from ((name, each) for each in targets)


def _windows(database: sqlite3.Connection, group: tuple[str, str | None], window: str) -> tuple[list[int], list[int]]:
    """The ids of the runs in the recent window and in the one before."""
    if re.fullmatch(r"[1-9]\d{0,3}", window):
        count = int(window)
        newest = [pk for pk, _, _ in database.execute(_NEWEST, (*group, 2 * count, 0))]
        return newest[:count], newest[count:]
    try:
        span = timedelta(seconds=span_seconds(window))
    except ValueError:
        span = timedelta(0)
    if not span:
        raise QueryError(f"window: {window!r} is neither a number of runs (10, at most 9999) nor a span (14d)")
    row = database.execute(_NEWEST, (*group, 1, 0)).fetchone()
    if row is None:
        return [], []
    end = datetime.fromisoformat(row[1])
    try:
        bounds = [utc_text(end), utc_text(end - span), utc_text(end - 2 * span)]
    except OverflowError:
        raise QueryError(f"window: {window!r} reaches beyond all times") from None
    recent, before = (
        [pk for (pk,) in database.execute(_BETWEEN, (*group, bounds[at + 1], bounds[at]))] for at in (0, 1)
    )
    return recent, before


def _tests(database: sqlite3.Connection, runs: list[int], target: str | None) -> Counts:
    counts = database.execute(_TESTS, (json.dumps(runs), target))
    return {(suite, test_id): (passed, executions) for suite, test_id, passed, executions in counts}


def _sum(tests: Counts) -> tuple[int, int]:
    return sum(passed for passed, _ in tests.values()), sum(executions for _, executions in tests.values())


def _fallen(name: Row, before: tuple[int, int], recent: tuple[int, int]) -> Iterator[Row]:
    then, now = wilson(*before), wilson(*recent)
    if min(before[1], recent[1]) < FEWEST or then is None or now is None:
        return
    if recent[0] / recent[1] < before[0] / before[1]:
        yield name | {"before": rate(*before), "recent": rate(*recent), "gap": then[0] - now[1]}


def _widest_first(rows: list[Row]) -> list[Row]:
    names = ("experiment", "target", "suite", "test_id")
    return sorted(rows, key=lambda row: (-row["gap"], *(row.get(name) or "" for name in names)))
