"""What fell lately by more than chance, and since which run.

Groups are each target, target x dataset and target x test, over all experiments or what the filters select. Only a
group's last runs that ended are examined; `falls` judges them.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from indexer.errors import QueryError
from indexer.queries.executions import COUNTED, Tally
from indexer.queries.falls import RunOfGroup, detectable_fall, fallen, judged
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.pages import require_limit
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, distinct
from indexer.queries.selection import Selection, select
from indexer.records import span_seconds, utc_text
from indexer.statistics import SIGNIFICANT

LEVELS = {"target": (), "dataset": ("suite",), "test": ("suite", "test_id")}
"""By level: the columns that identify a group besides its target."""
WINDOW = "40"
_COLUMNS = "r.key, r.run_id, r.timestamp, r.sha, r.code_sha, t.suite, t.test_id, t.status, t.score"


def drift(
    database: sqlite3.Connection,
    filters: Filters,
    reader: Reader,
    *,
    window: str = WINDOW,
    by: str | None = None,
    every: bool = False,
    limit: int = 20,
) -> Row:
    """The measures of groups that fell, the smallest q-value first; with `every`, all that were examined.

    `looked_at` counts the examined pairs of group and measure. `groups` has a row for each pair: `target` (`suite`,
    `test_id`), `measure`, `before`, `recent`, `difference`, `interval`, `p_value`, `q_value`, the runs `since`,
    `last_good` and `first` (the oldest examined), and `compare`: both sides as `compare` takes them, None without a
    target or if both sides have the same time. `more`: `limit` left some out. `detectable_fall`: about how far a rate
    would have to fall to be detected, None if no fall would be. Raises QueryError.
    """
    if by is not None and by not in LEVELS:
        raise QueryError(f"by: {by!r} is none of {', '.join(LEVELS)}")
    require_limit(limit)
    runs, span = _window(window)
    selection = select(database, filters, reader.zone)
    found = judged(_groups(database, selection, tuple(LEVELS) if by is None else (by,), runs, span))
    shown = [row | {"compare": _sides(filters, row)} for row in found if every or row["q_value"] < SIGNIFICANT]
    return {
        "looked_at": len(found),
        "detectable_fall": detectable_fall(found),
        "groups": shown if every else shown[:limit],
        "more": not every and len(shown) > limit,
    }


def _sides(filters: Filters, row: Row) -> Row | None:
    """Both sides of a boundary as parameters and filters of `compare`."""
    since = row["since"]["timestamp"]
    if row["target"] is None or since == row["last_good"]["timestamp"]:
        return None
    group = {"target": row["target"]}
    if row.get("test_id") is not None:
        group["test"] = f"{row['suite'] or ''}/{row['test_id']}"  # unambiguous if a suite has this test too
    elif row.get("suite") is not None:
        group["dataset"] = row["suite"]
    return {"a": {"since": row["first"]["timestamp"], "until": since}, "b": {"since": since}, **filters, **group}


def change_point(
    database: sqlite3.Connection, selection: Selection, target: str | None, suite: str | None, test_id: str
) -> Row | None:
    """The fall of a target in the verdicts of a test, as drift finds it for this group alone; None if there is none."""
    where, values = selection.of_trials()
    group = (target, suite, test_id)
    if where:
        where += " AND t.target IS ? AND t.suite IS ? AND t.test_id IS ?"
        narrowed = _walked(database, ["test"], where, [*values, *group], int(WINDOW), "")["test"]
        runs = list(narrowed.get(group, {}).values())
    else:
        runs = _last_runs(database, ("target", "suite", "test_id"), group, int(WINDOW), "")
    found = [row for row in fallen({}, runs) if row["measure"] == "quality_rate"]
    return found[0] if found and found[0]["p_value"] < SIGNIFICANT else None


def _window(window: str) -> tuple[int, timedelta | None]:
    """Parse a window: a number of runs per group, or a time span. Raises QueryError."""
    if re.fullmatch(r"[1-9]\d{0,3}", window) and int(window) > 1:
        return int(window), None
    try:
        span = timedelta(seconds=span_seconds(window))
        if span:
            return sys.maxsize, span
    except (ValueError, OverflowError):
        pass
    raise QueryError(f"window: {window!r} is neither a number of runs (40, from 2 to 9999) nor a span (14d)")


def _groups(
    database: sqlite3.Connection, selection: Selection, levels: Sequence[str], most: int, span: timedelta | None
) -> Iterator[tuple[Row, list[RunOfGroup]]]:
    """Each group of some levels with its last runs, newest first.

    Without filters, an index finds each group's last runs; with filters, one walk over the selected runs finds
    all groups.
    """
    where, values = selection.of_trials()
    earliest = _earliest(database, selection, span)
    narrowed = None if not where else _walked(database, levels, where, values, most, earliest)
    tests = list(_tests(database)) if narrowed is None else []
    for level in levels:
        names = ("target", *LEVELS[level])
        groups = dict.fromkeys(test[: len(names)] for test in tests) if narrowed is None else narrowed[level]
        for group in groups:
            if level != "dataset" or group[1] is not None:
                runs = (
                    _last_runs(database, names, group, most, earliest)
                    if narrowed is None
                    else list(narrowed[level][group].values())
                )
                yield dict(zip(names, group, strict=True)), runs


def _walked(
    database: sqlite3.Connection, levels: Sequence[str], where: str, values: Sequence[Any], most: int, earliest: str
) -> dict[str, dict[tuple[Any, ...], dict[str, RunOfGroup]]]:
    """The last runs of every group by level, from one walk over what filters let through, newest first."""
    found: dict[str, dict[tuple[Any, ...], dict[str, RunOfGroup]]] = {level: {} for level in levels}
    widths = [(found[level], 1 + len(LEVELS[level])) for level in levels]
    statement = (
        f"SELECT {_COLUMNS}, t.target FROM runs r CROSS JOIN trials t ON t.run_pk = r.id "
        f"WHERE r.on_boards AND t.status IN {COUNTED} AND r.timestamp >= ?{where} ORDER BY r.timestamp DESC, r.key DESC"
    )
    rows = database.execute(statement, (earliest, *values))
    for key, run_id, timestamp, sha, code_sha, suite, test_id, status, score, target in rows:
        whole = (target, suite, test_id)
        for groups, width in widths:
            runs = groups.setdefault(whole[:width], {})
            run = runs.get(key)
            if run is None:
                if len(runs) == most:
                    continue
                run = runs[key] = _run(key, run_id, timestamp, sha, code_sha)
            run.tests.setdefault((suite, test_id), Tally()).add(status, score)
    return {level: dict(sorted(groups.items(), key=lambda group: repr(group[0]))) for level, groups in found.items()}


def _earliest(database: sqlite3.Connection, selection: Selection, span: timedelta | None) -> str:
    """The start of a time span that ends with the newest selected run."""
    if span is None:
        return ""
    where, values = selection.of_runs(None, "r.timestamp")
    wanted = " AND ".join(["r.on_boards", *where])
    newest = database.execute(f"SELECT max(r.timestamp) FROM runs r WHERE {wanted}", values).fetchone()
    try:
        return utc_text(datetime.fromisoformat(newest[0]) - span) if newest[0] else ""
    except OverflowError:
        return ""


def _tests(database: sqlite3.Connection) -> Iterator[tuple[str | None, str | None, str | None]]:
    """Every (target, suite, test_id), each found by a few index seeks."""
    for test in distinct(database, "test_id", "FROM trials WHERE true"):
        for suite in distinct(database, "suite", "FROM trials WHERE test_id IS ?", test):
            for target in distinct(database, "target", "FROM trials WHERE test_id IS ? AND suite IS ?", test, suite):
                yield target, suite, test


def _last_runs(
    database: sqlite3.Connection, names: Sequence[str], group: Sequence[str | None], most: int, earliest: str
) -> list[RunOfGroup]:
    """The last runs of a group with its executions, newest first."""
    if "test_id" in names:
        joined, before = "trials t CROSS JOIN runs r ON r.id = t.run_pk", []
        order = "t.timestamp DESC, r.key DESC"
    else:
        held = " AND ".join(f"h.{name} IS ?" for name in names)
        newest = (
            f"SELECT DISTINCT h.timestamp, h.run_key, h.run_pk FROM run_targets h "
            f"WHERE {held} AND h.on_boards AND h.trial_count > 0 ORDER BY h.timestamp DESC, h.run_key DESC LIMIT {most}"
        )
        joined = f"({newest}) n CROSS JOIN runs r ON r.id = n.run_pk CROSS JOIN trials t ON t.run_pk = r.id"
        before, order = list(group), "n.timestamp DESC, n.run_key DESC"
    same = " AND ".join(f"t.{name} IS ?" for name in names)
    statement = (
        f"SELECT {_COLUMNS} FROM {joined} WHERE {same} AND t.status IN {COUNTED} AND r.on_boards "
        f"AND t.timestamp >= ? ORDER BY {order}"
    )
    runs: dict[str, RunOfGroup] = {}
    with closing(database.execute(statement, (*before, *group, earliest))) as rows:
        for key, run_id, timestamp, sha, code_sha, suite, test_id, status, score in rows:
            if key not in runs:
                if len(runs) == most:
                    break
                runs[key] = _run(key, run_id, timestamp, sha, code_sha)
            runs[key].tests.setdefault((suite, test_id), Tally()).add(status, score)
    return list(runs.values())


def _run(key: str, run_id: str, timestamp: str, sha: str | None, code_sha: str | None) -> RunOfGroup:
    return RunOfGroup({"run_id": run_id, "key": key, "timestamp": timestamp, "sha": sha, "code_sha": code_sha})


QUESTION = Question(
    name="drift",
    help="Show what fell lately by more than chance, and since which run: targets, their datasets and tests.",
    example="indexer drift --by test --since 30d",
    answer=drift,
    parameters={
        "window": Parameter(help="Runs of each group, or a span of time before the newest run.", default=WINDOW),
        "by": Parameter(help="Only this level: target, dataset or test."),
        "every": Parameter(help="All groups that were looked at, with their p and q.", kind="flag", default=False),
        "limit": Parameter(help="Rows to show, 1 to 1000, unless all are asked for.", kind="number", default=20),
    },
    filters=tuple(DECLARED),
)
