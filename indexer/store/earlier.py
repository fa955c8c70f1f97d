"""What the index holds of a run folder that is read again."""

import sqlite3
from collections.abc import Collection, Mapping
from functools import cached_property

from indexer.changes import Stamp
from indexer.earlier import Execution, Rest
from indexer.records import Trial
from indexer.store import run_tables


class EarlierRows:
    """`earlier.Earlier`, from the rows of a run that was read at the same place."""

    def __init__(self, database: sqlite3.Connection, run_pk: int | None, changed: set[str] | None, whole: bool):
        self._database, self._run_pk, self._changed, self._whole = database, run_pk, changed, whole

    def exists(self) -> bool:
        return self._whole

    def trial(self, name: str) -> Trial | None:
        return self._trials.get(name)

    def unchanged(self, part: str) -> bool:
        return self._changed is not None and part not in self._changed

    def copies(self) -> bool:
        query = "SELECT derived_from IS NOT NULL FROM runs WHERE id = ?"
        return self._run_pk is not None and bool(self._database.execute(query, (self._run_pk,)).fetchone()[0])

    @cached_property
    def _trials(self) -> dict[str, Trial]:
        return {} if self._run_pk is None else run_tables.stored_trials(self._database, self._run_pk)


class EarlierSome(EarlierRows):
    """`earlier.EarlierTrials`, where only the trials with these names are read again.

    `stamps` are the stored ones of these trials and of the run's own files.
    """

    OF_TEST = (
        "SELECT trial, started_at, attempt FROM trials INDEXED BY trials_run "
        "WHERE run_pk = ? AND suite IS ? AND test_id IS ? AND target IS ?"
    )

    def __init__(
        self,
        database: sqlite3.Connection,
        run_pk: int,
        changed: set[str],
        names: Collection[str],
        stamps: Mapping[str, Stamp],
    ):
        super().__init__(database, run_pk, changed, whole=True)
        self._pk, self._names, self.stamps = run_pk, names, stamps

    @cached_property
    def rest(self) -> Rest:
        run = "SELECT key, format, experiment, status, timestamp, derived_from, size_bytes FROM runs WHERE id = ?"
        key, form, experiment, status, timestamp, derived_from, size = self._database.execute(
            run, (self._pk,)
        ).fetchone()
        others = (
            "SELECT min(started_at), max(finished_at), coalesce(sum(status = 'running'), 0) FROM trials "
            f"WHERE run_pk = ? AND trial NOT IN ({', '.join('?' * len(self._names))})"
        )
        first, last, running = self._database.execute(others, (self._pk, *self._names)).fetchone()
        read = sum(stamp.size for name, stamp in self.stamps.items() if name and not name.endswith("/"))
        return Rest(
            key=key, format=form, experiment=experiment, status=status, timestamp=timestamp,
            is_derived=derived_from is not None, size_bytes=size - read, started_at=first, finished_at=last,
            running_count=running,
        )  # fmt: skip

    def of_test(self, trial: Trial) -> list[Execution]:
        found = self._database.execute(self.OF_TEST, (self._pk, trial.suite, trial.test_id, trial.target))
        return list(map(Execution._make, found))

    def has_trial(self, name: str) -> bool:
        """Whether a trial of this name is indexed."""
        query = "SELECT 1 FROM trials WHERE run_pk = ? AND trial = ?"
        return self._database.execute(query, (self._pk, name)).fetchone() is not None

    def trial(self, name: str) -> Trial | None:
        if name in self._names:
            return super().trial(name)
        return run_tables.stored_trials(self._database, self._pk, [name]).get(name)

    @cached_property
    def _trials(self) -> dict[str, Trial]:
        return run_tables.stored_trials(self._database, self._pk, self._names)
