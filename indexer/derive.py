"""Counts, rates and sums over trials: what `runs` and `run_targets` hold beside what a format read."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from indexer.records import Run, Trial

COUNTED = ("passed", "failed", "errored")
_LARGEST = 2**63 - 1


def totals(trials: Sequence[Trial]) -> dict[str, Any]:
    """Values by column name, from `ended_count` to `cost_usd`, as the comments in schema.sql define them."""
    count = Counter[str](trial.status for trial in trials)
    counted = [trial for trial in trials if trial.status in COUNTED]
    judged = count["passed"] + count["failed"]
    scores = [trial.score for trial in counted if trial.status != "errored" and trial.score is not None]
    return {
        "ended_count": len(trials) - count["running"],
        "trial_count": len(counted),
        **{status: count[status] for status in (*COUNTED, "skipped", "cancelled")},
        "test_count": len({(trial.suite, trial.test_id) for trial in counted}),
        "exceptions": sum(trial.error_type is not None or trial.status == "errored" for trial in trials),
        "pass_rate": count["passed"] / len(counted) if counted else None,
        "avg_score": mean(scores + [0.0] * count["errored"]),
        "quality_rate": count["passed"] / judged if judged else None,
        "quality_score": mean(scores),
        "input_tokens": _count_sum([trial.input_tokens for trial in trials if trial.input_tokens is not None]),
        "cached_tokens": _count_sum([trial.cached_tokens for trial in trials if trial.cached_tokens is not None]),
        "output_tokens": _count_sum([trial.output_tokens for trial in trials if trial.output_tokens is not None]),
        "cost_usd": _sum([trial.cost_usd for trial in trials if trial.cost_usd is not None]),
    }


def outcomes(trials: Sequence[Trial]) -> list[tuple[int, int, int]]:
    """How many tests (suite, test_id) passed so often: (executions, passed, tests), sorted."""
    executions = Counter[tuple[str | None, str | None]]()
    passed = Counter[tuple[str | None, str | None]]()
    for trial in trials:
        if trial.status in COUNTED:
            executions[trial.suite, trial.test_id] += 1
            passed[trial.suite, trial.test_id] += trial.status == "passed"
    tests = Counter((count, passed[test]) for test, count in executions.items())
    return [(*outcome, tests[outcome]) for outcome in sorted(tests)]


def status(run: Run) -> str:
    """The run's status: an ended one failed when every counted trial errored."""
    if run.state != "ended":
        return run.state
    counted = [trial.status for trial in run.trials if trial.status in COUNTED]
    return "failed" if counted and set(counted) == {"errored"} else "completed"


def counts_on_boards(run: Run) -> bool:
    """As `runs.on_boards`."""
    return status(run) in ("completed", "failed") and not run.derived_from


def configurations(run: Run) -> dict[tuple[str | None, ...], list[Trial]]:
    """The run's trials by (target, agent, model, suite), in a fixed order."""
    groups: dict[tuple[str | None, ...], list[Trial]] = {}
    for trial in run.trials:
        groups.setdefault((trial.target, trial.agent, trial.model, trial.suite), []).append(trial)
    return dict(sorted(groups.items(), key=lambda group: tuple(value or "" for value in group[0])))


def _sum(known: list[float]) -> float | None:
    try:
        return math.fsum(known) if known else None
    except (OverflowError, ValueError):  # beyond all numbers
        return None


def _count_sum(known: list[int]) -> int | None:
    total = sum(known)
    return total if known and total <= _LARGEST else None


def mean(known: list[float]) -> float | None:
    """None without values, and when their sum is beyond all numbers."""
    total = _sum(known)
    return None if total is None else total / len(known)
