"""What goes wrong most often: error type x test x target, with the runs to look at."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from indexer.queries.filters import DECLARED, Filters
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, dicts
from indexer.queries.selection import select
from indexer.queries.values import test_name

_SHOWN = 3
_GROUP = ("t.status", "t.error_type", "t.suite", "t.test_id", "t.target")
_FAILURES = f"""
SELECT {", ".join(_GROUP)}, count(*) AS trials, count(DISTINCT t.run_pk) AS run_count, max(t.timestamp) AS last_run
FROM {{}} WHERE t.status IN ('failed', 'errored') AND r.on_boards {{}}
GROUP BY {", ".join(_GROUP)}
ORDER BY count(*) DESC, max(t.timestamp) DESC, {", ".join(f"{column} NULLS FIRST" for column in _GROUP)} LIMIT ?
"""
_NEWEST = f"""
SELECT r.run_id FROM trials t JOIN runs r ON r.id = t.run_pk
WHERE {" AND ".join(f"{column} IS ?" for column in _GROUP)} AND r.on_boards {{}}
ORDER BY t.timestamp DESC, r.key DESC
"""
_NAMES = tuple(column.partition(".")[2] for column in _GROUP)
_LAST = f"""
SELECT t.timestamp FROM trials t CROSS JOIN runs r ON r.id = t.run_pk
WHERE {" AND ".join(f"{column} IS ?" for column in _GROUP)} AND r.on_boards ORDER BY t.timestamp DESC LIMIT 1
"""
# by the index on failures, unless a filter leads to few runs
_ALL = "trials t CROSS JOIN runs r ON r.id = t.run_pk"
_SOME = "runs r CROSS JOIN trials t ON t.run_pk = r.id"


def failures(database: sqlite3.Connection, filters: Filters, reader: Reader, *, limit: int = 50) -> list[Row]:
    """Failures counted by test, error and target, the most frequent first. Raises QueryError.

    `status` is `errored`, or `failed` where there was a verdict; `error_type` is None if unknown; `test` is the name
    with the suite; `runs` are the ids of the newest three of `run_count` runs.
    """
    require_limit(limit)
    selection = select(database, filters, reader.zone)
    if not filters:
        return _of_everything(database, limit)
    joined, beside = (_SOME, {}) if selection.groups else (_ALL, {"timestamp": "t.timestamp"})
    where, values = selection.of_trials(beside)
    rows = dicts(database, _FAILURES.format(joined, where), *values, limit)
    return [_with_runs(database, row, where, values) for row in rows]


def _of_everything(database: sqlite3.Connection, limit: int) -> list[Row]:
    """The same over all runs, from kept counts: only the runs of the rows shown are read."""
    least = database.execute(
        "SELECT trials FROM _failures ORDER BY trials DESC LIMIT 1 OFFSET ?", (limit - 1,)
    ).fetchone()
    groups = f"SELECT {', '.join(_NAMES)}, trials, runs AS run_count FROM _failures WHERE trials >= ?"
    rows = dicts(database, groups, least[0] if least else 0)
    for row in rows:
        group = [row[name] for name in _NAMES]
        row["last_run"] = database.execute(_LAST, group).fetchone()[0]
    rows.sort(key=lambda row: [((value := row[name]) is not None, value or "") for name in _NAMES])
    rows.sort(key=lambda row: (row["trials"], row["last_run"]), reverse=True)
    return [_with_runs(database, row, "", ()) for row in rows[:limit]]


def _with_runs(database: sqlite3.Connection, row: Row, where: str, values: Sequence[Any]) -> Row:
    test = test_name(row["suite"], row["test_id"]) if row["test_id"] is not None else row["suite"] or ""
    group = [row[name] for name in _NAMES]
    with closing(database.execute(_NEWEST.format(where), (*group, *values))) as newest:
        runs = list(islice(unique(run_id for (run_id,) in newest), _SHOWN))
    ordered = {name: row[name] for name in (*_NAMES, "trials", "run_count", "last_run")}
    return {**ordered, "test": test, "runs": runs}


def unique(names: Iterable[str]) -> Iterator[str]:
    """Yield each name once, in order."""
    seen: set[str] = set()
    for name in names:
        if name not in seen:
            seen.add(name)
            yield name


QUESTION = Question(
    name="failures",
    help="Show which tests fail most often, with which error, for which target, and runs to look at.",
    example="indexer failures --since 7d",
    answer=failures,
    parameters={"limit": Parameter(help="Rows to show, 1 to 1000.", kind="number", default=50)},
    filters=tuple(DECLARED),
    rows=True,
)
