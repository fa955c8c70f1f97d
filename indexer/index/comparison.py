"""Two runs side by side: what differs, which tests flipped, and whether that is more than noise.

A test (suite, test_id) that ran several times counts as passed where most executions passed; errors fail. Only
tests that both sides executed are paired.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any

from indexer.errors import QueryError, UnknownRunError
from indexer.index.names import resolve
from indexer.index.rows import stored_trials
from indexer.index.select import Row, dicts
from indexer.index.totals import COUNTED, mean, totals
from indexer.records import Trial
from indexer.statistics import SIGNIFICANT, mcnemar, rate

_RUN = ("run_id", "key", "experiment", "target", "status", "timestamp", "updated_at")
_TOTALS = (
    "trial_count", "passed", "failed", "errored", "test_count", "avg_score", "quality_score", "cost_usd",
    "input_tokens", "output_tokens",
)  # fmt: skip
_NEWEST = """
SELECT run_pk FROM run_targets WHERE experiment = ? AND target = ? AND on_boards
ORDER BY timestamp DESC, run_key DESC LIMIT 1
"""
_Test = tuple[str | None, str | None]


def compare(
    database: sqlite3.Connection, a: str, b: str, *, target: str | None = None, experiment: str | None = None
) -> Row:
    """Two runs by their names, of both only the trials of `target` if given.

    With `experiment`, `a` and `b` are targets: the newest run that ended in it is taken for each. Gives `a` and `b`
    (facts of the run, totals, `pass_rate` with `interval`, `duration_s` a trial), `shared` tests, `worse` and
    `better` (`suite`, `test_id`, both sides), `only_a` and `only_b` (numbers of tests), `p_value` of the flips by
    McNemar's exact test, and `significant`. Raises UnknownRunError.
    """
    if experiment is not None and target is not None:
        raise QueryError("target: with an experiment, A and B are the targets")
    if experiment is None:
        sides = [_side(database, resolve(database, name), target) for name in (a, b)]
    else:
        sides = [_side(database, _newest(database, experiment, name), name) for name in (a, b)]
    (facts_a, tests_a), (facts_b, tests_b) = sides
    worse, better = [], []
    shared = sorted(tests_a.keys() & tests_b.keys(), key=lambda test: (test[0] or "", test[1] or ""))
    for test in shared:
        before, after = _outcome(tests_a[test]), _outcome(tests_b[test])
        flip = {"suite": test[0], "test_id": test[1], "a": before, "b": after}
        if before["passes"] and not after["passes"]:
            worse.append(flip)
        elif after["passes"] and not before["passes"]:
            better.append(flip)
    p_value = mcnemar(len(worse), len(better))
    return {
        "a": facts_a,
        "b": facts_b,
        "shared": len(shared),
        "only_a": len(tests_a.keys() - tests_b.keys()),
        "only_b": len(tests_b.keys() - tests_a.keys()),
        "worse": worse,
        "better": better,
        "p_value": p_value,
        "significant": p_value < SIGNIFICANT,
    }


def _newest(database: sqlite3.Connection, experiment: str, target: str) -> int:
    row = database.execute(_NEWEST, (experiment, target)).fetchone()
    if row is None:
        raise UnknownRunError(f"experiment {experiment!r} has no run that ended with the target {target!r}")
    return int(row[0])


def _side(database: sqlite3.Connection, pk: int, target: str | None) -> tuple[Row, dict[_Test, list[Trial]]]:
    """Facts and totals of a run or one of its targets, and its counted trials by test."""
    run = dicts(database, f"SELECT {', '.join(_RUN)} FROM runs WHERE id = ?", pk)[0]
    trials = [trial for trial in stored_trials(database, pk).values() if target in (None, trial.target)]
    if target is not None and not trials:
        raise UnknownRunError(f"{run['run_id']} has no trial of the target {target!r}")
    tests: dict[_Test, list[Trial]] = {}
    for trial in trials:
        if trial.status in COUNTED:
            tests.setdefault((trial.suite, trial.test_id), []).append(trial)
    total = totals(trials)
    counts = rate(total["passed"], total["trial_count"])
    facts = run | {name: total[name] for name in _TOTALS}
    facts |= {"pass_rate": counts["pass_rate"], "interval": counts["interval"]}
    facts["duration_s"] = _mean(trial.duration_s for trial in trials)
    if target is not None:
        facts["target"] = target
    return facts, tests


def _outcome(trials: list[Trial]) -> dict[str, Any]:
    passed = sum(trial.status == "passed" for trial in trials)
    score = _mean(0.0 if trial.status == "errored" else trial.score for trial in trials)
    return {"passes": 2 * passed > len(trials), "passed": passed, "executions": len(trials), "score": score}


def _mean(values: Iterable[float | None]) -> float | None:
    return mean([value for value in values if value is not None])
