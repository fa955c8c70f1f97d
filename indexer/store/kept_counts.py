"""Counts that are updated as runs are written: trials per kind of failure, and runs per filter value.

They are integers, so additions and subtractions are exact. A fresh index is counted once, at its end.
"""

from collections import Counter
from collections.abc import Sequence

from indexer.store import rows
from indexer.store.transaction import Transaction

_ADD_FAILURES = """
INSERT INTO _failures VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET trials = trials + excluded.trials, runs = runs + excluded.runs
"""
_ADD_VALUES = """
INSERT INTO _values VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET runs = runs + excluded.runs
"""


class KeptCounts:
    """The changes of one pass to these counts, written at its end."""

    def __init__(self, transaction: Transaction):
        self._transaction = transaction
        self._failures: dict[rows.Row, tuple[int, int]] = {}  # trials and runs
        self._values = Counter[rows.Row]()

    def add(self, run: rows.RunRows, failures: Counter[rows.Row] | None = None, *, times: int = 1) -> None:
        """Count the rows of a run; `times=-1` subtracts them. `failures`: its trials per kind of failure."""
        for group, trials in (rows.failures(run) if failures is None else failures).items():
            of_trials, of_runs = self._failures.get(group, (0, 0))
            self._failures[group] = of_trials + times * trials, of_runs + times * (trials > 0)
        for value in rows.values(run):
            self._values[value] += times

    def replace_tags(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Count the new tags of a run instead of its old ones."""
        self._values.update(("tag", tag) for tag in new)
        self._values.subtract(("tag", tag) for tag in old)

    def write(self) -> None:
        """Update the tables, or fill them in a fresh index."""
        database = self._transaction.database
        if self._transaction.fresh:
            database.execute(f"INSERT INTO _failures {rows.FAILURES.format('main')}")
            database.execute(f"INSERT INTO _values {rows.VALUES.format('main')}")
            return
        for group, counts in self._failures.items():
            if any(counts):
                self._transaction.run(_ADD_FAILURES, (*group, *counts))
        for value, runs in self._values.items():
            if runs:
                self._transaction.run(_ADD_VALUES, (*value, runs))
        if self._failures or self._values:
            database.execute("DELETE FROM _failures WHERE trials = 0")
            database.execute("DELETE FROM _values WHERE runs = 0")
