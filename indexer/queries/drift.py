"""What fell lately by more than noise, and since which run.

Groups are each target, target x dataset and target x test, over all experiments. Of a group the last runs that ended
are split where its newest 1, 2, 3, 5, 8, 13 and 21 begin. A split tells something with five verdicts (executions,
scores) on each side over tests that both sides have; it counts as p = 1 where the newer side is not worse. The group's
p-value is the smallest p of its splits times their number, its q-value is over all groups, levels and measures that
were looked at together, and only q < 0.05 is called a fall.

An exact p takes long where there are many tests, so it is computed only where the normal one is below LOOKED_AT; what
is above can never be a fall.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

from indexer.errors import QueryError
from indexer.queries.executions import COUNTED, MEASURES, Tally, Test, varies
from indexer.queries.filters import DECLARED, Filters, Selection, select
from indexer.queries.question import Parameter, Question
from indexer.queries.select import Row, distinct
from indexer.records import span_seconds, utc_text
from indexer.statistics import SIGNIFICANT, Table, exact_p, normal_p, permutation_p, q_values, risk_difference, scores

SPLITS = (1, 2, 3, 5, 8, 13, 21)
"""How many of a group's newest runs are compared with those before."""
FEWEST = 5
"""Verdicts that each side of a split needs over shared tests."""
LEVELS = {"target": (), "dataset": ("suite",), "test": ("suite", "test_id")}
"""By level: what names a group beside its target."""
LOOKED_AT = 0.2
WINDOW = "40"


@dataclass(slots=True)
class RunOfGroup:
    """One run of a group: what identifies it, and its executions by test."""

    facts: Row
    tests: dict[Test, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Split:
    """The newest `newer` runs against those before, by one measure, over the tests that both sides have."""

    newer: int
    p_value: float
    pairs: Sequence[tuple[Tally, Tally]]


def drift(
    database: sqlite3.Connection,
    filters: Filters,
    zone: tzinfo,
    *,
    window: str = WINDOW,
    by: str | None = None,
    every: bool = False,
    limit: int = 20,
) -> Row:
    """`looked_at` and the `groups` that fell, the smallest q-value first; with `every` all that were looked at.

    A group has its `target` (and `suite`, `test_id`), `measure`, `before`, `recent`, `difference`, `interval`,
    `p_value`, `q_value`, `since` and `last_good`. Raises QueryError.
    """
    if by is not None and by not in LEVELS:
        raise QueryError(f"by: {by!r} is none of {', '.join(LEVELS)}")
    if not 1 <= limit <= 1000:
        raise QueryError(f"limit: 1 to 1000 rows, not {limit}")
    runs, span = _window(window)
    selection = select(database, filters, zone)
    found = judged(_groups(database, selection, tuple(LEVELS) if by is None else (by,), runs, span))
    shown = [row for row in found if every or row["q_value"] < SIGNIFICANT]
    return {"looked_at": len(found), "smallest_fall": _smallest(found), "groups": shown[:limit]}


def judged(groups: Iterable[tuple[Row, Sequence[RunOfGroup]]]) -> list[Row]:
    """A row for each measure of each group that can be looked at, the surest fall first; runs are newest first."""
    found = [row for group, newest_first in groups for row in _fallen(group, newest_first)]
    for row, q in zip(found, q_values([row["p_value"] for row in found]), strict=True):
        row["q_value"] = q
    return sorted(found, key=_order)


def change_point(outcomes: Sequence[Row]) -> Row | None:
    """Since when one test of one target fell, from its executions, newest first; None where nothing is shown.

    By the p-value of the pass rate alone, since nothing else was looked at.
    """
    runs: dict[str, RunOfGroup] = {}
    for outcome in outcomes:
        facts = {"run_id": outcome["run_id"], "key": outcome["run_key"], "timestamp": outcome["timestamp"]}
        run = runs.setdefault(outcome["run_key"], RunOfGroup(facts | {"sha": outcome["commit_sha"], "code_sha": None}))
        run.tests.setdefault((None, None), Tally()).add(outcome["status"], outcome["score"])
    found = [row for row in _fallen({}, list(runs.values())) if row["measure"] == "quality_rate"]
    return found[0] if found and found[0]["p_value"] < SIGNIFICANT else None


def _window(window: str) -> tuple[int, timedelta | None]:
    """How many runs of a group are looked at, or how far back. Raises QueryError."""
    if re.fullmatch(r"[1-9]\d{0,3}", window) and int(window) > 1:
        return int(window), None
    try:
        span = timedelta(seconds=span_seconds(window))
        if span:
            return 1000, span
    except (ValueError, OverflowError):
        pass
    raise QueryError(f"window: {window!r} is neither a number of runs (40, from 2 to 9999) nor a span (14d)")


def _groups(
    database: sqlite3.Connection, selection: Selection, levels: Sequence[str], most: int, span: timedelta | None
) -> Iterator[tuple[Row, list[RunOfGroup]]]:
    """Each group of some levels with its last runs, newest first."""
    earliest = _earliest(database, span)
    tests = list(_tests(database))
    for level in levels:
        names = ("target", *LEVELS[level])
        for group in dict.fromkeys(test[: len(names)] for test in tests):
            if level != "dataset" or group[1] is not None:
                yield (
                    dict(zip(names, group, strict=True)),
                    _last_runs(database, names, group, selection, most, earliest),
                )


def _earliest(database: sqlite3.Connection, span: timedelta | None) -> str:
    newest = database.execute("SELECT max(timestamp) FROM runs").fetchone()[0]
    try:
        return utc_text(datetime.fromisoformat(newest) - span) if newest and span else ""
    except OverflowError:
        return ""


def _tests(database: sqlite3.Connection) -> Iterator[tuple[str | None, str | None, str | None]]:
    """Every (target, suite, test_id), each by a few steps in an index."""
    for test in distinct(database, "test_id", "FROM trials WHERE 1"):
        for suite in distinct(database, "suite", "FROM trials WHERE test_id IS ?", test):
            for target in distinct(database, "target", "FROM trials WHERE test_id IS ? AND suite IS ?", test, suite):
                yield target, suite, test


def _last_runs(
    database: sqlite3.Connection,
    names: Sequence[str],
    group: Sequence[str | None],
    selection: Selection,
    most: int,
    earliest: str,
) -> list[RunOfGroup]:
    """The last runs of a group with its executions, newest first."""
    where, values = selection.of_trials()
    if "test_id" in names:
        joined, before = "trials t CROSS JOIN runs r ON r.id = t.run_pk", []
        order = "t.timestamp DESC, r.key DESC"
    else:
        held = " AND ".join(f"h.{name} IS ?" for name in names)
        newest = (
            f"SELECT DISTINCT h.timestamp, h.run_key, h.run_pk FROM run_targets h WHERE {held} AND h.on_boards "
            "ORDER BY h.timestamp DESC, h.run_key DESC"
        ) + ("" if where else f" LIMIT {most}")
        joined = f"({newest}) n CROSS JOIN runs r ON r.id = n.run_pk CROSS JOIN trials t ON t.run_pk = r.id"
        before, order = list(group), "n.timestamp DESC, n.run_key DESC"
    same = " AND ".join(f"t.{name} IS ?" for name in names)
    statement = (
        f"SELECT r.key, r.run_id, r.timestamp, r.sha, r.code_sha, t.suite, t.test_id, t.status, t.score FROM {joined} "
        f"WHERE {same} AND t.status IN {COUNTED} AND r.on_boards AND t.timestamp >= ?{where} ORDER BY {order}"
    )
    runs: dict[str, RunOfGroup] = {}
    with closing(database.execute(statement, (*before, *group, earliest, *values))) as rows:
        for key, run_id, timestamp, sha, code_sha, suite, test_id, status, score in rows:
            if key not in runs:
                if len(runs) == most:
                    break
                facts = {"run_id": run_id, "key": key, "timestamp": timestamp, "sha": sha, "code_sha": code_sha}
                runs[key] = RunOfGroup(facts)
            runs[key].tests.setdefault((suite, test_id), Tally()).add(status, score)
    return list(runs.values())


def _fallen(group: Row, newest_first: Sequence[RunOfGroup]) -> Iterator[Row]:
    """A row for each measure that can be looked at in a group."""
    looked = _measures(newest_first)
    splits: dict[str, list[_Split]] = {measure: [] for measure in looked}
    for newer in SPLITS:
        if newer >= len(newest_first):
            break
        before, recent = _together(newest_first[newer:]), _together(newest_first[:newer])
        pairs = [(before[test], recent[test]) for test in before.keys() & recent.keys()]
        for measure in looked:
            telling = [pair for pair in pairs if all(_count(measure, tally) for tally in pair)]
            if min(sum(_count(measure, pair[side]) for pair in telling) for side in (0, 1)) >= FEWEST:
                splits[measure].append(_Split(newer, _p_value(measure, telling), telling))
    for measure, found in splits.items():
        if found:
            yield group | _row(measure, found, newest_first)


def _measures(runs: Sequence[RunOfGroup]) -> list[str]:
    """What varies in a group; what never does is not looked at."""
    total = Tally()
    for run in runs:
        for tally in run.tests.values():
            total.merge(tally)
    varying = {
        "quality_rate": total.passed and total.failed,
        "errors": total.errored and total.verdicts,
        "score": varies(total.scores) and min(total.scores) < max(total.scores),
    }
    return [measure for measure in MEASURES if varying[measure]]


def _row(measure: str, splits: Sequence[_Split], newest_first: Sequence[RunOfGroup]) -> Row:
    best = min(splits, key=lambda split: (split.p_value, split.newer))
    found = _effect(measure, best.pairs)
    return {
        "measure": measure,
        "before": _level(measure, [before for before, _ in best.pairs]),
        "recent": _level(measure, [recent for _, recent in best.pairs]),
        "difference": found[0],
        "interval": found[1],
        "p_value": min(1.0, best.p_value * len(splits)),
        "q_value": None,
        "since": newest_first[best.newer - 1].facts,
        "last_good": newest_first[best.newer].facts,
    }


def _together(runs: Iterable[RunOfGroup]) -> dict[Test, Tally]:
    found: dict[Test, Tally] = {}
    for run in runs:
        for test, tally in run.tests.items():
            found.setdefault(test, Tally()).merge(tally)
    return found


def _count(measure: str, tally: Tally) -> int:
    return {"quality_rate": tally.verdicts, "errors": tally.executions}.get(measure, len(tally.scores))


def _tables(measure: str, pairs: Iterable[tuple[Tally, Tally]]) -> list[Table]:
    if measure == "errors":
        return [Table(a.errored, a.executions, b.errored, b.executions) for a, b in pairs]
    return [Table(a.passed, a.verdicts, b.passed, b.verdicts) for a, b in pairs]


def _effect(measure: str, pairs: Sequence[tuple[Tally, Tally]]) -> tuple[float, tuple[float, float] | None]:
    if measure == "score":
        found = scores([(a.scores, b.scores) for a, b in pairs])
        return found.difference or 0.0, found.interval
    return risk_difference(_tables(measure, pairs))


def _p_value(measure: str, pairs: Sequence[tuple[Tally, Tally]]) -> float:
    """1 where the newer side is not worse."""
    if measure == "score":
        worse = sum(len(a.scores) * sum(b.scores) - len(b.scores) * sum(a.scores) for a, b in pairs) < 0
        return permutation_p([(a.scores, b.scores) for a, b in pairs]) if worse else 1.0
    tables = _tables(measure, pairs)
    difference = sum((b * m - a * n) / (m + n) for a, m, b, n in tables)
    if difference * _sign(measure) >= 0:
        return 1.0
    likely = normal_p(tables)
    return likely if likely > LOOKED_AT else exact_p(tables)


def _sign(measure: str) -> int:
    """The direction in which a measure gets better."""
    return -1 if measure == "errors" else 1


def _level(measure: str, tallies: Sequence[Tally]) -> Row:
    """One side of a boundary: what was counted, and the rate or mean."""
    counted = sum(_count(measure, tally) for tally in tallies)
    if measure == "score":
        total = sum(sum(tally.scores) for tally in tallies)
    else:
        total = sum(tally.errored if measure == "errors" else tally.passed for tally in tallies)
    return {"executions": counted, measure: total / counted}


def _smallest(rows: Sequence[Row]) -> float | None:
    """The median half width of the intervals: about how large a fall of a group would have been seen."""
    widths = sorted((row["interval"][1] - row["interval"][0]) / 2 for row in rows if row["interval"])
    return widths[len(widths) // 2] if widths else None


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The surest first, then the deepest fall."""
    names = (str(row.get(name) or "") for name in ("target", "suite", "test_id", "measure"))
    return row["q_value"], row["p_value"], row["difference"] * _sign(row["measure"]), *names


QUESTION = Question(
    name="drift",
    help="Show what fell lately by more than noise, and since which run: targets, their datasets and tests.",
    example="indexer drift --by test --since 30d",
    answer=drift,
    parameters={
        "window": Parameter(help="Runs of each group, or a span of time before the newest run.", default=WINDOW),
        "by": Parameter(help="Only this level: target, dataset or test."),
        "every": Parameter(help="All groups that were looked at, with their p and q.", kind="flag", default=False),
        "limit": Parameter(help="Rows at most, 1 to 1000.", kind="number", default=20),
    },
    filters=tuple(DECLARED),
)
