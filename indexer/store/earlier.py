"""What is indexed of a run folder that is read again."""

import sqlite3
from functools import cached_property

from indexer.records import Trial
from indexer.store import rows


class EarlierRows:
    """`protocols.Earlier`, from the rows of a run that was read at the same place."""

    def __init__(self, database: sqlite3.Connection, run_pk: int | None, changed: set[str] | None, whole: bool):
        self._database, self._run_pk, self._changed, self._whole = database, run_pk, changed, whole

    def exists(self) -> bool:
        return self._whole

    def trial(self, name: str) -> Trial | None:
        return self._trials.get(name)

    def unchanged(self, part: str) -> bool:
        return self._changed is not None and part not in self._changed

    @cached_property
    def _trials(self) -> dict[str, Trial]:
        return {} if self._run_pk is None else rows.stored_trials(self._database, self._run_pk)
