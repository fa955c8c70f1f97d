"""Stores what one source reports in a pass: its places, refs, history and problems."""

from collections.abc import Collection, Iterable

from indexer.changes import History, Naming, Tip, Trouble
from indexer.store import commits
from indexer.store.added import take_in
from indexer.store.found_runs import FoundRuns
from indexer.store.indexed import IndexedSource
from indexer.store.place_table import PlaceTable
from indexer.store.problems import Problems
from indexer.store.runs import Runs
from indexer.store.source_row import OpenSource, SourceRow
from indexer.store.transaction import Transaction


class SourceState:
    """One source in one pass: what the index holds of it, and what it says now."""

    def __init__(self, transaction: Transaction, runs: Runs, source: str):
        self._transaction, self._runs, self._source = transaction, runs, source
        self._database = transaction.database
        self._places = PlaceTable(transaction, runs, source)
        self.problems = Problems(transaction, source)
        self.indexed = IndexedSource(transaction, source, self._places, self.problems)
        """What the source may ask of the index."""
        self._row = SourceRow(transaction, source)
        self.found = FoundRuns(transaction, runs, source, self._places, self.problems)
        """Takes in the runs that the source finds."""
        self._commits_changed = False

    def same(self, ref: str | None, path: str) -> None:
        """Keep a run folder that equals what is indexed."""
        self.problems.keep(ref, path)
        self.problems.close(ref, path)
        self._places.keep(ref, path)

    def gone(self, ref: str | None, path: str) -> None:
        """Remove the runs at a path and below."""
        self._transaction.flush()
        for place in self._places.at_or_below(ref, path):
            self._places.lose(*place)
        self.problems.close(ref, path)

    def swept(self, ref: str | None) -> None:
        """Remove the rest of a ref, after all its run folders were reported."""
        self._transaction.flush()
        self._places.remove_unseen(ref)
        self.problems.swept(ref)

    def missing(self, ref: str) -> None:
        """Remove a ref that no longer exists."""
        self._transaction.flush()
        for place in self._places.at_or_below(ref, ""):
            self._places.remove(*place)
        for table in ("_refs", "_added"):
            self._transaction.run(f"DELETE FROM {table} WHERE source = ? AND ref = ?", (self._source, ref))
        self.problems.swept(ref)

    def trouble(self, trouble: Trouble) -> None:
        """Report that something other than a run cannot be read; what is indexed there stays."""
        self._transaction.flush()
        self.problems.tell(trouble.ref, trouble.path, trouble.kind, trouble.message)
        for pk, _, _ in self._places.at_or_below(trouble.ref, trouble.path):
            self._places.mark(pk)

    def history(self, history: History) -> None:
        """Store which commits added which folders to a ref."""
        take_in(self._transaction, self._source, history)
        self.found.history_is_known = True

    def naming(self, naming: Naming) -> None:
        """Store which commits of the source's repository name runs."""
        self._transaction.flush()
        self._commits_changed |= commits.take_in(self._transaction, self._runs, self._source, naming)

    def advance(self, ref: str, tip: Tip) -> None:
        """Note that a ref is read up to `tip`."""
        self._transaction.flush()
        self.found.several_refs = True
        old = self._database.execute(
            'SELECT "commit", tree, history, wip FROM _refs WHERE source = ? AND ref = ?', (self._source, ref)
        ).fetchone()
        if old != tuple(tip):
            self._transaction.run("INSERT OR REPLACE INTO _refs VALUES (?, ?, ?, ?, ?, ?)", (self._source, ref, *tip))

    def opened(self, source: OpenSource) -> None:
        """Note that the source could be opened; if its place is another one now, forget what was indexed."""
        self._row.opened(source, self.forget)

    def fail(self, error: str) -> None:
        """Note that the source cannot be opened; its rows stay."""
        self._row.fail(error)

    def unsettle(self, path: str, names: Iterable[str]) -> None:
        """Mark files of a place that may have changed while they were read, so that they are read again."""
        self._transaction.flush()
        self._places.unsettle(path, names)

    def forget(self) -> None:
        """Remove all that is indexed of the source."""
        places = "SELECT id, run_pk, run_key FROM places WHERE source = ?"
        for place in self._database.execute(places, (self._source,)).fetchall():
            self._places.remove(*place)
        for table in ("_refs", "_added", "problems"):
            self._transaction.run(f"DELETE FROM {table} WHERE source = ?", (self._source,))
        self.naming(Naming(iter(()), complete=True))

    def finish(self, paths: Collection[str] | None) -> None:
        """Update the source's own row, and close problems below these paths that were not reported again.

        None stands for the whole source.
        """
        if not self._row.failing:
            self.problems.finish(paths)
        counts = self._runs.changed.counts[self._source]
        changed = self._places.changed or self._commits_changed or any(counts.values())
        self._row.finish(self.indexed.tips, self._places.run_count, changed=changed, whole=paths is None)
