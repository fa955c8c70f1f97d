"""What the dashboards show of the last days before the newest run that ended."""

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from indexer import Index
from indexer.errors import QueryError
from indexer.queries.filters import Filters
from indexer.records import utc_text
from indexer.render import dollars
from indexer.web import charts

LONGEST = 366
"""Days at most."""
NO_TARGET = "(no target)"
MOST = 15
"""Rows of a table."""

Row = dict[str, Any]
_NEWEST = """
SELECT max(timestamp) AS timestamp FROM runs WHERE status = 'completed' AND timestamp <= :now
UNION ALL SELECT max(timestamp) FROM runs WHERE status = 'failed' AND timestamp <= :now ORDER BY 1 DESC LIMIT 1
"""
_NEWEST_OF = """
SELECT timestamp FROM runs WHERE experiment = :experiment AND on_boards AND timestamp <= :now
ORDER BY timestamp DESC LIMIT 1
"""
_SLOWEST = """
SELECT trials.suite, trials.test_id, trials.target, count(*) AS executions, avg(trials.duration_s) AS duration_s
FROM runs CROSS JOIN trials ON trials.run_pk = runs.id
WHERE runs.timestamp BETWEEN :since AND :now AND runs.on_boards
  AND (:experiment IS NULL OR runs.experiment = :experiment) AND trials.duration_s IS NOT NULL
GROUP BY trials.suite, trials.test_id, trials.target ORDER BY duration_s DESC LIMIT :most
"""


def dashboards(index: Index, experiment: str | None, days: int, base: str) -> Row:
    """Charts and tables over so many days; `experiment` narrows them down. Raises QueryError.

    `base` is where the pages are, for the links of charts.
    """
    if not 1 <= days <= LONGEST:
        raise QueryError(f"days: {days} is not between 1 and {LONGEST}")
    now = utc_text(datetime.now(UTC))
    found = index.select(_NEWEST_OF if experiment else _NEWEST, experiment=experiment, now=now)
    newest = max((row["timestamp"] or "" for row in found), default="")
    if not newest:
        return {"days": days, "since": "", "empty": True}
    try:
        since = utc_text(datetime.fromisoformat(newest) - timedelta(days=days))
    except OverflowError:
        since = ""
    chosen = {"since": since, "now": now, "experiment": experiment, "most": MOST}
    part = Filters(since=since or "0001-01-01T00:00:00Z", until=now)
    if experiment:
        part["experiment"] = experiment
    daily = index.leaderboard(by="day", across="target", **part)[:-1]
    every_day = sorted({row["day"] for row in daily})
    rates, costs = _rates(daily, every_day), _costs(daily, every_day)

    def address(target: str | None, day: str) -> str | None:
        if target == NO_TARGET:
            return None
        after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
        given = {
            "since": day,
            "until": after,
            "target": target,
            "experiment": experiment,
        }
        return f"{base}/runs?{urlencode({name: value for name, value in given.items() if value})}"

    return {
        "days": days,
        "since": since,
        "empty": not daily,
        "rates": charts.lines("Passed of the verdicts by day and target", every_day, rates, address),
        "targets": list(rates),
        "left_out": len({row["target"] for row in daily}) - len(rates),
        "costs": charts.bars("Cost by day", every_day, costs, dollars, address) if any(costs) else None,
        "numbers": zip(every_day, zip(*rates.values(), strict=True), costs, strict=True),
        "matrix": _matrix(index.leaderboard(by="experiment", across="target", **part)[:-1]),
        "flaky": index.flaky(limit=MOST, **part),
        "slowest": index.select(_SLOWEST, **chosen),
    }


def _rates(daily: list[Row], days: list[str]) -> dict[str, list[float | None]]:
    """The rate of each day, passed of the verdicts, for the targets with most of them."""
    passed, trials = defaultdict[tuple[str, str], int](int), defaultdict[tuple[str, str], int](int)
    weight = defaultdict[str, int](int)
    for row in daily:
        target = row["target"] or NO_TARGET
        passed[target, row["day"]] += row["passed"]
        trials[target, row["day"]] += row["passed"] + row["failed"]
        weight[target] += row["passed"] + row["failed"]
    shown = sorted(weight, key=lambda target: (-weight[target], target))[: charts.COLOURS]
    return {
        target: [passed[target, day] / trials[target, day] if trials[target, day] else None for day in days]
        for target in shown
    }


def _costs(daily: list[Row], days: list[str]) -> list[float | None]:
    known = defaultdict[str, list[float]](list)
    for row in daily:
        if row["cost_usd"] is not None:
            known[row["day"]].append(row["cost_usd"])
    return [math.fsum(known[day]) if known[day] else None for day in days]


def _matrix(board: list[Row]) -> Row:
    """Experiments down, targets across, with a row of the leaderboard in each cell."""
    cells = {(row["experiment"], row["target"]): row for row in board}
    experiments = sorted({experiment for experiment, _ in cells})
    targets = sorted({target for _, target in cells}, key=lambda target: target or "")
    return {"experiments": experiments, "targets": targets, "cells": cells}
