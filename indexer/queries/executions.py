"""Results of executions: the counts behind comparisons, histories and boards.

An execution is a trial that counts: passed, failed or errored, in a run that ended. A test is (suite, test_id). An
error is not a verdict: it says nothing about what is tested.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer import derive
from indexer.queries.select import Row
from indexer.statistics import Effect, Interval, Table, rates, scores, wilson

COUNTED = str(derive.COUNTED)
"""The counted statuses as an SQL list."""

Test = tuple[str | None, str | None]
"""(suite, test_id)."""


@dataclass(slots=True)
class Tally:
    """Counts of executions. `scores` are the known scores of those that did not error."""

    passed: int = 0
    failed: int = 0
    errored: int = 0
    scores: list[float] = field(default_factory=list)

    @property
    def verdicts(self) -> int:
        return self.passed + self.failed

    @property
    def executions(self) -> int:
        return self.passed + self.failed + self.errored

    def add(self, status: str, score: float | None, times: int = 1) -> None:
        """Count executions that ended alike."""
        setattr(self, status, getattr(self, status) + times)
        if score is not None and status != "errored":
            self.scores += [score] * times

    def merge(self, other: "Tally") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.errored += other.errored
        self.scores += other.scores

    def row(self) -> Row:
        """As answers show it; `score` is the mean."""
        return {
            "executions": self.executions,
            "passed": self.passed,
            "failed": self.failed,
            "errored": self.errored,
            "score": mean(self.scores),
        }


def mean(values: Sequence[float]) -> float | None:
    """The mean; None without values, or if their sum overflows."""
    return derive.mean(list(values))


def whole(value: float | None) -> int | None:
    """A sum of counts as an integer; the queries sum floats, since integers may overflow."""
    return None if value is None else int(value)


def quality(tally: Tally) -> Row:
    """Counts of passed and of verdicts, the rate of passed and its 95 % interval; both None without a verdict."""
    interval: Interval | None = wilson(tally.passed, tally.verdicts)
    rate = tally.passed / tally.verdicts if tally.verdicts else None
    return {"passed": tally.passed, "verdicts": tally.verdicts, "quality_rate": rate, "interval": interval}


MEASURES = ("quality_rate", "errors", "score")
"""Measures for comparing two sides, never mixed."""


def effect(measure: str, pairs: Iterable[tuple[Tally, Tally]]) -> Effect:
    """The difference of two sides, test by test, by one measure."""
    if measure == "quality_rate":
        return rates([Table(a.passed, a.verdicts, b.passed, b.verdicts) for a, b in pairs])
    if measure == "errors":
        return rates([Table(a.errored, a.executions, b.errored, b.executions) for a, b in pairs])
    return scores([(a.scores, b.scores) for a, b in pairs])


def varies(scores: Iterable[float]) -> bool:
    """Whether scores say more than verdicts do."""
    return any(score not in (0.0, 1.0) for score in scores)


def tallied(
    database: sqlite3.Connection, columns: str, where: str, values: Sequence[Any]
) -> dict[tuple[Any, ...], Tally]:
    """Executions grouped by columns of `trials t` and `runs r`; `where` starts with AND."""
    statement = (
        f"SELECT {columns}, t.status, t.score, count(*) FROM runs r CROSS JOIN trials t ON t.run_pk = r.id "
        f"WHERE t.status IN {COUNTED}{where} GROUP BY {columns}, t.status, t.score"
    )
    found: dict[tuple[Any, ...], Tally] = {}
    for *group, status, score, times in database.execute(statement, values):
        found.setdefault(tuple(group), Tally()).add(status, score, times)
    return found
