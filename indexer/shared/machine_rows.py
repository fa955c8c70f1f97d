"""All rows of a run as one machine has them: read from its index, or back from the shared one."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from indexer.postgresql import without_nul
from indexer.shared import schema
from indexer.store import rows

if TYPE_CHECKING:
    import psycopg

LONGEST_NAME = 500
"""Longest name in bytes: an index entry of PostgreSQL holds at most 2,704, and some have five names."""
PLACE_COLUMNS = tuple(name for name in schema.columns("places") if name not in ("id", "run_pk", "fingerprint"))
LISTS = (
    ("run_targets", rows.TARGET, "targets"),
    ("_repeats", rows.REPEAT, "repeats"),
    ("_errors", rows.ERRORS, "errors"),
)
"""Tables with any number of rows per run: their columns, and their field in RunOfMachine."""
_TRIALS, _SCORES = ", ".join(rows.TRIAL_ROW), ", ".join(rows.SCORE)
_NAMES = [rows.RUN.index(name) for name in ("key", "run_id", "source", "experiment", "target", "agent", "model")]
_TRIAL_NAMES = [rows.TRIAL_ROW.index(name) for name in ("trial", "suite", "test_id", "target", "error_type")]
_TARGET_NAMES = [rows.TARGET.index(name) for name in ("target", "agent", "model", "suite")]
_PLACE_TAGS = [PLACE_COLUMNS.index(name) for name in ("tags", "authored_tags")]
_SOURCE = PLACE_COLUMNS.index("source")
_ADDED = """
LEFT JOIN _added a ON a.source = p.source AND a.ref = p.ref AND a.path = p.path
LEFT JOIN _refs f ON f.source = p.source AND f.ref = p.ref
"""

_written = msgspec.json.Encoder().encode  # seven times as fast as repr

Row = tuple[Any, ...]
Order = Mapping[str, tuple[int, int]]
"""By source: its rank (git before folders), and its position in the settings."""


@dataclass(slots=True)
class RunOfMachine:
    """All rows of a run, without ids; scores are grouped with their trial."""

    run: Row
    trials: list[tuple[Row, list[Row]]] = field(default_factory=list)
    targets: list[Row] = field(default_factory=list)
    repeats: list[Row] = field(default_factory=list)
    errors: list[Row] = field(default_factory=list)
    places: list[Row] = field(default_factory=list)
    digest: str = field(default="", compare=False)
    """A hash of all its rows."""

    @property
    def key(self) -> str:
        return str(self.run[0])

    def normalised(self) -> "RunOfMachine":
        """Sort the rows, replace NULs, which PostgreSQL rejects, and set the digest. Returns the run."""
        for listed in (self.targets, self.repeats, self.errors, self.places):
            listed.sort(key=repr)
        written = _written(self._rows())
        if b"\\u0000" in written:  # NUL, or a text with these characters
            self.run = clean(self.run)
            self.trials = [(clean(trial), [clean(score) for score in scores]) for trial, scores in self.trials]
            for listed in (self.targets, self.repeats, self.errors, self.places):
                listed[:] = map(clean, listed)
            written = _written(self._rows())
        self.digest = _hash(written)
        return self

    def _rows(self) -> Row:
        return self.run, self.trials, self.targets, self.repeats, self.errors, self.places

    def too_long(self) -> str | None:
        """A name that is too long for an index of PostgreSQL, if any."""
        named = [self.run[at] for at in _NAMES]
        named += [row[at] for row, _ in self.trials for at in _TRIAL_NAMES]
        named += [row[at] for row in self.targets for at in _TARGET_NAMES]
        for row in self.places:
            named += [tag for at in _PLACE_TAGS if row[at] is not None for tag in json.loads(row[at])]
        long = (name for name in named if name is not None and len(name) * 4 > LONGEST_NAME)
        return next((name for name in long if len(name.encode("utf-8", "replace")) > LONGEST_NAME), None)


def digest(found: object) -> str:
    """A short hash of rows of finite numbers and texts, which is all that an index holds."""
    return _hash(_written(found))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def of_index(database: sqlite3.Connection, ids: Sequence[int], order: Order) -> list[RunOfMachine]:
    """Runs of an index by their ids."""
    among = f"IN ({', '.join(map(str, ids))})"
    place = ", ".join(f"p.{name}" for name in PLACE_COLUMNS)
    found = database.execute(
        f"SELECT p.run_pk, {place}, a.seconds, a.author, coalesce(f.wip, 0) FROM places p {_ADDED} "
        f"WHERE p.run_pk {among}"
    )
    places = ((*row, *order.get(row[1 + _SOURCE], (0, len(order)))) for row in found)
    return _assembled(
        database.execute(f"SELECT id, {', '.join(rows.RUN)} FROM runs WHERE id {among} ORDER BY id"),
        database.execute(f"SELECT id, run_pk, {_TRIALS} FROM trials WHERE run_pk {among} ORDER BY run_pk, trial"),
        database.execute(
            f"SELECT trial_pk, {_SCORES} FROM scores WHERE trial_pk IN (SELECT id FROM trials WHERE run_pk {among}) "
            "ORDER BY trial_pk, id"
        ),
        {
            "places": places,
            **{
                into: database.execute(f"SELECT run_pk, {', '.join(names)} FROM {table} WHERE run_pk {among}")
                for table, names, into in LISTS
            },
        },
    )


def of_machine(connection: "psycopg.Connection[Any]", machine: str, keys: Sequence[str]) -> dict[str, RunOfMachine]:
    """The same from a shared index, by key: the runs that a machine has sent."""

    def asked(query: str, *values: Any) -> Iterable[Row]:
        return connection.execute(query.encode(), values)

    listed = f"SELECT id, {', '.join(rows.RUN)} FROM _sent_runs WHERE machine = %s AND key = ANY(%s)"
    runs = list(asked(listed, machine, list(keys)))
    ids = [row[0] for row in runs]
    tables = (*LISTS, ("places", (*PLACE_COLUMNS, *schema.PLACE), "places"))
    found = _assembled(
        runs,
        asked(f"SELECT id, run_pk, {_TRIALS} FROM _sent_trials WHERE run_pk = ANY(%s) ORDER BY run_pk, trial", ids),
        asked(f"SELECT trial_pk, {_SCORES} FROM _sent_scores WHERE run_pk = ANY(%s) ORDER BY trial_pk, id", ids),
        {
            into: asked(f"SELECT run_pk, {', '.join(names)} FROM {schema.sent(table)} WHERE run_pk = ANY(%s)", ids)
            for table, names, into in tables
        },
    )
    return {run.key: run for run in found}


def _assembled(
    runs: Iterable[Row], trials: Iterable[Row], scores: Iterable[Row], lists: Mapping[str, Iterable[Row]]
) -> list[RunOfMachine]:
    """Group rows into runs. A row begins with ids: a run's with its own, a trial's with its own and the run's, a
    score's with the trial's, a list's with the run's.
    """
    found = {row[0]: RunOfMachine(row[1:]) for row in runs}
    of_trials: dict[int, list[Row]] = {}
    for row in trials:
        of_trial = of_trials[row[0]] = []
        found[row[1]].trials.append((row[2:], of_trial))
    for row in scores:
        of_trials[row[0]].append(row[1:])
    for into, listed in lists.items():
        for row in listed:
            getattr(found[row[0]], into).append(row[1:])
    return [run.normalised() for run in found.values()]


def clean(row: Iterable[Any]) -> Row:
    """A row with the NULs in its texts replaced."""
    return tuple(map(without_nul, row))
