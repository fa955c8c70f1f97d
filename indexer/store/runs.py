"""Writes runs one at a time, and decides which of a run's places its rows come from."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from indexer.records import Run, utc_now
from indexer.store import file, rows, run_tables
from indexer.store.changed_runs import ChangedRuns
from indexer.store.kept_counts import KeptCounts
from indexer.store.places import Place, added, ranked, tags
from indexer.store.sieve import Sieve
from indexer.store.some_trials import replace_some
from indexer.store.transaction import FULL, Transaction

_HAS_RUN = "SELECT 1 FROM runs WHERE key = ?"
_STORED = "SELECT id, source, path, ref, tags, sha, added_at, author, timestamp, run_id FROM runs WHERE key = ?"
_PLACES = """
SELECT p.source, p.path, p.ref, p.ended, p.ended_count, p.last_activity, p.tags, p.tags_at, p.authored_tags,
       p.rank, p.edition,
       a.sha, a.seconds, a.author, coalesce(r.wip, 0)
FROM places p
LEFT JOIN _added a ON a.source = p.source AND a.ref = p.ref AND a.path = p.path
LEFT JOIN _refs r ON r.source = p.source AND r.ref = p.ref
WHERE p.run_pk = ?
"""


class Runs:
    """The runs of the index in one pass.

    `order` maps each source to its rank and position. `reread` reads the run at a place again; it returns None
    if it cannot.
    """

    def __init__(
        self,
        transaction: Transaction,
        order: Mapping[str, tuple[int, int]],
        reread: Callable[[str, str, str | None], Run | None],
    ):
        self.changed = ChangedRuns(order, fresh=transaction.fresh)
        self._transaction, self._database = transaction, transaction.database
        self._order, self._reread = order, reread
        self.last_rev = self._rev_before = _newest(self._database, "SELECT last_rev FROM meta")
        self._next_run = _newest(self._database, "SELECT max(id) FROM runs") + 1
        self._next_trial = _newest(self._database, "SELECT max(id) FROM trials") + 1
        self._next_place = _newest(self._database, "SELECT max(id) FROM places") + 1
        self._pending: set[str] = set()
        self.kept = KeptCounts(transaction)
        self._written = Sieve()  # of a fresh index: its keys
        self._indexed = False

    def is_new(self, key: str) -> bool:
        """Whether no stored run, and none about to be inserted, has this key."""
        if self._transaction.fresh and self._written.is_new(key):
            return True
        return key not in self._pending and not self._database.execute(_HAS_RUN, (key,)).fetchone()

    def place_of(self, key: str) -> rows.Row | None:
        """The place that the row of a run was read from (source, path, ref); None if there is no such run."""
        self._transaction.flush()
        row: rows.Row | None = self._database.execute(
            "SELECT source, path, ref FROM runs WHERE key = ?", (key,)
        ).fetchone()
        return row

    def new_place(self) -> int:
        """The id of a place about to be inserted."""
        self._next_place += 1
        return self._next_place - 1

    def pk_of(self, key: str) -> int | None:
        """The id of a run."""
        self._transaction.flush()
        row = self._database.execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def write_run(self, run: Run, place: Place, others: Sequence[Place]) -> int:
        """Write the rows of a run read at `place`; `others` are its other places. Returns the run's id."""
        best_first = ranked([place, *others], self._order)
        new = rows.run_rows(run, place[:3], tags(best_first), added(best_first))
        pk = None if not others and self.is_new(run.key) else self.pk_of(run.key)
        if pk is None:
            return self._insert_run(new, place.source)
        self.index_for_reading()
        old, ids = run_tables.stored_rows(self._database, pk)
        if old != new:
            self.kept.add(new)
            self.kept.add(old, times=-1)
            self.last_rev += 1
            self._transaction.changed = True
            self._next_trial = run_tables.replace_differences(
                self._database, pk, self.last_rev, old, ids, new, self._next_trial
            )
            self._moved(pk, run.key, run.timestamp)
            self.changed.note(place.source, "changed", run.key, run.run_id)
        return pk

    def write_trials(self, pk: int, run: Run, names: Collection[str], source: str) -> None:
        """Write the trials of a run that are in `names`, read at the place that its row comes from."""
        done = replace_some(self._database, pk, run, names, self._next_trial)
        self._next_trial = done.next_id
        if done.old != done.new:
            self.kept.add(done.old, done.failures[0], times=-1)
            self.kept.add(done.new, done.failures[1])
            self.last_rev += 1
            self._transaction.changed = True
            run_tables.replace_others(self._database, pk, self.last_rev, done.old, done.new)
            self.changed.note(source, "changed", run.key, run.run_id)

    def places_of(self, pk: int) -> list[Place]:
        """The places of a run."""
        self._transaction.flush()
        return [Place(*row) for row in self._database.execute(_PLACES, (pk,))]

    def is_best(self, place: Place, others: Sequence[Place]) -> bool:
        return ranked([place, *others], self._order)[0] is place

    def _insert_run(self, new: rows.RunRows, source: str) -> int:
        pk = self._next_run
        self._next_run += 1
        self.last_rev += 1
        if self._transaction.waiting >= FULL:
            self._transaction.flush()
        if not self._transaction.waiting:
            self._pending.clear()
        self._pending.add(new.run[0])
        self._transaction.add(rows.INSERT_RUN, (pk, *new.run, self.last_rev))
        first = self._next_trial
        self._next_trial += len(new.trials)
        numbered = list(enumerate(new.trials.values(), first))
        self._transaction.add_all(rows.INSERT_TRIAL, [(number, pk, *trial) for number, (trial, _) in numbered])
        scores = [(number, *score) for number, (_, of_trial) in numbered for score in of_trial]
        self._transaction.add_all(rows.INSERT_SCORE, scores)
        self._transaction.add_all(rows.INSERT_TARGET, [(pk, *target) for target in new.targets])
        self._transaction.add_all(rows.INSERT_TAG, [(pk, *tag) for tag in new.tags])
        self._transaction.add_all(rows.INSERT_REPEAT, [(pk, *row) for row in new.repeats])
        self._transaction.add_all(rows.INSERT_ERRORS, [(pk, *row) for row in new.errors])
        if not self._transaction.fresh:
            self.kept.add(new)
        if self._transaction.fresh:
            self._written.add(new.run[0])
        else:
            self._transaction.run("DELETE FROM deletions WHERE key = ?", (new.run[0],))
        self.changed.note(source, "added", *new.run[:2])
        return pk

    def changed_elsewhere(self, names: Iterable[str]) -> None:
        """Bump the revision of runs with changes outside their rows; named by key, `format:run_id` or run id."""
        if self._transaction.fresh:
            return
        named = "SELECT id FROM runs WHERE key = ?1 OR run_id = ?1 OR format = ?2 AND run_id = ?3"
        found = (self._database.execute(named, (name, *name.partition(":")[::2])) for name in names)
        for pk in sorted({pk for rows_ in found for (pk,) in rows_.fetchall()}):
            self.last_rev += 1
            self._transaction.run("UPDATE runs SET rev = ? WHERE id = ?", (self.last_rev, pk))

    def bump_places(self) -> None:
        """Bump the revision of runs of which only places changed in this pass."""
        self._transaction.flush()
        for key in sorted(self._transaction.other_places):
            update = "UPDATE runs SET rev = ? WHERE key = ? AND rev <= ?"
            self.last_rev += self._database.execute(update, (self.last_rev + 1, key, self._rev_before)).rowcount

    def settle(self, key: str, *, stale: bool) -> None:
        """Bring a run in line with its places. `stale`: its row may show an earlier state of a place."""
        self._transaction.flush()
        row = self._database.execute(_STORED, (key,)).fetchone()
        if row is None:
            return
        pk, *stored = row
        best_first = ranked(self.places_of(pk), self._order)
        if not best_first:
            self._delete_run(key, pk)
            return
        was_unsettled = self._database.execute("SELECT 1 FROM _unsettled WHERE key = ?", (key,)).fetchone() is not None
        for place in best_first:
            skipped = place is not best_first[0]
            if list(place[:3]) == stored[:3] and not skipped and not stale:
                self._settle_shared(key, pk, best_first, stored)
                return
            run = self._reread(*place[:3])
            if run is not None and run.key == key:
                self.write_run(run, place, [other for other in best_first if other is not place])
                self._note_unsettled(key, was_unsettled, skipped)
                return
        self._settle_shared(key, pk, best_first, stored)
        self._note_unsettled(key, was_unsettled, True)

    def _note_unsettled(self, key: str, before: bool, now: bool) -> None:
        """Note that the best place of a run could not be read, so that the next pass settles it again."""
        if now and not before:
            self._transaction.run("INSERT INTO _unsettled VALUES (?)", (key,))
        elif before and not now:
            self._transaction.run("DELETE FROM _unsettled WHERE key = ?", (key,))

    def _settle_shared(self, key: str, pk: int, best_first: Sequence[Place], stored: Sequence[Any]) -> None:
        """Update tags and commit only, since the row's own place stays the best."""
        chosen = tags(best_first)
        shared = [rows.tags_text(chosen), *added(best_first)]
        if shared != stored[3:7]:
            self.last_rev += 1
            self._transaction.run(
                "UPDATE runs SET tags = ?, sha = ?, added_at = ?, author = ?, rev = ? WHERE id = ?",
                (*shared, self.last_rev, pk),
            )
            if shared[0] != stored[3]:
                self.index_for_reading()
                run_tables.replace_tags(self._database, pk, rows.tag_rows(key, stored[7], chosen))
                self.kept.replace_tags(json.loads(stored[3]), sorted(set(chosen)))
            self.changed.note(stored[0], "changed", key, stored[8])

    def _moved(self, pk: int, key: str, timestamp: str) -> None:
        self._database.execute(
            "UPDATE places SET timestamp = ?, run_key = ? WHERE run_pk = ? AND (timestamp <> ? OR run_key <> ?)",
            (timestamp, key, pk, timestamp, key),
        )

    def _delete_run(self, key: str, pk: int) -> None:
        old, _ = run_tables.stored_rows(self._database, pk)
        self.kept.add(old, times=-1)
        run_tables.delete_rows(self._database, pk)
        self._transaction.run("DELETE FROM _unsettled WHERE key = ?", (key,))
        self.last_rev += 1
        self._transaction.run("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?)", (key, self.last_rev, utc_now()))
        self.changed.note(old.run[rows.RUN.index("source")], "removed", *old.run[:2])

    def index_for_reading(self) -> None:
        """Create the indexes for reading in a fresh index, once.

        Creating them after the rows is cheaper, but rewriting a run needs them.
        """
        if self._transaction.fresh and not self._indexed:
            self._indexed = True
            file.run_script(self._database, "indexes.sql")


def _newest(database: sqlite3.Connection, query: str) -> int:
    row = database.execute(query).fetchone()
    return (row[0] if row else 0) or 0
