"""Judges groups of runs: which measures fell by more than chance, since which run. No SQL.

The runs of a group are split before its newest 1, 2, 3, 5, 8, 13 and 21. A split counts if each side has five
verdicts (executions, scores) over tests that both sides have; its p is 1 if the newer side is not worse. The group's
p-value is the smallest p of its splits times their number; its q-value covers everything that was examined
together.

An exact p is slow with many tests, so it is computed only if the normal approximation is below LIKELY; anything
above can never be a fall.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from indexer.queries.executions import MEASURES, Tally, Test, varies
from indexer.queries.select import Row
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


@dataclass(slots=True)
class RunOfGroup:
    """One run of a group: what identifies it, and its executions by test."""

    facts: Row
    tests: dict[Test, Tally] = field(default_factory=dict)


_Side = tuple[int, int] | list[float]
"""One side of a boundary for a test: (passed or errored, out of how many), or scores."""
_Pair = tuple[_Side, _Side]
"""Before the boundary, and since."""


@dataclass(frozen=True, slots=True)
class _Split:
    """The newest `newer` runs against those before, by one measure, over the tests that both sides have."""

    newer: int
    p_value: float
    pairs: list[_Pair]


def judged(groups: Iterable[tuple[Row, Sequence[RunOfGroup]]]) -> list[Row]:
    """A row for each measure of each group that can be judged, the surest fall first; runs are newest first."""
    found = [row for group, newest_first in groups for row in fallen(group, newest_first)]
    for row, q in zip(found, q_values([row["p_value"] for row in found]), strict=True):
        row["q_value"] = q
    return sorted(found, key=_order)


def fallen(group: Row, newest_first: Sequence[RunOfGroup]) -> Iterator[Row]:
    """A row for each measure of a group that can be judged."""
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
    """The measures that vary in a group; constant ones are skipped."""
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
    """Before and recent for each test that both sides of a boundary have, as (hits, count) or scores."""
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
    """The p-value of a split; 1 if the newer side is not worse."""
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
        "first": newest_first[-1].facts,
    }


def _level(measure: str, sides: Sequence[_Side]) -> Row:
    """One side of a boundary: what was counted, and the rate or mean."""
    counted = sum(map(_count, sides))
    return {"executions": counted, measure: sum(map(_total, sides)) / counted}


def _sign(measure: str) -> int:
    """The direction in which a measure gets better."""
    return -1 if measure == "errors" else 1


def detectable_fall(rows: Sequence[Row]) -> float | None:
    """The fall in rate that is detected with 80 % power in a group with a median interval.

    By the normal approximation, as if nothing else fell: the p-value has to pass SIGNIFICANT divided by the number of
    rows and of splits. None if the rate would have to fall by more than 1.
    """
    from statistics import NormalDist  # which takes as long to load as all else here

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
