"""One test over time, for each target: its results, how often equal executions disagree, and since when it fell."""

import sqlite3
from typing import Any

from indexer.queries.drift import change_point
from indexer.queries.executions import COUNTED, Tally, quality
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.flaky import EQUAL, FEWEST, LEAST
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, dicts
from indexer.queries.selection import Selection, select
from indexer.queries.trials import add_scores
from indexer.queries.values import named_test
from indexer.statistics import disagreement

_OUTCOME = (
    "r.run_id", "r.key AS run_key", "r.experiment", "t.timestamp", "t.trial", "t.status", "t.score", "t.error_type",
    "t.error", "t.duration_s", "t.cost_usd", "t.id",
)  # fmt: skip


def history(
    database: sqlite3.Connection,
    filters: Filters,
    reader: Reader,
    *,
    test: str,
    suite: str | None = None,
    limit: int = 50,
) -> Row:
    """`suite`, `test_id`, and `targets`: the results of each target in runs that ended.

    A target has the counts `passed`, `verdicts`, `executions` and `errored`, and `quality_rate` with its `interval`.
    `disagreement` and `flaky` cover all executions. `change` is its fall as `drift` finds it, or None. `outcomes` are
    the newest `limit` executions, newest first, each with the `scores` of its graders; `more`: older ones are left out.
    Raises UnknownTestError, QueryError.
    """
    require_limit(limit)
    suite, test_id = named_test(database, test, suite)
    selection = select(database, filters, reader.zone)
    targets = "SELECT DISTINCT target FROM trials WHERE test_id = ? AND suite IS ? ORDER BY target NULLS FIRST"
    found = []
    for (target,) in database.execute(targets, (test_id, suite)).fetchall():
        of_target = _target(database, selection, (test_id, suite, target), limit)
        if of_target["executions"]:
            found.append(of_target)
    return {"suite": suite, "test_id": test_id, "targets": found}


def _target(
    database: sqlite3.Connection, selection: Selection, group: tuple[str, str | None, str | None], limit: int
) -> Row:
    test_id, suite, target = group
    where, values = selection.of_trials()
    source = (
        "FROM trials t CROSS JOIN runs r ON r.id = t.run_pk WHERE t.test_id = ? AND t.suite IS ? AND t.target IS ? "
        f"AND t.status IN {COUNTED} AND r.on_boards{where}"
    )
    tally, equal = Tally(), dict[tuple[Any, ...], list[int]]()
    counted = f"SELECT t.status, {EQUAL}, count(*) {source} GROUP BY t.status, {EQUAL}"
    for status, *conditions, times in database.execute(counted, (*group, *values)):
        tally.add(status, None, times)
        if status != "errored":
            counts = equal.setdefault(tuple(conditions), [0, 0])
            counts[0] += times
            counts[1] += times * (status == "passed")
    order = "ORDER BY t.timestamp DESC, r.key DESC, t.trial DESC LIMIT ?"
    outcomes = dicts(database, f"SELECT {', '.join(_OUTCOME)} {source} {order}", *group, *values, limit)
    add_scores(database, outcomes)
    chance = disagreement((verdicts, passed) for verdicts, passed in equal.values())
    pooled = sum(verdicts for verdicts, _ in equal.values() if verdicts > 1)
    return {
        "target": target,
        **quality(tally),
        "executions": tally.executions,
        "errored": tally.errored,
        "disagreement": chance,
        "flaky": chance is not None and chance >= LEAST and pooled >= FEWEST,
        "change": change_point(database, selection, target, suite, test_id),
        "more": tally.executions > len(outcomes),
        "outcomes": outcomes,
    }


QUESTION = Question(
    name="history",
    help="Show one test over time for each target: its results, since when it fell, and whether it is flaky.",
    example="indexer history suite/test-1 --since 30d",
    answer=history,
    parameters={
        "test": Parameter(help="A test, or suite/test where several suites have it.", required=True),
        "suite": Parameter(help="The test's suite, empty for none."),
        "limit": Parameter(help="The newest executions for each target, 1 to 1000.", kind="number", default=50),
    },
    filters=tuple(name for name in DECLARED if name != "test"),
)
