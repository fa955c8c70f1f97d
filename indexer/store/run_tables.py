"""The stored rows of one run: read, and replaced by new ones, where they differ."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from indexer.records import Score, Trial
from indexer.store.rows import (
    ERRORS,
    INSERT_ERRORS,
    INSERT_REPEAT,
    INSERT_SCORE,
    INSERT_TAG,
    INSERT_TARGET,
    INSERT_TRIAL,
    REPEAT,
    RUN,
    SCORE,
    TAG,
    TARGET,
    TRIAL,
    TRIAL_ROW,
    Row,
    RunRows,
    TrialRows,
    select,
)

_DELETE_ERRORS = "DELETE FROM _errors WHERE timestamp = ? AND run_key = ?"


def stored_rows(
    database: sqlite3.Connection, run_pk: int, names: Collection[str] | None = None
) -> tuple[RunRows, dict[str, int]]:
    """The stored rows of a run, and the ids of its trials by name; with `names`, only of these trials."""
    run = database.execute(select("runs", RUN, "id = ?"), (run_pk,)).fetchone()
    trials: dict[str, TrialRows] = {}
    ids: dict[str, int] = {}
    by_id: dict[int, str] = {}
    where, values = _of_run(run_pk, names)
    for pk, *row in database.execute(select("trials", ["id", *TRIAL_ROW], where), values):
        trials[row[0]], ids[row[0]], by_id[pk] = (tuple(row), []), pk, row[0]
    scores = f"trial_pk IN (SELECT id FROM trials WHERE {where}) ORDER BY id"
    for pk, *row in database.execute(select("scores", ["trial_pk", *SCORE], scores), values):
        trials[by_id[pk]][1].append(tuple(row))
    targets = database.execute(select("run_targets", TARGET, "run_pk = ? ORDER BY id"), (run_pk,)).fetchall()
    tags = database.execute(select("run_tags", TAG, "run_pk = ? ORDER BY id"), (run_pk,)).fetchall()
    repeats = database.execute(select("_repeats", REPEAT, "run_pk = ?"), (run_pk,)).fetchall()
    key, timestamp = run[RUN.index("key")], run[RUN.index("timestamp")]
    where = "timestamp = ? AND run_key = ?"
    errors = database.execute(select("_errors", ERRORS, where), (timestamp, key)).fetchall()
    return RunRows(run, trials, targets, tags, sorted(repeats, key=repr), errors), ids


def stored_trials(database: sqlite3.Connection, run_pk: int, names: Collection[str] | None = None) -> dict[str, Trial]:
    """The stored trials of a run as records, by name; with `names`, only these."""
    trials: dict[int, Trial] = {}
    where, values = _of_run(run_pk, names)
    for pk, *row in database.execute(select("trials", ["id", *TRIAL], where), values):
        trials[pk] = Trial(**dict(zip(TRIAL, row, strict=True)))
    scores = f"trial_pk IN (SELECT id FROM trials WHERE {where}) ORDER BY id"
    for pk, *row in database.execute(select("scores", ["trial_pk", *SCORE], scores), values):
        told = dict(zip(SCORE, row, strict=True))
        told["passed"] = None if told["passed"] is None else bool(told["passed"])
        trials[pk].scores.append(Score(**told))
    return {trial.trial: trial for trial in trials.values()}


def _of_run(run_pk: int, names: Collection[str] | None) -> tuple[str, Sequence[object]]:
    """The SQL condition for the trials of a run, or for those in `names`, and its parameters."""
    if names is None:
        return "run_pk = ?", (run_pk,)
    return f"run_pk = ? AND trial IN ({', '.join('?' * len(names))})", (run_pk, *names)


def replace_differences(
    database: sqlite3.Connection, run_pk: int, rev: int, old: RunRows, ids: dict[str, int], new: RunRows, next_id: int
) -> int:
    """Replace the stored rows of a run; trials that are equal keep theirs. Returns the next free trial id."""
    next_id = replace_trials(database, run_pk, old.trials, ids, new.trials, next_id)
    replace_others(database, run_pk, rev, old, new)
    return next_id


def replace_trials(
    database: sqlite3.Connection,
    run_pk: int,
    old: Mapping[str, TrialRows],
    ids: Mapping[str, int],
    new: Mapping[str, TrialRows],
    next_id: int,
) -> int:
    """Replace some stored trials of a run. Returns the next free trial id."""
    for name, trial in old.items():
        if new.get(name) != trial:
            database.execute("DELETE FROM scores WHERE trial_pk = ?", (ids[name],))
            database.execute("DELETE FROM trials WHERE id = ?", (ids[name],))
    for name, trial in new.items():
        if old.get(name) != trial:
            pk = ids.get(name, next_id)
            next_id += pk == next_id
            database.execute(INSERT_TRIAL, (pk, run_pk, *trial[0]))
            database.executemany(INSERT_SCORE, [(pk, *score) for score in trial[1]])
    return next_id


def replace_others(database: sqlite3.Connection, run_pk: int, rev: int, old: RunRows, new: RunRows) -> None:
    """Replace the stored rows of a run, except those of its trials."""
    assignments = ", ".join(f"{column} = ?" for column in (*RUN, "rev"))
    database.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*new.run, rev, run_pk))
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


def replace_tags(database: sqlite3.Connection, run_pk: int, tags: Iterable[Row]) -> None:
    database.execute("DELETE FROM run_tags WHERE run_pk = ?", (run_pk,))
    database.executemany(INSERT_TAG, [(run_pk, *row) for row in tags])


def delete_rows(database: sqlite3.Connection, run_pk: int) -> None:
    """Delete a run and all its rows except its places."""
    database.execute(
        "DELETE FROM _errors WHERE (timestamp, run_key) = (SELECT timestamp, key FROM runs WHERE id = ?)", (run_pk,)
    )
    database.execute("DELETE FROM scores WHERE trial_pk IN (SELECT id FROM trials WHERE run_pk = ?)", (run_pk,))
    for table in ("trials", "run_targets", "run_tags", "_repeats"):
        database.execute(f"DELETE FROM {table} WHERE run_pk = ?", (run_pk,))
    database.execute("DELETE FROM runs WHERE id = ?", (run_pk,))
