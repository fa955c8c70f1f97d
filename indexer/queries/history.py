"""One test over time: what each target made of it, how often equal executions disagree, and since when it fell."""

import sqlite3
from datetime import tzinfo
from typing import Any

from indexer.errors import QueryError
from indexer.queries.drift import change_point
from indexer.queries.executions import COUNTED, Tally, quality
from indexer.queries.filters import DECLARED, Filters, named_test, select
from indexer.queries.flaky import FEWEST, LEAST
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question
from indexer.queries.select import Row, dicts
from indexer.queries.trials import add_scores
from indexer.statistics import disagreement

_CONDITIONS = ("task_checksum", "reasoning_effort", "agent_version", "code_sha")
"""What has to be equal, and in another run known, for two outcomes of a test and target to disagree."""
_OUTCOME = (
    "r.run_id", "r.key AS run_key", "r.experiment", "r.sha AS commit_sha", "t.timestamp", "t.trial", "t.status",
    "t.score", "t.error_type", "t.error", "t.duration_s", "t.cost_usd", "t.task_checksum", "t.reasoning_effort",
    "t.agent_version", "r.code_sha", "t.id",
)  # fmt: skip


def history(
    database: sqlite3.Connection,
    filters: Filters,
    zone: tzinfo,
    *,
    test: str,
    suite: str | None = None,
    limit: int = 50,
) -> Row:
    """`suite`, `test_id`, and `targets`: for each its newest `limit` executions in runs that ended.

    A target has its verdicts with rate and interval, errors apart, `disagreement` and `flaky`, `change` (since when it
    fell, if that is more than chance), `outcomes`, newest first, with the `scores` of their graders, and `more` where
    older ones are not shown. Raises UnknownTestError, QueryError.
    """
    require_limit(limit)
    suite, test_id = named_test(database, test, suite)
    if "test" in filters:
        raise QueryError("test: it is named already")
    where, values = select(database, filters, zone).of_trials()
    statement = (
        f"SELECT {', '.join(_OUTCOME)} FROM trials t CROSS JOIN runs r ON r.id = t.run_pk "
        f"WHERE t.test_id = ? AND t.suite IS ? AND t.status IN {COUNTED} AND r.on_boards{where} "
        "ORDER BY t.timestamp DESC, r.key DESC, t.trial DESC"
    )
    found: dict[str | None, list[Row]] = {}
    targets = "SELECT DISTINCT target FROM trials WHERE test_id = ? AND suite IS ? ORDER BY target"
    for (target,) in database.execute(targets, (test_id, suite)).fetchall():
        some = f"{statement.replace('AND r.on_boards', 'AND t.target IS ? AND r.on_boards')} LIMIT ?"
        if outcomes := dicts(database, some, test_id, suite, target, *values, limit + 1):
            found[target] = outcomes
    return {
        "suite": suite,
        "test_id": test_id,
        "targets": [_target(database, target, outcomes, limit) for target, outcomes in found.items()],
    }


def _target(database: sqlite3.Connection, target: str | None, outcomes: list[Row], limit: int) -> Row:
    more = len(outcomes) > limit
    del outcomes[limit:]
    tally, equal = Tally(), dict[tuple[Any, ...], list[int]]()
    for outcome in outcomes:
        tally.add(outcome["status"], outcome["score"])
        conditions = tuple(outcome.pop(name) for name in _CONDITIONS)
        if outcome["status"] != "errored":
            alike = None not in conditions[2:]  # else only within a run
            counts = equal.setdefault(conditions if alike else (*conditions, outcome["run_key"]), [0, 0])
            counts[0] += 1
            counts[1] += outcome["status"] == "passed"
    add_scores(database, outcomes)
    chance = disagreement((executions, passed) for executions, passed in equal.values())
    pooled = sum(executions for executions, _ in equal.values() if executions > 1)
    return {
        "target": target,
        **quality(tally),
        "executions": tally.executions,
        "errored": tally.errored,
        "disagreement": chance,
        "flaky": chance is not None and chance >= LEAST and pooled >= FEWEST,
        "change": change_point(outcomes),
        "more": more,
        "outcomes": outcomes,
    }


QUESTION = Question(
    name="history",
    help="Show one test over time for each target: how often it passed, when, since when not, and whether it is flaky.",
    example="indexer history suite/test-1 --since 30d",
    answer=history,
    parameters={
        "test": Parameter(help="A test, or suite/test where several suites have it.", required=True),
        "suite": Parameter(help="The test's suite, empty for none."),
        "limit": Parameter(help="The newest executions for each target, 1 to 1000.", kind="number", default=50),
    },
    filters=tuple(name for name in DECLARED if name != "test"),
)
