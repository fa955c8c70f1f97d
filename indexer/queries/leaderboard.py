"""Boards by any one or two dimensions over runs that ended, copies left out: rates, pass@k, scores, cost, tokens, time.

`run_targets` has the counts of each configuration of a run; only boards by test, or with a filter on it, read trials.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache, reduce
from typing import Any

from indexer.derive import finite
from indexer.errors import QueryError
from indexer.queries.executions import COUNTED, whole
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, dicts
from indexer.queries.selection import OPERATORS, select
from indexer.statistics import pass_at_k, wilson

LARGEST_K = 1000
TIMES = {
    "day": "{0.year:04}-{0.month:02}-{0.day:02}",
    "week": "{year:04}-W{week:02}",
    "month": "{0.year:04}-{0.month:02}",
}
"""Date formats of the time dimensions; weeks are ISO weeks."""
_TEST = (
    "CASE WHEN t.suite IS NOT NULL THEN t.suite || '/' WHEN instr(t.test_id, '/') > 0 THEN '/' ELSE '' END || t.test_id"
)
_COLUMNS = {
    "experiment": "r.experiment", "target": "t.target", "agent": "t.agent", "model": "t.model", "dataset": "t.suite",
    "test": _TEST, "source": "r.source", "host": "r.host",
}  # fmt: skip
DIMENSIONS = (*_COLUMNS, *TIMES)
"""Dimensions of boards, besides `tag:KEY`."""
_OF_CONFIGURATIONS = """
{runs} AS runs, {whole} AS whole_runs, sum(t.target_tests) AS tests, sum(t.trial_count) AS executions,
sum(t.passed) AS passed, sum(t.failed) AS failed, sum(t.errored) AS errored,
sum(t.quality_score * t.scored) AS scores, sum(t.scored) AS scored, sum(t.cost_usd) AS cost_usd,
sum(t.paid) AS paid,
sum(1.0 * t.input_tokens) AS input_tokens, sum(1.0 * t.output_tokens) AS output_tokens,
sum(t.duration_s * t.timed) AS seconds, sum(t.timed) AS timed, max(t.timestamp) AS last_run"""
_CONFIGURATION = ("t.experiment", "t.target", "t.agent", "t.model", "t.suite")
"""The column order of `run_targets_board`: grouping by these is one scan of this covering index, without a sort."""
_OF_TRIALS = f"""
max(t.timestamp) AS last_run, sum(t.status IN {COUNTED}) AS executions,
sum(t.status = 'passed') AS passed, sum(t.status = 'failed') AS failed, sum(t.status = 'errored') AS errored,
total(CASE WHEN t.status IN ('passed', 'failed') THEN t.score END) AS scores,
sum(t.status IN ('passed', 'failed') AND t.score IS NOT NULL) AS scored, sum(t.cost_usd) AS cost_usd,
sum(t.cost_usd IS NOT NULL AND t.status = 'passed') AS paid,
sum(1.0 * t.input_tokens) AS input_tokens, sum(1.0 * t.output_tokens) AS output_tokens,
total(t.duration_s) AS seconds, count(t.duration_s) AS timed"""
_RUNS_OF_TRIALS = "count(DISTINCT t.run_pk) AS runs, 0 AS whole_runs,"
_SUMMED = ", ".join(f"sum({name}) AS {name}" for name in (
    "executions", "passed", "failed", "errored", "scores", "scored", "cost_usd", "paid", "input_tokens",
    "output_tokens", "seconds", "timed",
))  # fmt: skip
_OF_TESTS = "count(DISTINCT run_pk) AS runs, 0 AS whole_runs, sum(executions > 0) AS tests, max(last_run) AS last_run, "
_OF_TESTS += _SUMMED
_OF_PARTS = "sum(runs) AS runs, sum(whole_runs) AS whole_runs, sum(tests) AS tests, max(last_run) AS last_run, "
_OF_PARTS += _SUMMED
_REPEATS = "SELECT sum(t.trial_count) > sum(t.target_tests) FROM run_targets t WHERE t.on_boards"
_BESIDE_COUNTS = {"id": "t.run_pk", "timestamp": "t.timestamp", "experiment": "t.experiment"}
"""Columns of a run that `run_targets` has, too."""
_BITS = {"target": 1, "agent": 2, "model": 4, "dataset": 8}
"""As in `run_targets.firsts`."""


def leaderboard(
    database: sqlite3.Connection,
    filters: Filters,
    reader: Reader,
    *,
    by: str | None = None,
    across: str | None = None,
    k: int = 1,
) -> list[Row]:
    """A row for each value of `by`, or each pair with `across`, the best first, and a last one with `total`.

    Days, weeks (ISO) and months are those of the reader's zone, the newest first. `interval` is the 95 % interval of
    `quality_rate`; `pass_at_k` the mean over tests with at least `k` executions in a run; `duration_s` is seconds
    per execution. Unknown values are None. Raises QueryError.
    """
    if not 1 <= k <= LARGEST_K:
        raise QueryError(f"k: {k} is not between 1 and {LARGEST_K}")
    by, across = (by or "experiment", across) if by or across else ("experiment", "target")
    if across == by:
        raise QueryError(f"across: {across!r} is the same as by")
    dimensions = [by] if across is None else [by, across]
    board = _board(database, filters, reader.zone, dimensions)
    groups = board.summed()
    executed = [(group, sums) for group, sums in groups if sums["executions"]]
    plain = k == 1 and all(sums["executions"] == sums["tests"] for _, sums in executed)
    estimates = {} if plain else board.estimates(k)
    rows = []
    for group, sums in executed:
        estimate = sums["passed"] / sums["executions"] if plain else estimates.get(group)
        rows.append(dict(zip(dimensions, group, strict=True)) | _row(sums) | {"pass_at_k": estimate, "k": k})
    rows.sort(key=lambda row: (-(row["quality_rate"] or 0.0), *(row[name] or "" for name in dimensions)))
    if across is not None or by in TIMES:  # the best of each first
        rows.sort(key=lambda row: row[by] or "", reverse=by in TIMES)
    if executed:
        tags = [name for name in dimensions if name.startswith("tag:")]
        if tags:  # a run with two values is in two groups, and counts once
            board = _board(database, filters, reader.zone, ["experiment"], tags)
            groups = board.summed()
        sums = board.total(groups)
        estimate = sums["passed"] / sums["executions"] if plain else board.estimates(k, whole=True).get(())
        rows.append({"total": True, **dict.fromkeys(dimensions)} | _row(sums) | {"pass_at_k": estimate, "k": k})
    return rows


@dataclass(frozen=True, slots=True)
class _Board:
    """Where the rows of a board come from, and by what they are grouped."""

    database: sqlite3.Connection
    columns: Sequence[str]
    source: str
    values: Sequence[Any]
    of_trials: bool
    repeats: bool  # whether any test may have been executed more than once in a run, by a target
    bit: int | None  # of `run_targets.firsts`, where that counts the runs of a group
    name: Callable[[tuple[Any, ...]], tuple[Any, ...]]  # the group that a row of the columns belongs to

    def summed(self) -> list[tuple[tuple[Any, ...], Row]]:
        """Each group with its sums; a group without executions may still have costs."""
        names = [f"g{at}" for at in range(len(self.columns))]
        numbered = ", ".join(f"{column} AS {name}" for column, name in zip(self.columns, names, strict=True))
        ordinals = ", ".join(str(at + 1) for at in range(len(names)))
        if self.of_trials and not self.repeats:
            sums = f"{_RUNS_OF_TRIALS} sum(t.status IN {COUNTED}) AS tests, {_OF_TRIALS}"
            query = f"SELECT {numbered}, {sums} FROM {self.source} GROUP BY {ordinals}"
        elif self.of_trials:
            by_test = f"{ordinals}, t.run_pk, t.suite, t.test_id, t.target"
            tests = f"SELECT {numbered}, t.run_pk, {_OF_TRIALS} FROM {self.source} GROUP BY {by_test}"
            query = f"SELECT {', '.join(names)}, {_OF_TESTS} FROM ({tests}) AS tests GROUP BY {ordinals}"
        else:
            first = "count(DISTINCT t.run_pk)" if self.bit is None else f"sum(t.firsts >> {self.bit} & 1)"
            sums = _OF_CONFIGURATIONS.format(runs=first, whole="sum(t.firsts & 1)")
            query = f"SELECT {numbered}, {sums} FROM {self.source} GROUP BY {ordinals}"
            if self.bit is not None and set(self.columns) <= set(_CONFIGURATION):
                inner = f"SELECT {numbered}, {sums} FROM {self.source} GROUP BY {', '.join(_CONFIGURATION)}"
                query = f"SELECT {', '.join(names)}, {_OF_PARTS} FROM ({inner}) AS parts GROUP BY {ordinals}"
        found: dict[tuple[Any, ...], Row] = {}
        for row in dicts(self.database, query, *self.values):
            group = self.name(tuple(row.pop(name) for name in names))
            found[group] = _added(found[group], row) if group in found else row
        return list(found.items())

    def total(self, groups: Sequence[tuple[tuple[Any, ...], Row]]) -> Row:
        """The sums over all groups; each execution is in one."""
        sums = reduce(_added, (sums for _, sums in groups))
        counted = f"SELECT count(DISTINCT t.run_pk) FROM {self.source}"
        exact = self.bit is not None
        return sums | {
            "runs": sums["whole_runs"] if exact else self.database.execute(counted, self.values).fetchone()[0]
        }

    def estimates(self, k: int, *, whole: bool = False) -> dict[tuple[Any, ...], float]:
        """The mean estimate over tests, by group; with `whole`, over all of them under ()."""
        tests: dict[tuple[Any, ...], list[tuple[float, int]]] = {}
        for group, executions, passed, count in self._outcomes([] if whole else self.columns):
            if (estimate := pass_at_k(executions, passed, k)) is not None:
                tests.setdefault(group if whole else self.name(group), []).append((estimate, count))
        return {
            group: math.fsum(estimate * count for estimate, count in each) / sum(count for _, count in each)
            for group, each in tests.items()
        }

    def _outcomes(self, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], int, int, int]]:
        """Tests by how often they passed: group, executions, passed, tests."""
        groups = "".join(f"{column}, " for column in columns)
        if not self.of_trials:
            query = f"SELECT {groups}t.outcomes, count(*) FROM {self.source} GROUP BY {groups}t.outcomes"
            for *group, text, times in self.database.execute(query, self.values):
                for executions, passed, count in json.loads(text):
                    yield tuple(group), executions, passed, count * times
            return
        counted = f"count(*), sum(t.status = 'passed') FROM {self.source} AND t.status IN {COUNTED}"
        for *group, executions, passed in self.database.execute(
            f"SELECT {groups}{counted} GROUP BY {groups}t.run_pk, t.suite, t.test_id, t.target", self.values
        ):
            yield tuple(group), executions, passed, 1


def _board(
    database: sqlite3.Connection, filters: Filters, zone: tzinfo, dimensions: Sequence[str], tagged: Sequence[str] = ()
) -> _Board:
    """A board by some dimensions, of runs with all of some tags (`tag:KEY`). Raises QueryError."""
    selection = select(database, filters, zone)
    of_trials = "test" in dimensions or bool(filters.get("test"))
    beside = {} if of_trials else _BESIDE_COUNTS
    where, values = selection.of_trials(beside)
    tags = [name.partition(":")[2] for name in dimensions if name.startswith("tag:")]
    joins = "".join(f" JOIN run_tags g{at} ON g{at}.run_pk = t.run_pk AND g{at}.key = ?" for at in range(len(tags)))
    for name in tagged:
        where += " AND EXISTS (SELECT 1 FROM run_tags g WHERE g.run_pk = t.run_pk AND g.key = ?)"
        values = [*values, name.partition(":")[2]]
    columns = [_column(name, tags, zone, beside) for name in dimensions]
    forms = [_named(zone, TIMES[name]) if name in TIMES else str for name in dimensions]

    def named(group: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(None if value is None else form(value) for value, form in zip(group, forms, strict=True))

    if of_trials:
        source = f"runs r CROSS JOIN trials t ON t.run_pk = r.id{joins} WHERE r.on_boards{where}"
        lately = "".join(f" AND t.timestamp {OPERATORS[name]} ?" for name in selection.times)
        repeats = bool(database.execute(_REPEATS + lately, tuple(selection.times.values())).fetchone()[0])
        return _Board(database, columns, source, [*tags, *values], True, repeats, None, named)
    runs = " JOIN runs r ON r.id = t.run_pk" if any("r." in text for text in (*columns, where)) else ""
    source = f"run_targets t{runs}{joins} WHERE t.on_boards{where}"
    # a filter may leave out the first of a run's configurations
    whole = not any(DECLARED[name].of_trials for name in selection.groups)
    bit = sum(_BITS.get(name, 0) for name in dimensions) if whole else None
    return _Board(database, columns, source, [*tags, *values], False, True, bit, named)


def _column(name: str, tags: Sequence[str], zone: tzinfo, beside: Mapping[str, str]) -> str:
    """The SQL of a dimension; for times, a part that lies in one day of the zone. Raises QueryError."""
    if name in _COLUMNS:
        return beside.get(name, _COLUMNS[name])
    time = beside.get("timestamp", "r.timestamp")
    if name in TIMES:
        quarter = (
            f"substr({time}, 1, 14) || (CAST(substr({time}, 15, 2) AS INTEGER) / 15 * 15)"  # the unit of UTC offsets
        )
        return f"substr({time}, 1, 10)" if zone is UTC else quarter
    if name.startswith("tag:") and len(name) > 4:
        return f"g{tags.index(name.partition(':')[2])}.value"
    raise QueryError(f"{name!r} is not a dimension; the dimensions are {', '.join(DIMENSIONS)} and tag:KEY")


def _named(zone: tzinfo, form: str) -> Callable[[str], str]:
    """Returns a function from the start of a UTC text to its day, week or month in a zone."""

    @lru_cache(1 << 16)
    def text(beginning: str) -> str:
        day, _, time = beginning.partition("T")
        hour, _, minute = time.partition(":")
        began = datetime.fromisoformat(day).replace(hour=int(hour or 0), minute=int(minute or 0), tzinfo=UTC)
        with suppress(OverflowError):  # at the limits of datetime
            began = began.astimezone(zone)
        year, week, _ = began.isocalendar()
        return form.format(began, year=year, week=week)

    return text


def _added(one: Row, other: Row) -> Row:
    """The sums of two groups together."""
    found = {name: _plus(value, other[name]) for name, value in one.items()}
    return found | {"last_run": max(one["last_run"], other["last_run"])}


def _plus(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other if not isinstance(one, str) else one


def _row(sums: Row) -> Row:
    verdicts = sums["passed"] + sums["failed"]
    return {
        "runs": sums["runs"],
        "tests": sums["tests"],
        "executions": sums["executions"],
        "passed": sums["passed"],
        "failed": sums["failed"],
        "errored": sums["errored"],
        "quality_rate": sums["passed"] / verdicts if verdicts else None,
        "interval": wilson(sums["passed"], verdicts),
        "pass_rate": sums["passed"] / sums["executions"],
        "score": _over(sums["scores"], sums["scored"]),
        "cost_usd": finite(sums["cost_usd"]),
        "cost_per_passed": _over(sums["cost_usd"], sums["paid"]),
        "input_tokens": whole(sums["input_tokens"]),
        "output_tokens": whole(sums["output_tokens"]),
        "duration_s": _over(sums["seconds"], sums["timed"]),
        "last_run": sums["last_run"],
    }


def _over(total: float | None, count: int | None) -> float | None:
    """A mean; None if nothing is known or the sum overflows."""
    return finite(total / count) if count and total is not None else None


QUESTION = Question(
    name="leaderboard",
    help="Show rates, scores, cost, tokens and time by one or two dimensions, over runs that ended.",
    example="indexer leaderboard --by model --since 7d; indexer leaderboard --by model --across test",
    answer=leaderboard,
    parameters={
        "by": Parameter(help=f"{', '.join(DIMENSIONS)} or tag:KEY; experiment by default."),
        "across": Parameter(help="A second dimension; target if neither is given."),
        "k": Parameter(help="K of pass@k: how often at least one of K executions passes.", kind="number", default=1),
    },
    filters=tuple(DECLARED),
    rows=True,
)
