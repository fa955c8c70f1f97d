"""Updates a stored run of which only some trials were read again: the rest is derived from the rows that stay.

What `derive` sums over a run's trials, SQL sums here over their rows, except fractions: their sums are exact, so
they need the numbers themselves.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from indexer.derive import COUNTED, Configuration, Sums, configuration_of, in_order
from indexer.records import Run
from indexer.store import rows, run_tables

_CONFIGURATION = slice(rows.TARGET.index("target"), rows.TARGET.index("suite") + 1)
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")
_halves = "sum({0} >> 32), sum({0} & 4294967295)".format
"""Sums of the upper and the lower halves of integers, whose plain sum may overflow in SQLite."""
_OF_ONE = "run_pk = ?1 AND (?2 OR (target IS ?3 AND agent IS ?4 AND model IS ?5 AND suite IS ?6))"
_COUNTS = f"""
SELECT status, count(*), sum(error_type IS NOT NULL OR status = 'errored'),
       sum(status = 'passed' AND cost_usd IS NOT NULL), {", ".join(map(_halves, _TOKENS))}
FROM trials WHERE {_OF_ONE} GROUP BY status
"""
_TESTS = f"""
SELECT test_id, count(*), sum(status = 'passed') FROM trials WHERE {_OF_ONE} AND status IN {COUNTED} GROUP BY test_id
"""
_NUMBERS = f"""
SELECT iif(status IN ('passed', 'failed'), score, NULL), duration_s, cost_usd FROM trials WHERE {_OF_ONE}
"""
_VERDICTS = f"""
SELECT {", ".join(rows.CONDITION)}, count(*), sum(status = 'passed') FROM trials INDEXED BY trials_run
WHERE run_pk = ? AND suite IS ? AND test_id IS ? AND status IN ('passed', 'failed') GROUP BY {", ".join(rows.CONDITION)}
"""
_TEXTS = """
SELECT error FROM trials WHERE run_pk = ?1 AND error <> '' UNION
SELECT s.reason FROM trials t CROSS JOIN scores s ON s.trial_pk = t.id WHERE t.run_pk = ?1 AND s.reason <> ''
"""


class Updated(NamedTuple):
    """An updated run: its rows before and now, with only the trials that were read, and the next free trial id.

    `failures` are the trials per kind of failure before and now, for the kinds that these trials have.
    """

    old: rows.RunRows
    new: rows.RunRows
    failures: tuple[Counter[rows.Row], Counter[rows.Row]]
    next_id: int


def replace_some(database: sqlite3.Connection, run_pk: int, run: Run, names: Collection[str], next_id: int) -> Updated:
    """Write the trials in `names`, which were read again; the run's other rows are only returned."""
    read = {*names, *(trial.trial for trial in run.trials)}
    old, ids = run_tables.stored_rows(database, run_pk, read)
    trials = rows.trial_rows(run)
    next_id = run_tables.replace_trials(database, run_pk, old.trials, ids, trials, next_id)
    known = dict(zip(rows.RUN, old.run, strict=True))
    place, added = (known["source"], known["path"], known["ref"]), (known["sha"], known["added_at"], known["author"])
    tags = [tag[rows.TAG.index("tag")] for tag in old.tags]
    configurations = {row[_CONFIGURATION] for row in old.targets} | {configuration_of(trial) for trial in run.trials}
    row, targets = rows.derived_rows(run, place, tags, added, stored_sums(database, run_pk, configurations))
    repeats, errors = _repeats(database, run_pk, run, old, trials), old.errors
    if _texts(old.trials.values()) != _texts(trials.values()):
        errors = rows.error_rows(run, [text for (text,) in database.execute(_TEXTS, (run_pk,))])
    new = rows.RunRows(row, trials, targets, old.tags, repeats, errors)
    return Updated(old, new, _failures(database, run_pk, old, new), next_id)


def stored_sums(
    database: sqlite3.Connection, run_pk: int, configurations: Collection[Configuration]
) -> dict[Configuration, Sums]:
    """`derive.by_configuration` over the stored trials of a run, which have no other configurations than these."""
    groups = sorted(configurations, key=in_order)
    sums = {group: _sums(database, run_pk, group, alone=len(groups) == 1) for group in groups}
    return {group: each for group, each in sums.items() if any(each.count.values())}


def _sums(database: sqlite3.Connection, run_pk: int, configuration: Configuration, *, alone: bool) -> Sums:
    """The sums over one configuration of a run; `alone` says that there is no other."""
    sums, of = Sums(), (run_pk, alone, *configuration)
    for status, trials, exceptions, paid, *tokens in database.execute(_COUNTS, of):
        sums.count[status] = trials
        sums.exceptions += exceptions
        sums.paid += paid
        for name, upper, lower in zip(_TOKENS, tokens[::2], tokens[1::2], strict=True):
            getattr(sums, name).extend(() if upper is None else ((upper << 32) + lower,))
    sums.tests = {
        (configuration[3], test): (executions, passed) for test, executions, passed in database.execute(_TESTS, of)
    }
    columns = zip(*database.execute(_NUMBERS, of), strict=True)  # empty if the configuration is gone
    for values, known in zip(columns, (sums.scores, sums.durations, sums.costs), strict=False):
        known += values if None not in values else [value for value in values if value is not None]
    return sums


def _repeats(
    database: sqlite3.Connection, run_pk: int, run: Run, old: rows.RunRows, trials: dict[str, rows.TrialRows]
) -> list[rows.Row]:
    """The rows of repeated verdicts: recomputed for tests of the trials that were read, else unchanged."""
    at = [rows.TRIAL_ROW.index(name) for name in ("suite", "test_id")]
    tests = {tuple(row[each] for each in at) for row, _ in (*old.trials.values(), *trials.values())}
    same = [rows.REPEAT.index(name) for name in ("suite", "test_id")]
    repeats = [row for row in old.repeats if tuple(row[each] for each in same) not in tests]
    for test in tests:
        groups = {row[:-2]: row[-2:] for row in database.execute(_VERDICTS, (run_pk, *test))}
        repeats += rows.repeat_rows(run, groups)
    return sorted(repeats, key=repr)


def _texts(trials: Collection[rows.TrialRows]) -> set[str]:
    error, reason = rows.TRIAL_ROW.index("error"), rows.SCORE.index("reason")
    found = {text for row, scores in trials for text in (row[error], *(score[reason] for score in scores))}
    return found - {None, ""}


def _failures(
    database: sqlite3.Connection, run_pk: int, old: rows.RunRows, new: rows.RunRows
) -> tuple[Counter[rows.Row], Counter[rows.Row]]:
    before, now = rows.failures(old), rows.failures(new)
    alike = " AND ".join(f"{column} IS ?" for column in rows.FAILURE)
    stored = Counter[rows.Row]()
    for group in before.keys() | now.keys():
        stored[group] = database.execute(
            f"SELECT count(*) FROM trials INDEXED BY trials_run WHERE run_pk = ? AND {alike}", (run_pk, *group)
        ).fetchone()[0]
    others = stored - now
    return others + before, stored
