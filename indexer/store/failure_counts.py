"""How many trials failed alike, and in how many runs, of those that boards count: kept as runs are written."""

from indexer.store import rows
from indexer.store.transaction import Transaction

_COUNT = f"INSERT INTO _failures {rows.FAILURES.format('main')}"
_ADD = """
INSERT INTO _failures VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET trials = trials + excluded.trials, runs = runs + excluded.runs
"""


class FailureCounts:
    """What one pass adds and takes away, written at its end; a fresh index is counted once."""

    def __init__(self, transaction: Transaction):
        self._transaction = transaction
        self._changes: dict[rows.Row, tuple[int, int]] = {}

    def add(self, run: rows.RunRows, times: int = 1) -> None:
        """Count the rows of a run; -1 times takes them away."""
        for group, trials in rows.failures(run).items():
            of_trials, of_runs = self._changes.get(group, (0, 0))
            self._changes[group] = of_trials + times * trials, of_runs + times

    def write(self) -> None:
        """Bring the table in line with the runs that were written."""
        if self._transaction.fresh:
            self._transaction.database.execute(_COUNT)
            return
        for group, counts in self._changes.items():
            if any(counts):
                self._transaction.run(_ADD, (*group, *counts))
        if self._changes:
            self._transaction.database.execute("DELETE FROM _failures WHERE trials = 0")
