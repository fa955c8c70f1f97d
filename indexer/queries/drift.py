"""What fell lately by more than chance, and since which run.

Groups are each target, target x dataset and target x test, over all experiments. Of a group the last runs that ended
are split where its newest 1, 2, 3, 5, 8, 13 and 21 begin. A split tells something with five verdicts (executions,
scores) on each side over tests that both sides have; it counts as p = 1 where the newer side is not worse. The group's
p-value is the smallest p of its splits times their number, its q-value is over all groups, levels and measures that
were looked at together, and only q < 0.05 is called a fall.

An exact p takes long where there are many tests, so it is computed only where the normal one is below LIKELY; what
is above can never be a fall.
"""

import re
import sqlite3
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any, cast

from indexer.errors import QueryError
from indexer.queries.executions import COUNTED, MEASURES, Tally, Test, varies
from indexer.queries.filters import DECLARED, Filters, Selection, select
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, distinct
from indexer.records import span_seconds, utc_text
from indexer.statistics import (
    LIKELY,
    SIGNIFICANT,
    Table,
    Z,
    exact_p,
    normal_p,
    permutation_p,
    q_values,
    risk_difference,
    scores,
)

SPLITS = (1, 2, 3, 5, 8, 13, 21)
"""How many of a group's newest runs are compared with those before."""
FEWEST = 5
"""Verdicts that each side of a split needs over shared tests."""
LEVELS = {"target": (), "dataset": ("suite",), "test": ("suite", "test_id")}
"""By level: what names a group beside its target."""
WINDOW = "40"
_COLUMNS = "r.key, r.run_id, r.timestamp, r.sha, r.code_sha, t.suite, t.test_id, t.status, t.score"


@dataclass(slots=True)
class RunOfGroup:
    """One run of a group: what identifies it, and its executions by test."""

    facts: Row
    tests: dict[Test, Tally] = field(default_factory=dict)


_Side = tuple[int, int] | list[float]
"""What one side of a boundary has of a test: (passed or errored, of how many), or scores."""
_Pair = tuple[_Side, _Side]
"""Before the boundary, and since."""


@dataclass(frozen=True, slots=True)
class _Split:
    """The newest `newer` runs against those before, by one measure, over the tests that both sides have."""

    newer: int
    p_value: float
    pairs: list[_Pair]


def drift(
    database: sqlite3.Connection,
    filters: Filters,
    reader: Reader,
    *,
    window: str = WINDOW,
    by: str | None = None,
    every: bool = False,
    limit: int = 20,
) -> Row:
    """`looked_at` and the `groups` that fell, the smallest q-value first; with `every` all that were looked at.

    `more` says that not all are given; `detectable_fall` is about how far a rate
    would have to fall to be shown, None where no fall would do.

    A group has its `target` (and `suite`, `test_id`), `measure`, `before`, `recent`, `difference`, `interval`,
    `p_value`, `q_value`, `since` and `last_good`. Raises QueryError.
    """
    if by is not None and by not in LEVELS:
        raise QueryError(f"by: {by!r} is none of {', '.join(LEVELS)}")
    require_limit(limit)
    runs, span = _window(window)
    selection = select(database, filters, reader.zone)
    found = judged(_groups(database, selection, tuple(LEVELS) if by is None else (by,), runs, span))
    shown = [row for row in found if every or row["q_value"] < SIGNIFICANT]
    return {
        "looked_at": len(found),
        "detectable_fall": _detectable_fall(found),
        "groups": shown if every else shown[:limit],
        "more": not every and len(shown) > limit,
    }


def judged(groups: Iterable[tuple[Row, Sequence[RunOfGroup]]]) -> list[Row]:
    """A row for each measure of each group that can be looked at, the surest fall first; runs are newest first."""
    found = [row for group, newest_first in groups for row in _fallen(group, newest_first)]
    for row, q in zip(found, q_values([row["p_value"] for row in found]), strict=True):
        row["q_value"] = q
    return sorted(found, key=_order)


def change_point(
    database: sqlite3.Connection, selection: Selection, target: str | None, suite: str | None, test_id: str
) -> Row | None:
    """Since when a target falls in a test by its verdicts, as drift says of this group alone; None if not shown."""
    where, values = selection.of_trials()
    group = (target, suite, test_id)
    if where:
        where += " AND t.target IS ? AND t.suite IS ? AND t.test_id IS ?"
        narrowed = _walked(database, ["test"], where, [*values, *group], int(WINDOW), "")["test"]
        runs = list(narrowed.get(group, {}).values())
    else:
        runs = _last_runs(database, ("target", "suite", "test_id"), group, int(WINDOW), "")
    found = [row for row in _fallen({}, runs) if row["measure"] == "quality_rate"]
    return found[0] if found and found[0]["p_value"] < SIGNIFICANT else None


def _window(window: str) -> tuple[int, timedelta | None]:
    """How many runs of a group are looked at, or how far back. Raises QueryError."""
    if re.fullmatch(r"[1-9]\d{0,3}", window) and int(window) > 1:
        return int(window), None
    try:
        span = timedelta(seconds=span_seconds(window))
        if span:
            return sys.maxsize, span
    except (ValueError, OverflowError):
        pass
    raise QueryError(f"window: {window!r} is neither a number of runs (40, from 2 to 9999) nor a span (14d)")


def _groups(
    database: sqlite3.Connection, selection: Selection, levels: Sequence[str], most: int, span: timedelta | None
) -> Iterator[tuple[Row, list[RunOfGroup]]]:
    """Each group of some levels with its last runs, newest first.

    Without filters a group's last runs are found by an index; with filters one walk over the runs they let through
    gives all groups.
    """
    where, values = selection.of_trials()
    earliest = _earliest(database, selection, span)
    narrowed = None if not where else _walked(database, levels, where, values, most, earliest)
    tests = list(_tests(database)) if narrowed is None else []
    for level in levels:
        names = ("target", *LEVELS[level])
        groups = dict.fromkeys(test[: len(names)] for test in tests) if narrowed is None else narrowed[level]
        for group in groups:
            if level != "dataset" or group[1] is not None:
                runs = (
                    _last_runs(database, names, group, most, earliest)
                    if narrowed is None
                    else list(narrowed[level][group].values())
                )
                yield dict(zip(names, group, strict=True)), runs


def _walked(
    database: sqlite3.Connection, levels: Sequence[str], where: str, values: Sequence[Any], most: int, earliest: str
) -> dict[str, dict[tuple[Any, ...], dict[str, RunOfGroup]]]:
    """The last runs of every group by level, from one walk over what filters let through, newest first."""
    found: dict[str, dict[tuple[Any, ...], dict[str, RunOfGroup]]] = {level: {} for level in levels}
    widths = [(found[level], 1 + len(LEVELS[level])) for level in levels]
    statement = (
        f"SELECT {_COLUMNS}, t.target FROM runs r CROSS JOIN trials t ON t.run_pk = r.id "
        f"WHERE r.on_boards AND t.status IN {COUNTED} AND r.timestamp >= ?{where} ORDER BY r.timestamp DESC, r.key DESC"
    )
    rows = database.execute(statement, (earliest, *values))
    for key, run_id, timestamp, sha, code_sha, suite, test_id, status, score, target in rows:
        whole = (target, suite, test_id)
        for groups, width in widths:
            runs = groups.setdefault(whole[:width], {})
            run = runs.get(key)
            if run is None:
                if len(runs) == most:
                    continue
                run = runs[key] = _run(key, run_id, timestamp, sha, code_sha)
            run.tests.setdefault((suite, test_id), Tally()).add(status, score)
    return {level: dict(sorted(groups.items(), key=lambda group: repr(group[0]))) for level, groups in found.items()}


def _earliest(database: sqlite3.Connection, selection: Selection, span: timedelta | None) -> str:
    """When a span before the newest run begins that filters of runs let through."""
    if span is None:
        return ""
    where, values = selection.of_runs(None, "r.timestamp")
    wanted = " AND ".join(["r.on_boards", *where])
    newest = database.execute(f"SELECT max(r.timestamp) FROM runs r WHERE {wanted}", values).fetchone()
    try:
        return utc_text(datetime.fromisoformat(newest[0]) - span) if newest[0] else ""
    except OverflowError:
        return ""


def _tests(database: sqlite3.Connection) -> Iterator[tuple[str | None, str | None, str | None]]:
    """Every (target, suite, test_id), each by a few steps in an index."""
    for test in distinct(database, "test_id", "FROM trials WHERE 1"):
        for suite in distinct(database, "suite", "FROM trials WHERE test_id IS ?", test):
            for target in distinct(database, "target", "FROM trials WHERE test_id IS ? AND suite IS ?", test, suite):
                yield target, suite, test


def _last_runs(
    database: sqlite3.Connection, names: Sequence[str], group: Sequence[str | None], most: int, earliest: str
) -> list[RunOfGroup]:
    """The last runs of a group with its executions, newest first."""
    if "test_id" in names:
        joined, before = "trials t CROSS JOIN runs r ON r.id = t.run_pk", []
        order = "t.timestamp DESC, r.key DESC"
    else:
        held = " AND ".join(f"h.{name} IS ?" for name in names)
        newest = (
            f"SELECT DISTINCT h.timestamp, h.run_key, h.run_pk FROM run_targets h "
            f"WHERE {held} AND h.on_boards AND h.trial_count ORDER BY h.timestamp DESC, h.run_key DESC LIMIT {most}"
        )
        joined = f"({newest}) n CROSS JOIN runs r ON r.id = n.run_pk CROSS JOIN trials t ON t.run_pk = r.id"
        before, order = list(group), "n.timestamp DESC, n.run_key DESC"
    same = " AND ".join(f"t.{name} IS ?" for name in names)
    statement = (
        f"SELECT {_COLUMNS} FROM {joined} WHERE {same} AND t.status IN {COUNTED} AND r.on_boards "
        f"AND t.timestamp >= ? ORDER BY {order}"
    )
    runs: dict[str, RunOfGroup] = {}
    with closing(database.execute(statement, (*before, *group, earliest))) as rows:
        for key, run_id, timestamp, sha, code_sha, suite, test_id, status, score in rows:
            if key not in runs:
                if len(runs) == most:
                    break
                runs[key] = _run(key, run_id, timestamp, sha, code_sha)
            runs[key].tests.setdefault((suite, test_id), Tally()).add(status, score)
    return list(runs.values())


def _run(key: str, run_id: str, timestamp: str, sha: str | None, code_sha: str | None) -> RunOfGroup:
    return RunOfGroup({"run_id": run_id, "key": key, "timestamp": timestamp, "sha": sha, "code_sha": code_sha})


def _fallen(group: Row, newest_first: Sequence[RunOfGroup]) -> Iterator[Row]:
    """A row for each measure that can be looked at in a group."""
    whole = _together(newest_first)
    looked = _measures(whole.values())
    splits: dict[str, list[_Split]] = {measure: [] for measure in looked}
    recent: dict[Test, Tally] = {}
    begun = 0
    for newer in SPLITS if looked else ():
        if newer >= len(newest_first):
            break
        for run in newest_first[begun:newer]:
            _merge(recent, run)
        begun = newer
        for measure in looked:
            sides = _sides(measure, whole, recent)
            counts = [sum(_count(pair[side]) for pair in sides) for side in (0, 1)]
            if min(counts) >= FEWEST:
                splits[measure].append(_Split(newer, _p_value(measure, sides), sides))
    for measure, found in splits.items():
        if found:
            yield group | _row(measure, found, newest_first)


def _together(runs: Iterable[RunOfGroup]) -> dict[Test, Tally]:
    found: dict[Test, Tally] = {}
    for run in runs:
        _merge(found, run)
    return found


def _merge(tallies: dict[Test, Tally], run: RunOfGroup) -> None:
    """Add a run; runs are added newest first, so that the scores of the newest runs come first."""
    for test, tally in run.tests.items():
        if (mine := tallies.get(test)) is None:
            mine = tallies[test] = Tally()
        mine.merge(tally)


def _measures(tallies: Collection[Tally]) -> list[str]:
    """What varies in a group; what never does is not looked at."""
    passed, failed = sum(tally.passed for tally in tallies), sum(tally.failed for tally in tallies)
    errored = sum(tally.errored for tally in tallies)
    scores = {score for tally in tallies for score in tally.scores}
    varying = {
        "quality_rate": passed and failed,
        "errors": errored and passed + failed,
        "score": len(scores) > 1 and varies(scores),
    }
    return [measure for measure in MEASURES if varying[measure]]


def _sides(measure: str, whole: Mapping[Test, Tally], recent: Mapping[Test, Tally]) -> list[_Pair]:
    """By test that both sides of a boundary have: what was before and what is recent, as (hits, count) or scores."""
    pairs: list[_Pair] = []
    for test, now in recent.items():
        every = whole[test]
        if measure == "score":
            pair: _Pair = (every.scores[len(now.scores) :], now.scores[:])
        elif measure == "errors":
            n = now.executions
            pair = ((every.errored - now.errored, every.executions - n), (now.errored, n))
        else:
            n = now.verdicts
            pair = ((every.passed - now.passed, every.verdicts - n), (now.passed, n))
        if _count(pair[0]) and _count(pair[1]):
            pairs.append(pair)
    return pairs


def _count(side: _Side) -> int:
    return side[1] if isinstance(side, tuple) else len(side)


def _total(side: _Side) -> float:
    return side[0] if isinstance(side, tuple) else sum(side)


def _tables(pairs: Iterable[_Pair]) -> list[Table]:
    return [Table(*before, *recent) for before, recent in cast("list[tuple[tuple[int, int], tuple[int, int]]]", pairs)]


def _p_value(measure: str, pairs: list[_Pair]) -> float:
    """1 where the newer side is not worse."""
    counts = [(_total(a), _count(a), _total(b), _count(b)) for a, b in pairs]
    if sum((b * m - a * n) / (m + n) for a, m, b, n in counts) * _sign(measure) >= 0:
        return 1.0
    if measure == "score":
        return permutation_p(cast("list[tuple[list[float], list[float]]]", pairs))
    tables = _tables(pairs)
    likely = normal_p(tables)
    return likely if likely > LIKELY else exact_p(tables)


def _row(measure: str, splits: Sequence[_Split], newest_first: Sequence[RunOfGroup]) -> Row:
    best = min(splits, key=lambda split: (split.p_value, split.newer))
    if measure == "score":
        found = scores(cast("list[tuple[list[float], list[float]]]", best.pairs))
        difference, interval = found.difference or 0.0, found.interval
    else:
        difference, interval = risk_difference(_tables(best.pairs))
    return {
        "measure": measure,
        "before": _level(measure, [before for before, _ in best.pairs]),
        "recent": _level(measure, [recent for _, recent in best.pairs]),
        "difference": difference,
        "interval": interval,
        "p_value": min(1.0, best.p_value * len(splits)),
        "q_value": None,
        "since": newest_first[best.newer - 1].facts,
        "last_good": newest_first[best.newer].facts,
    }


def _level(measure: str, sides: Sequence[_Side]) -> Row:
    """One side of a boundary: what was counted, and the rate or mean."""
    counted = sum(map(_count, sides))
    return {"executions": counted, measure: sum(map(_total, sides)) / counted}


def _sign(measure: str) -> int:
    """The direction in which a measure gets better."""
    return -1 if measure == "errors" else 1


def _detectable_fall(rows: Sequence[Row]) -> float | None:
    """How far the rate of a group with a middling interval has to fall to be shown in four of five cases.

    Of the normal approximation, as if nothing else fell: the p-value has to pass SIGNIFICANT shared by all that was
    looked at and by its splits. None where only a fall of more than everything would do.
    """
    intervals = [row["interval"] for row in rows if row["interval"] and row["measure"] != "score"]
    if not intervals:
        return None
    halves = sorted((high - low) / 2 for low, high in intervals)
    level = SIGNIFICANT / (len(rows) * len(SPLITS))
    distance = -NormalDist().inv_cdf(level / 2) + NormalDist().inv_cdf(0.8)
    fall = halves[len(halves) // 2] / Z * distance
    return fall if fall <= 1 else None


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The surest first, then the deepest fall."""
    names = (str(row.get(name) or "") for name in ("target", "suite", "test_id", "measure"))
    return row["q_value"], row["p_value"], row["difference"] * _sign(row["measure"]), *names


QUESTION = Question(
    name="drift",
    help="Show what fell lately by more than chance, and since which run: targets, their datasets and tests.",
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
