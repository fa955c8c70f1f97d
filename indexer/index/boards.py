"""Boards over runs that ended: which target solves most at what cost, and what goes wrong most often."""

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from indexer.errors import QueryError
from indexer.index.file import view_query
from indexer.index.pages import moment, require_limit
from indexer.index.select import Row, dicts
from indexer.statistics import pass_at_k, wilson

LARGEST_K = 1000
COUNTED = "('passed', 'failed', 'errored')"

_OUTCOMES = """
SELECT experiment, target, outcomes, count(*) FROM run_targets WHERE on_boards {}
GROUP BY experiment, target, outcomes
"""
_FAILURES = """
SELECT t.status, t.error_type, t.suite, t.test_id, t.target, count(*) AS trials, count(DISTINCT t.run_pk) AS runs,
       max(t.timestamp) AS last_run
FROM trials t CROSS JOIN runs r ON r.id = t.run_pk
WHERE t.status IN ('failed', 'errored') AND r.on_boards {}
GROUP BY t.status, t.error_type, t.suite, t.test_id, t.target
ORDER BY count(*) DESC, max(t.timestamp) DESC, t.status, t.error_type, t.suite, t.test_id, t.target LIMIT ?
"""
OF_TRIALS = {"experiment": "r.experiment", "target": "t.target", "timestamp": "t.timestamp"}
"""Where `Part.conditions` finds its columns in a query over `trials t` and `runs r`."""
_OPERATORS = {"since": ">=", "until": "<"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which runs a board is about: `since` <= timestamp < `until`, texts as for `runs`."""

    experiment: str | None = None
    target: str | None = None
    since: str | None = None
    until: str | None = None

    def conditions(self, columns: Mapping[str, str]) -> tuple[str, list[Any]]:
        """SQL that starts with AND, and its values; `columns` names those that are not called as here."""
        sql, values = "", list[Any]()
        for name, value in asdict(self).items():
            if value is not None:
                column = "timestamp" if name in _OPERATORS else name
                sql += f" AND {columns.get(column, column)} {_OPERATORS.get(name, '=')} ?"
                values.append(moment(value, name) if name in _OPERATORS else value)
        return sql, values


def leaderboard(database: sqlite3.Connection, part: Part, k: int = 1) -> list[Row]:
    """The rows of the view `leaderboard` with `interval` and `pass_at_k`; by experiment, the best target first.

    `interval` is the 95 % interval of `pass_rate`, `pass_at_k` the mean over tests with at least `k` executions in a
    run; both are None where there are none. Raises QueryError.
    """
    if not 1 <= k <= LARGEST_K:
        raise QueryError(f"k: {k} is not between 1 and {LARGEST_K}")
    where, values = part.conditions({})
    board = dicts(database, view_query("leaderboard", where), *values)
    # a test that was executed once is its own estimate; outcomes of repeats take longer to read
    estimates = {(row["experiment"], row["target"]): row["pass_rate"] for row in board if k == 1}
    if any(row["trials"] != row["tests"] for row in board):
        estimates = _pass_at_k(database.execute(_OUTCOMES.format(where), values), k)
    for row in board:
        row |= {name: None for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
        row["interval"] = wilson(row["passed"], row["trials"])
        row["pass_at_k"] = estimates.get((row["experiment"], row["target"]))
    return sorted(board, key=lambda row: (row["experiment"], -(row["pass_rate"] or 0), row["target"] or ""))


def _pass_at_k(outcomes: Iterable[tuple[str, str | None, str, int]], k: int) -> dict[tuple[str, str | None], float]:
    """The mean estimate over tests, from rows of (experiment, target, outcomes, how many configurations had them)."""
    tests: dict[tuple[str, str | None], list[tuple[float, int]]] = {}
    for experiment, target, text, times in outcomes:
        for executions, passed, count in json.loads(text):
            estimate = pass_at_k(executions, passed, k)
            if estimate is not None:
                tests.setdefault((experiment, target), []).append((estimate, count * times))
    return {
        group: math.fsum(estimate * count for estimate, count in each) / sum(count for _, count in each)
        for group, each in tests.items()
    }


def failures(database: sqlite3.Connection, part: Part, limit: int = 50) -> list[Row]:
    """How often which test failed with which error for which target, the most frequent first. Raises QueryError.

    `status` is `errored`, or `failed` where there was a verdict; `error_type` is None where nothing is told of it.
    """
    require_limit(limit)
    where, values = part.conditions(OF_TRIALS)
    return dicts(database, _FAILURES.format(where), *values, limit)
