"""Counts, rates and sums over trials: what `runs` and `run_targets` hold beside what a format read."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from indexer.records import Run, RunState, Trial

COUNTED = ("passed", "failed", "errored")
_LARGEST = 2**63 - 1


def totals(trials: Sequence[Trial]) -> dict[str, Any]:
    """Values by column name, from `ended_count` to `cost_usd`, as the comments in schema.sql define them."""
    by_status: dict[str, list[Trial]] = {}
    for trial in trials:
        by_status.setdefault(trial.status, []).append(trial)
    count = {status: len(by_status.get(status, ())) for status in (*COUNTED, "skipped", "cancelled", "running")}
    judged = by_status.get("passed", []) + by_status.get("failed", [])
    errored = by_status.get("errored", [])
    trial_count = len(judged) + len(errored)
    scores = [trial.score for trial in judged]
    return {
        "ended_count": len(trials) - count["running"],
        "trial_count": trial_count,
        **{status: count[status] for status in (*COUNTED, "skipped", "cancelled")},
        "test_count": len({(trial.suite, trial.test_id) for trial in (*judged, *errored)}),
        "exceptions": sum(trial.error_type is not None or trial.status == "errored" for trial in trials),
        "pass_rate": count["passed"] / trial_count if trial_count else None,
        "avg_score": _mean([*scores, *[0.0] * len(errored)]),
        "quality_rate": count["passed"] / len(judged) if judged else None,
        "quality_score": _mean(scores),
        "input_tokens": _count_sum(trial.input_tokens for trial in trials),
        "cached_tokens": _count_sum(trial.cached_tokens for trial in trials),
        "output_tokens": _count_sum(trial.output_tokens for trial in trials),
        "cost_usd": _sum(trial.cost_usd for trial in trials),
    }


def status(state: RunState, total: dict[str, Any]) -> str:
    """The run's status: an ended one failed when every counted trial errored."""
    if state != "ended":
        return state
    return "failed" if total["errored"] and total["errored"] == total["trial_count"] else "completed"


def configurations(run: Run) -> dict[tuple[str | None, ...], list[Trial]]:
    """The run's trials by (target, agent, model, suite), in a fixed order."""
    groups: dict[tuple[str | None, ...], list[Trial]] = {}
    for trial in run.trials:
        groups.setdefault((trial.target, trial.agent, trial.model, trial.suite), []).append(trial)
    return dict(sorted(groups.items(), key=lambda group: tuple(value or "" for value in group[0])))


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    try:
        return math.fsum(known) if known else None
    except (OverflowError, ValueError):  # beyond all numbers
        return None


def _count_sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    total = sum(known)
    return total if known and total <= _LARGEST else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    total = _sum(known)
    return None if total is None else total / len(known)
