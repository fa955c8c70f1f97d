"""What the dashboards show of the last days before the newest run that ended."""

import math
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from indexer import Index
from indexer.errors import QueryError
from indexer.queries.filters import Filters
from indexer.records import utc_text
from indexer.render import dollars, duration, percent
from indexer.web import charts

LONGEST = 366
"""Most days."""
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
    """Charts and tables over `days` days, of one `experiment` if given. Raises QueryError.

    `base` is the base URL for links in charts.
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
    targets, costs = _weightiest(daily), _costs(daily, every_day)

    def by_target(column: str) -> dict[str | None, list[Any]]:
        found = {(row["target"], row["day"]): row[column] for row in daily}
        return {target: [found.get((target, day)) for day in every_day] for target in targets}

    def address(target: str | None, day: str) -> str:
        after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
        given = {"since": day, "until": after, "target": target, "experiment": experiment}
        return f"{base}/runs?{urlencode({name: value for name, value in given.items() if value})}"

    def of_target(target: str | None, day: str) -> str | None:
        return None if target is None else address(target, day)  # no filter selects runs without one

    def lines(title: str, values: charts.Series, label: charts.Label, **more: Any) -> Any:
        return charts.lines(f"{title} by day and target", every_day, values, label, of_target, **more)

    rates, scores, seconds = by_target("quality_rate"), by_target("score"), by_target("duration_s")
    return {
        "days": days,
        "since": since,
        "empty": not daily,
        "rates": lines("Passed of the verdicts", rates, percent, most=1.0, bounds=by_target("interval")),
        "scores": lines("Mean score", scores, "{:.3g}".format, most=1.0),
        "seconds": lines("Mean duration", seconds, duration) if any(map(_known, seconds.values())) else None,
        "costs": charts.bars("Cost by day", every_day, costs, dollars, lambda day: address(None, day))
        if _known(costs)
        else None,
        "targets": targets,
        "left_out": len({row["target"] for row in daily}) - len(targets),
        "numbers": [
            (day, [tuple(each[target][at] for each in (rates, scores, seconds)) for target in targets], costs[at])
            for at, day in enumerate(every_day)
        ],
        "matrix": _matrix(index.leaderboard(by="experiment", across="target", **part)[:-1]),
        "flaky": index.flaky(limit=MOST, **part),
        "slowest": index.select(_SLOWEST, **chosen),
    }


def _weightiest(daily: list[Row]) -> list[str | None]:
    """The targets with the most verdicts, as many as a chart can tell apart."""
    weight = Counter[str | None]()
    for row in daily:
        weight[row["target"]] += row["passed"] + row["failed"]
    return sorted(weight, key=lambda target: (-weight[target], target or ""))[: charts.COLOURS]


def _costs(daily: list[Row], days: list[str]) -> list[float | None]:
    known = defaultdict[str, list[float]](list)
    for row in daily:
        if row["cost_usd"] is not None:
            known[row["day"]].append(row["cost_usd"])
    return [_sum(known[day]) if known[day] else None for day in days]


def _known(values: list[float | None]) -> bool:
    """Whether any value is known; 0 is one."""
    return any(value is not None for value in values)


def _sum(values: list[float]) -> float | None:
    """The sum; None if it overflows."""
    try:
        return math.fsum(values)
    except OverflowError:
        return None


def _matrix(board: list[Row]) -> Row:
    """Experiments down, targets across, with a row of the leaderboard in each cell."""
    cells = {(row["experiment"], row["target"]): row for row in board}
    experiments = sorted({experiment for experiment, _ in cells})
    targets = sorted({target for _, target in cells}, key=lambda target: target or "")
    return {"experiments": experiments, "targets": targets, "cells": cells}
