"""Counts, rates and sums over trials: the derived columns of `runs` and `run_targets`."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

from indexer.records import Run, RunState, Trial

TOTALS = (
    "ended_count", "trial_count", "passed", "failed", "errored", "skipped", "cancelled", "test_count", "exceptions",
    "pass_rate", "avg_score", "quality_rate", "quality_score", "input_tokens", "cached_tokens", "output_tokens",
    "cost_usd",
)  # fmt: skip
"""Columns that `runs` and `run_targets` share, as the comments in schema.sql define them."""
COUNTED = ("passed", "failed", "errored")
_LARGEST = 2**63 - 1

Configuration = tuple[str | None, str | None, str | None, str | None]
"""(target, agent, model, suite)."""
Tests = dict[tuple[str | None, str | None], tuple[int, int]]
"""Executions and passes of each (suite, test_id)."""

# a getter for each subset of a configuration's columns, except the empty one, whose value is always the same
_PARTS = [itemgetter(*[at for at in range(4) if subset >> at & 1]) for subset in range(1, 16)]


@dataclass(slots=True)
class Sums:
    """Counts and values collected over some trials, each added once."""

    count: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((*COUNTED, "skipped", "cancelled", "running"), 0)
    )
    exceptions: int = 0
    paid: int = 0
    """Passed trials whose cost is known."""
    tests: Tests = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    """Of passed and failed trials."""
    durations: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    input_tokens: list[int] = field(default_factory=list)
    cached_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        status = trial.status
        self.count[status] += 1
        self.exceptions += trial.error_type is not None or status == "errored"
        if status in COUNTED:
            test = (trial.suite, trial.test_id)
            executions, passed = self.tests.get(test, (0, 0))
            self.tests[test] = executions + 1, passed + (status == "passed")
            if trial.score is not None and status != "errored":
                self.scores.append(trial.score)
        if trial.duration_s is not None:
            self.durations.append(trial.duration_s)
        if trial.cost_usd is not None:
            self.costs.append(trial.cost_usd)
            self.paid += status == "passed"
        if trial.input_tokens is not None:
            self.input_tokens.append(trial.input_tokens)
        if trial.cached_tokens is not None:
            self.cached_tokens.append(trial.cached_tokens)
        if trial.output_tokens is not None:
            self.output_tokens.append(trial.output_tokens)

    def merge(self, other: "Sums") -> None:
        """Add the counts and values of other trials."""
        for status, number in other.count.items():
            self.count[status] += number
        self.tests = _together([self.tests, other.tests])
        self.exceptions += other.exceptions
        self.paid += other.paid
        for name in ("scores", "durations", "costs", "input_tokens", "cached_tokens", "output_tokens"):
            getattr(self, name).extend(getattr(other, name))

    def totals(self) -> tuple[Any, ...]:
        """The values of TOTALS."""
        count = self.count
        passed, failed, errored = count["passed"], count["failed"], count["errored"]
        judged = passed + failed
        counted = judged + errored
        quality_score = mean(self.scores)
        return (
            sum(count.values()) - count["running"],
            counted,
            passed,
            failed,
            errored,
            count["skipped"],
            count["cancelled"],
            len(self.tests),
            self.exceptions,
            passed / counted if counted else None,
            mean(self.scores + [0.0] * errored) if errored else quality_score,
            passed / judged if judged else None,
            quality_score,
            _count_sum(self.input_tokens),
            _count_sum(self.cached_tokens),
            _count_sum(self.output_tokens),
            _sum(self.costs),
        )


def outcomes(several: Sequence[Tests]) -> list[tuple[int, int, int]]:
    """How many tests have each outcome: (executions, passed, tests), sorted."""
    tests = Counter(_together(several).values())
    return [(*outcome, tests[outcome]) for outcome in sorted(tests)]


def _together(several: Sequence[Tests]) -> Tests:
    if len(several) == 1:
        return several[0]
    found: Tests = {}
    for tests in several:
        for test, (executions, passed) in tests.items():
            mine = found.get(test, (0, 0))
            found[test] = mine[0] + executions, mine[1] + passed
    return found


configuration_of: Callable[[Trial], Configuration] = attrgetter("target", "agent", "model", "suite")
"""The configuration that a trial was executed with."""


def by_configuration(trials: Iterable[Trial]) -> dict[Configuration, Sums]:
    """The sums of each configuration, in a fixed order."""
    groups: dict[Configuration, Sums] = {}
    for trial in trials:
        group = configuration_of(trial)
        if (sums := groups.get(group)) is None:
            sums = groups[group] = Sums()
        sums.add(trial)
    if len(groups) == 1:
        return groups
    return dict(sorted(groups.items(), key=lambda group: in_order(group[0])))


def in_order(group: Configuration) -> tuple[tuple[str, bool], ...]:
    """The sort key of a configuration."""
    return tuple((value or "", value is not None) for value in group)


def firsts(configurations: Sequence[Configuration]) -> list[int]:
    """A bit mask per configuration: the subsets of its columns whose values no earlier configuration has."""
    if not configurations:
        return []
    first, *others = configurations
    seen: list[set[Any]] = [{part(first)} for part in _PARTS]
    found = [(1 << 16) - 1]
    for configuration in others:
        bits = 0
        for subset, (part, known) in enumerate(zip(_PARTS, seen, strict=True), 1):
            value = part(configuration)
            if value not in known:
                known.add(value)
                bits |= 1 << subset
        found.append(bits)
    return found


def status(run: Run) -> str:
    """The run's status."""
    return status_of(run.state, {trial.status for trial in run.trials})


def status_of(state: RunState, statuses: Collection[str]) -> str:
    """The status of a run with trials of these statuses: an ended one failed when every counted trial errored."""
    if state != "ended":
        return state
    return "failed" if {"errored"} == set(statuses).intersection(COUNTED) else "completed"


def counts_on_boards(status: str, run: Run) -> bool:
    """The value of `runs.on_boards` for a run with this status."""
    return status in ("completed", "failed") and not run.derived_from


def _sum(known: Sequence[float]) -> float | None:
    try:
        return math.fsum(known) if known else None
    except (OverflowError, ValueError):  # overflow
        return None


def _count_sum(known: Sequence[int]) -> int | None:
    total = sum(known)
    return total if known and total <= _LARGEST else None


def finite(value: float | None) -> float | None:
    """The number; None if infinite or NaN, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None


def mean(known: Sequence[float]) -> float | None:
    """The mean; None without values, or if their sum overflows."""
    total = _sum(known)
    return None if total is None else total / len(known)
