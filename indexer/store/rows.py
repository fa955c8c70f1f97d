"""Rows of one run: from records to the columns of the tables, and only the differences to the database."""

import dataclasses
import json
import sqlite3
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

from indexer.derive import (
    TOTALS,
    Configuration,
    Sums,
    Tests,
    by_configuration,
    counts_on_boards,
    firsts,
    mean,
    outcomes,
    status,
)
from indexer.records import Reported, Run, Score, Trial, joined

Row: TypeAlias = tuple[Any, ...]

TRIAL = tuple(field.name for field in dataclasses.fields(Trial) if field.name != "scores")
TRIAL_ROW = (*TRIAL, "timestamp")
SCORE = tuple(field.name for field in dataclasses.fields(Score))
RUN = (
    "key", "run_id", "source", "path", "ref", "format", "layout", "experiment", "target", "agent", "model", "status",
    "timestamp", "started_at", "finished_at", "updated_at", "duration_s", "planned_count", "running_count", *TOTALS,
    "size_bytes", "tags", "sha", "added_at", "author", "code_sha", "host", "attempt",
    "derived_from", "error",
)  # fmt: skip
TARGET = (
    "run_key", "timestamp", "experiment", "on_boards", "target", "agent", "model", "suite", *TOTALS,
    "duration_s", "timed", "firsts", "paid", "scored", "target_tests", "outcomes", "reported_pass_rate",
    "reported_score",
)  # fmt: skip
DELETIONS_KEPT = 100_000
"""How many deleted runs are remembered for those who follow changes."""

_UNREPORTED = Reported()
ERRORS = ("timestamp", "run_key", "text")
_DELETE_ERRORS = "DELETE FROM _errors WHERE timestamp = ? AND run_key = ?"
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
TAG = ("run_key", "timestamp", "tag", "key", "value")

_CONDITION = (
    "agent", "model", "suite", "test_id", "target", "task_checksum", "reasoning_effort", "agent_version",
)  # fmt: skip
REPEAT = ("timestamp", *_CONDITION, "verdicts", "passed")

_condition: Callable[[Trial], Row] = attrgetter(*_CONDITION)
_STATUS = TRIAL_ROW.index("status")
_failure: Callable[[Row], Row] = itemgetter(
    *map(TRIAL_ROW.index, ("status", "error_type", "suite", "test_id", "target"))
)
FAILURES = """
SELECT t.status, t.error_type, t.suite, t.test_id, t.target, count(*) AS trials,
       count(DISTINCT t.run_pk) AS runs
FROM {0}.trials t JOIN {0}.runs r ON r.id = t.run_pk WHERE t.status IN ('failed', 'errored') AND r.on_boards
GROUP BY 1, 2, 3, 4, 5"""
"""What `_failures` holds of a schema, counted anew."""
_OF_TARGETS = {"target": "target", "agent": "agent", "model": "model", "dataset": "suite"}
"""Filters whose values stand in `run_targets`, by their columns."""
VALUES = " UNION ALL ".join([
    *(f"SELECT '{name}', {name}, count(*) FROM {{0}}.runs GROUP BY 2" for name in ("experiment", "status")),
    *(
        f"SELECT '{name}', {column}, sum(firsts >> {1 << at} & 1) FROM {{0}}.run_targets "
        f"WHERE {column} IS NOT NULL GROUP BY 2"
        for at, (name, column) in enumerate(_OF_TARGETS.items())
    ),
    "SELECT 'tag', tag, count(*) FROM {0}.run_tags GROUP BY 2",
])  # fmt: skip
"""What `_values` holds of a schema, counted anew."""
_run_row: Callable[[dict[str, Any]], Row] = itemgetter(*RUN)
_trial_row: Callable[[Trial], Row] = attrgetter(*TRIAL)
_score_row: Callable[[Score], Row] = attrgetter(*SCORE)


def insert(table: str, columns: Sequence[str]) -> str:
    """An INSERT of all columns, by position."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def select(table: str, columns: Sequence[str], where: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"


INSERT_RUN = insert("runs", ["id", *RUN, "rev"])
INSERT_TRIAL = insert("trials", ["id", "run_pk", *TRIAL_ROW])
INSERT_SCORE = insert("scores", ["trial_pk", *SCORE])
INSERT_TARGET = insert("run_targets", ["run_pk", *TARGET])
INSERT_REPEAT = insert("_repeats", ["run_pk", *REPEAT])
INSERT_ERRORS = insert("_errors", ["run_pk", *ERRORS])
INSERT_TAG = insert("run_tags", ["run_pk", *TAG])


@dataclasses.dataclass(slots=True)
class RunRows:
    """All rows of one run, without the internal ids."""

    run: Row
    trials: dict[str, tuple[Row, list[Row]]]  # by name: its row, its scores' rows
    targets: list[Row]
    tags: list[Row]
    repeats: list[Row]
    errors: list[Row]  # one row, or none


def run_rows(run: Run, place: tuple[str, str, str | None], tags: Sequence[str], added: Row) -> RunRows:
    """The rows of a run read at `place` (source, path, ref); `added` is (sha, added_at, author)."""
    grouped = by_configuration(run.trials)
    if not grouped and run.configuration is not None:
        grouped[run.configuration] = Sums()
    sums = next(iter(grouped.values())) if len(grouped) == 1 else Sums()
    if len(grouped) != 1:
        for each in grouped.values():
            sums.merge(each)
    values = {field: getattr(run, field) for field in _RUN_FIELDS} | dict(zip(TOTALS, sums.totals(), strict=True))
    values["source"], values["path"], values["ref"] = place
    values["sha"], values["added_at"], values["author"] = added
    values["status"] = status(run)
    values["derived_from"] = json.dumps(run.derived_from, ensure_ascii=False) if run.derived_from else None
    values["tags"] = tags_text(tags)
    for at, column in enumerate(("target", "agent", "model")):
        values[column] = joined(configuration[at] for configuration in grouped)
    return RunRows(
        run=_run_row(values),
        trials={
            trial.trial: ((*_trial_row(trial), run.timestamp), [_score_row(score) for score in trial.scores])
            for trial in run.trials
        },
        targets=_target_rows(run, grouped),
        tags=tag_rows(run.key, run.timestamp, tags),
        repeats=_repeat_rows(run),
        errors=_error_rows(run),
    )


_RUN_FIELDS = [field.name for field in dataclasses.fields(Run) if field.name in RUN]


def tags_text(tags: Collection[str]) -> str:
    """Tags as a JSON array, sorted, each once."""
    if not tags:
        return "[]"
    return json.dumps(sorted(set(tags)), ensure_ascii=False)


def tag_rows(key: str, timestamp: str, tags: Iterable[str]) -> list[Row]:
    """A row for each tag; `team=support` has a key and a value, `baseline` only a value."""
    rows = []
    for tag in sorted(set(tags)):
        name, equals, value = tag.partition("=")
        rows.append((key, timestamp, tag, name if equals else "", value if equals else tag))
    return rows


def _target_rows(run: Run, grouped: Mapping[Configuration, Sums]) -> list[Row]:
    on_boards = int(counts_on_boards(run))
    of_targets: dict[tuple[str | None, str | None], list[Tests]] = {}
    for (target, _, _, suite), sums in grouped.items():
        of_targets.setdefault((target, suite), []).append(sums.tests)
    rows = []
    for configuration, bits in zip(grouped, firsts(list(grouped)), strict=True):
        target, _, _, suite = configuration
        sums = grouped[configuration]
        reported = run.reported.get(target or "") or _UNREPORTED
        tests = outcomes(of_targets.pop((target, suite), []))
        rows.append((
            run.key, run.timestamp, run.experiment, on_boards, *configuration, *sums.totals(), mean(sums.durations),
            len(sums.durations), bits, sums.paid, len(sums.scores), sum(count for _, _, count in tests),
            f"[{','.join(f'[{executions},{passed},{count}]' for executions, passed, count in tests)}]",
            reported.pass_rate, reported.score,
        ))  # fmt: skip
    return rows


def _repeat_rows(run: Run) -> list[Row]:
    """Verdicts under equal conditions: more than one, or one that another run may repeat."""
    groups: dict[Row, list[int]] = {}
    together = Counter[Row]()  # agent and model of a target are no conditions of their own
    for trial in run.trials:
        if trial.status in ("passed", "failed"):
            condition = _condition(trial)
            count = groups.setdefault(condition, [0, 0])
            count[0] += 1
            count[1] += trial.status == "passed"
            together[condition[2:]] += 1
    comparable = run.code_sha is not None
    return sorted(
        (
            (run.timestamp, *condition, *count)
            for condition, count in groups.items()
            if together[condition[2:]] > 1 or (comparable and condition[-1] is not None)
        ),
        key=repr,
    )


def _error_rows(run: Run) -> list[Row]:
    """What pages by a piece of an error look through: the texts of a run's trials, each once."""
    texts = {trial.error for trial in run.trials}
    texts.update(score.reason for trial in run.trials for score in trial.scores)
    text = "\n".join(sorted(small_letters(text) for text in texts if text))
    return [(run.timestamp, run.key, text)] if text else []


def small_letters(text: str) -> str:
    """A text with the letters of ASCII made small, as SQL's `lower` does."""
    return text.translate(_SMALL)


def stored_rows(database: sqlite3.Connection, run_pk: int) -> tuple[RunRows, dict[str, int]]:
    """The rows of a run as the index has them, and the ids of its trials by name."""
    run = database.execute(select("runs", RUN, "id = ?"), (run_pk,)).fetchone()
    trials: dict[str, tuple[Row, list[Row]]] = {}
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for pk, *row in database.execute(select("trials", ["id", *TRIAL_ROW], "run_pk = ?"), (run_pk,)):
        trials[row[0]], ids[row[0]], names[pk] = (tuple(row), []), pk, row[0]
    columns = ["trial_pk", *SCORE]
    where = "trial_pk IN (SELECT id FROM trials WHERE run_pk = ?) ORDER BY id"
    for pk, *row in database.execute(select("scores", columns, where), (run_pk,)):
        trials[names[pk]][1].append(tuple(row))
    targets = database.execute(select("run_targets", TARGET, "run_pk = ? ORDER BY id"), (run_pk,)).fetchall()
    tags = database.execute(select("run_tags", TAG, "run_pk = ? ORDER BY id"), (run_pk,)).fetchall()
    repeats = database.execute(select("_repeats", REPEAT, "run_pk = ?"), (run_pk,)).fetchall()
    key, timestamp = run[RUN.index("key")], run[RUN.index("timestamp")]
    where = "timestamp = ? AND run_key = ?"
    errors = database.execute(select("_errors", ERRORS, where), (timestamp, key)).fetchall()
    return RunRows(run, trials, targets, tags, sorted(repeats, key=repr), errors), ids


def stored_trials(database: sqlite3.Connection, run_pk: int) -> dict[str, Trial]:
    """The trials of a run as records, by name."""
    trials: dict[int, Trial] = {}
    for pk, *row in database.execute(select("trials", ["id", *TRIAL], "run_pk = ?"), (run_pk,)):
        trials[pk] = Trial(**dict(zip(TRIAL, row, strict=True)))
    where = "trial_pk IN (SELECT id FROM trials WHERE run_pk = ?) ORDER BY id"
    for pk, *row in database.execute(select("scores", ["trial_pk", *SCORE], where), (run_pk,)):
        values = dict(zip(SCORE, row, strict=True))
        values["passed"] = None if values["passed"] is None else bool(values["passed"])
        trials[pk].scores.append(Score(**values))
    return {trial.trial: trial for trial in trials.values()}


def replace_differences(
    database: sqlite3.Connection, run_pk: int, rev: int, old: RunRows, ids: dict[str, int], new: RunRows, next_id: int
) -> int:
    """Make the stored rows of a run the new ones; trials that are equal keep theirs. Returns the next free trial id."""
    assignments = ", ".join(f"{column} = ?" for column in (*RUN, "rev"))
    database.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*new.run, rev, run_pk))
    for name, trial in old.trials.items():
        if new.trials.get(name) != trial:
            database.execute("DELETE FROM scores WHERE trial_pk = ?", (ids[name],))
            database.execute("DELETE FROM trials WHERE id = ?", (ids[name],))
    for name, trial in new.trials.items():
        if old.trials.get(name) != trial:
            pk = ids.get(name, next_id)
            next_id += pk == next_id
            database.execute(INSERT_TRIAL, (pk, run_pk, *trial[0]))
            database.executemany(INSERT_SCORE, [(pk, *score) for score in trial[1]])
    if old.targets != new.targets:
        database.execute("DELETE FROM run_targets WHERE run_pk = ?", (run_pk,))
        database.executemany(INSERT_TARGET, [(run_pk, *row) for row in new.targets])
    if old.repeats != new.repeats:
        database.execute("DELETE FROM _repeats WHERE run_pk = ?", (run_pk,))
        database.executemany(INSERT_REPEAT, [(run_pk, *row) for row in new.repeats])
    if old.errors != new.errors:
        database.executemany(_DELETE_ERRORS, [row[:2] for row in old.errors])
        database.executemany(INSERT_ERRORS, [(run_pk, *row) for row in new.errors])
    if old.tags != new.tags:
        replace_tags(database, run_pk, new.tags)
    return next_id


def replace_tags(database: sqlite3.Connection, run_pk: int, tags: Iterable[Row]) -> None:
    database.execute("DELETE FROM run_tags WHERE run_pk = ?", (run_pk,))
    database.executemany(INSERT_TAG, [(run_pk, *row) for row in tags])


def delete_rows(database: sqlite3.Connection, run_pk: int) -> None:
    """Remove a run and all below it but its places."""
    database.execute(
        "DELETE FROM _errors WHERE (timestamp, run_key) = (SELECT timestamp, key FROM runs WHERE id = ?)", (run_pk,)
    )
    database.execute("DELETE FROM scores WHERE trial_pk IN (SELECT id FROM trials WHERE run_pk = ?)", (run_pk,))
    for table in ("trials", "run_targets", "run_tags", "_repeats"):
        database.execute(f"DELETE FROM {table} WHERE run_pk = ?", (run_pk,))
    database.execute("DELETE FROM runs WHERE id = ?", (run_pk,))


def failures(rows: RunRows) -> Counter[Row]:
    """How many trials of a run that boards count failed alike: status, error_type, suite, test_id, target."""
    status, derived_from = (rows.run[RUN.index(name)] for name in ("status", "derived_from"))
    if status not in ("completed", "failed") or derived_from is not None:
        return Counter()
    return Counter(_failure(trial) for trial, _ in rows.trials.values() if trial[_STATUS] in ("failed", "errored"))


def values(rows: RunRows) -> set[Row]:
    """The values that a run has of filters: (filter, value)."""
    found: set[Row] = {(name, rows.run[RUN.index(name)]) for name in ("experiment", "status")}
    for name, column in _OF_TARGETS.items():
        at = TARGET.index(column)
        found |= {(name, target[at]) for target in rows.targets if target[at] is not None}
    return found | {("tag", tag[TAG.index("tag")]) for tag in rows.tags}
