"""One test over time: what each target made of it, and where it is flaky."""

import sqlite3
from typing import Any

from indexer.errors import UnknownTestError
from indexer.index.boards import COUNTED, OF_TRIALS, Part
from indexer.index.pages import require_limit
from indexer.index.select import Row, dicts, distinct
from indexer.statistics import rate

_CONDITIONS = ("task_checksum", "reasoning_effort", "agent_version", "code_sha")
"""What has to be equal for two outcomes of a test and target to contradict each other."""
_OUTCOME = (
    "r.run_id", "r.key AS run_key", "r.experiment", "t.timestamp", "t.trial", "t.status", "t.score", "t.error_type",
    "t.error", "t.duration_s", "t.cost_usd", "t.task_checksum", "t.reasoning_effort", "t.agent_version", "r.code_sha",
    "t.id",
)  # fmt: skip
_TEST = "FROM trials WHERE test_id = ? AND suite IS ?"
_SHOWN = 10


def history(database: sqlite3.Connection, test: str, part: Part, *, suite: str | None = None, limit: int = 50) -> Row:
    """`suite`, `test_id`, and `targets`: for each its newest `limit` verdicts in runs that ended.

    A target has `target`, `passed`, `executions`, `pass_rate`, `interval`, `flaky` (both outcomes under equal task,
    effort, agent version and code) and `outcomes`, newest first, with the `scores` of their graders.
    Raises UnknownTestError, QueryError.
    """
    require_limit(limit)
    suite, test_id = resolve_test(database, test, suite)
    where, values = part.conditions(OF_TRIALS)
    statement = (
        f"SELECT {', '.join(_OUTCOME)} FROM trials t CROSS JOIN runs r ON r.id = t.run_pk "
        f"WHERE t.test_id = ? AND t.suite IS ? AND t.target IS ? AND t.status IN {COUNTED} "
        f"AND r.on_boards{where} ORDER BY t.timestamp DESC, r.key DESC, t.trial DESC LIMIT ?"
    )
    targets = []
    for target in distinct(database, "target", _TEST, test_id, suite):
        outcomes = dicts(database, statement, test_id, suite, target, *values, limit)
        if outcomes:
            targets.append(_target(database, target, outcomes))
    return {"suite": suite, "test_id": test_id, "targets": targets}


def resolve_test(database: sqlite3.Connection, name: str, suite: str | None = None) -> tuple[str | None, str]:
    """The (suite, test_id) that `test` or `suite/test` stands for; `/test` is one without a suite.

    With `suite`, `name` is the test in it, in none if that is empty. Raises UnknownTestError, with the candidates if
    there are several.
    """
    if suite is not None:
        found = [(known, name) for known in _suites(database, name) if (known or "") == suite]
    else:
        found = [(known, name) for known in _suites(database, name)]
        for at in (at for at, character in enumerate(name) if character == "/"):
            found += [(s, name[at + 1 :]) for s in _suites(database, name[at + 1 :]) if (s or "") == name[:at]]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownTestError(f"no test is called {name!r}" + (f" in the suite {suite!r}" if suite else ""))
    shown = ", ".join(f"{test!r} of {known or 'no suite'}" for known, test in found[:_SHOWN])
    more = ", …" if len(found) > _SHOWN else ""
    raise UnknownTestError(f"{name!r} is not one test: {shown}{more}; name its suite")


def _suites(database: sqlite3.Connection, test_id: str) -> list[str | None]:
    return list(distinct(database, "suite", "FROM trials WHERE test_id = ?", test_id))


def _target(database: sqlite3.Connection, target: str | None, outcomes: list[Row]) -> Row:
    seen: dict[tuple[Any, ...], set[bool]] = {}
    for outcome in outcomes:
        conditions = tuple(outcome.pop(name) for name in _CONDITIONS)
        seen.setdefault(conditions, set()).add(outcome["status"] == "passed")
        scores = "SELECT name, type, score, weight, passed FROM scores WHERE trial_pk = ? ORDER BY id"
        outcome["scores"] = dicts(database, scores, outcome.pop("id"))
    passed = sum(outcome["status"] == "passed" for outcome in outcomes)
    flaky = any(len(results) == 2 for results in seen.values())
    return {"target": target, **rate(passed, len(outcomes)), "flaky": flaky, "outcomes": outcomes}
