"""Tests whose verdicts disagree under equal conditions, the worst first: the view `flaky_tests` with filters."""

import sqlite3

from indexer.queries.filters import DECLARED, Filters
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, dicts
from indexer.queries.selection import select

FEWEST, LEAST = 5, 0.1
"""Fewest verdicts under repeated conditions, and least disagreement, of a flaky test."""

EQUAL = (
    "t.task_checksum, t.reasoning_effort, t.agent_version, r.code_sha, "
    "CASE WHEN t.agent_version IS NULL OR r.code_sha IS NULL THEN r.id ELSE 0 END"
)
"""Columns that equal conditions share; the run too, if version or code is unknown."""

_FLAKY = f"""
SELECT suite, test_id, target, sum(n) AS verdicts, sum(k) AS passed,
       2.0 * sum(k * (n - k)) / sum(n * (n - 1)) AS disagreement, max(last_run) AS last_run
FROM (
  SELECT t.suite, t.test_id, t.target, sum(t.verdicts) AS n, sum(t.passed) AS k, max(t.timestamp) AS last_run
  FROM _repeats t JOIN runs r ON r.id = t.run_pk
  WHERE r.on_boards{{}}
  GROUP BY t.test_id, t.suite, t.target, {EQUAL}
  HAVING sum(t.verdicts) > 1
) AS conditions
GROUP BY test_id, suite, target
HAVING sum(n) >= {FEWEST} AND 2.0 * sum(k * (n - k)) / sum(n * (n - 1)) >= {LEAST}
ORDER BY disagreement DESC, verdicts DESC, test_id NULLS FIRST, suite NULLS FIRST, target NULLS FIRST LIMIT ?
"""


def flaky(database: sqlite3.Connection, filters: Filters, reader: Reader, *, limit: int = 50) -> list[Row]:
    """`suite`, `test_id`, `target`, `verdicts` and `passed` under repeated conditions, `disagreement`, `last_run`.

    `disagreement` is the chance that two executions under equal conditions differ. Raises QueryError.
    """
    require_limit(limit)
    where, values = select(database, filters, reader.zone).of_trials({"timestamp": "t.timestamp"})
    return dicts(database, _FLAKY.format(where), *values, limit)


QUESTION = Question(
    name="flaky",
    help="Show the tests whose verdicts disagree most under equal conditions.",
    example="indexer flaky --since 30d --target alpha",
    answer=flaky,
    parameters={"limit": Parameter(help="Rows to show, 1 to 1000.", kind="number", default=50)},
    filters=tuple(DECLARED),
    rows=True,
)
