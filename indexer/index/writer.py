"""Writing one pass: what sources told goes into the index inside one transaction.

A place (source, path, ref) is one row of `places`, written as it is told. A run is written at once if the
place just read is the best of its places. In every other case (a place got worse, went, or another one
may decide the tags or the commit) the run's key is noted in `_touched`, and when all sources were walked
each touched run is settled from its places: a better place is read again, tags and commit are chosen over
all, and a run without places is deleted. So a removal never comes before the additions that replace it.

Nothing is written that is equal to what is there: a pass that finds no difference leaves the file untouched.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Protocol

from indexer.index import file, rows
from indexer.index.ledger import Ledger
from indexer.index.places import Place, added, ranked, tags
from indexer.records import Run

_BATCH = 5000

_SOURCE = ("name", "kind", "place", "tip", "runs", "changed_at", "failing_since", "error")
_TOUCH = "INSERT INTO _touched VALUES (?, ?) ON CONFLICT DO UPDATE SET stale = max(stale, excluded.stale)"
_HAS_RUN = "SELECT 1 FROM runs WHERE key = ?"
_PLACES = """
SELECT p.source, p.path, p.ref, p.ended, p.ended_count, p.last_activity, p.tags, p.tags_at, p.authored_tags,
       a.sha, a.seconds, a.author, coalesce(r.wip, 0)
FROM places p
LEFT JOIN _added a ON a.source = p.source AND a.ref = p.ref AND a.path = p.path
LEFT JOIN _refs r ON r.source = p.source AND r.ref = p.ref
WHERE p.run_pk = ?
"""


class SourceRow(Protocol):
    """What a source is called, its kind and where it is."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> str: ...


class Pass:
    """One pass over the sources. Open a transaction before, commit after; `changed` tells whether there is a need.

    `fresh` says that the tables are empty. `reread` reads the run at a place again; None if it cannot.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        sources: Sequence[SourceRow],
        reread: Callable[[str, str, str | None], Run | None],
        *,
        fresh: bool = False,
    ):
        self.database = database
        self.fresh = fresh
        self.changed = fresh
        self._reread = reread
        self._order = {source.name: (source.kind == "git", at) for at, source in enumerate(sources)}
        self._sources = {source.name: source for source in sources}
        self._last_rev = self._newest("SELECT last_rev FROM meta")
        self._next_run = self._newest("SELECT max(id) FROM runs") + 1
        self._next_trial = self._newest("SELECT max(id) FROM trials") + 1
        self._next_place = self._newest("SELECT max(id) FROM places") + 1
        self._batch: dict[str, list[rows.Row]] = {}
        self._pending: set[str] = set()
        self._waiting = 0
        self._counted: set[str] = set()
        self._indexed = False
        self.ledgers = {name: Ledger(self, name) for name in self._sources}
        self.counts: dict[str, dict[str, int]] = {
            name: {"added": 0, "changed": 0, "removed": 0} for name in self._sources
        }
        database.execute("DROP TABLE IF EXISTS temp._touched")
        database.execute("CREATE TEMP TABLE _touched (key TEXT PRIMARY KEY, stale) WITHOUT ROWID")
        if self.fresh:
            self._add_sources()
        else:
            self._reorder_sources()
            database.execute("INSERT INTO _touched SELECT key, 1 FROM _unsettled")

    def run(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement that changes the index."""
        self.changed = True
        return self.database.execute(statement, parameters)

    def touch(self, key: str, *, stale: bool = False) -> None:
        """The run has to be settled at the end of the pass; `stale` if its row may be of what a place had before."""
        self.database.execute(_TOUCH, (key, stale))

    def is_new(self, key: str) -> bool:
        """Whether the index, with what is about to be inserted, has no run of this key."""
        return key not in self._pending and not self.database.execute(_HAS_RUN, (key,)).fetchone()

    def place_of(self, key: str) -> rows.Row | None:
        """The place that the row of a run was read from (source, path, ref); None if there is no such run."""
        self.flush()
        row: rows.Row | None = self.database.execute(
            "SELECT source, path, ref FROM runs WHERE key = ?", (key,)
        ).fetchone()
        return row

    def new_place(self) -> int:
        """The id of a place about to be inserted."""
        self._next_place += 1
        return self._next_place - 1

    def pk_of(self, key: str) -> int | None:
        """The id of a run."""
        self.flush()
        row = self.database.execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def write_run(self, run: Run, place: Place, others: Sequence[Place]) -> int:
        """Write the rows of a run read at `place`, beside its other places. Returns the run's id."""
        best_first = ranked([place, *others], self._order)
        new = rows.run_rows(run, place[:3], tags(best_first), added(best_first))
        pk = None if not others and self.is_new(run.key) else self.pk_of(run.key)
        if pk is None:
            return self._insert_run(new, place.source)
        self._index_for_reading()
        old, ids = rows.stored_rows(self.database, pk)
        if old != new:
            self._last_rev += 1
            self.changed = True
            self._next_trial = rows.replace_differences(
                self.database, pk, self._last_rev, old, ids, new, self._next_trial
            )
            self._moved(pk, run.key, run.timestamp)
            self._count(place.source, "changed", run.key)
        return pk

    def places_of(self, pk: int) -> list[Place]:
        """The places of a run."""
        self.flush()
        return [Place(*row) for row in self.database.execute(_PLACES, (pk,))]

    def is_best(self, place: Place, others: Sequence[Place]) -> bool:
        return ranked([place, *others], self._order)[0] is place

    def add(self, statement: str, row: rows.Row) -> None:
        """Insert a row soon, together with others."""
        self._batch.setdefault(statement, []).append(row)
        self._waiting += 1

    def flush(self) -> None:
        """Insert what `add` was given."""
        batch, self._batch = self._batch, {}
        self._pending.clear()
        self._waiting = 0
        for statement, values in batch.items():
            self.changed = True
            self.database.executemany(statement, values)

    def settle(self) -> None:
        """Bring every touched run in line with its places; to be called once, after all sources."""
        self.flush()
        keys = self.database.execute("SELECT key, stale FROM _touched ORDER BY key")
        while batch := keys.fetchmany(_BATCH):
            for key, stale in batch:
                if (pk := self.pk_of(key)) is not None:
                    self._settle_run(key, pk, stale)
        for ledger in self.ledgers.values():
            ledger.finish()
        if self.fresh:
            self._index_for_reading()
        if self.changed:
            self._close()

    def fail(self, name: str, error: str) -> None:
        """A source cannot be opened: its rows stay."""
        self.ledgers[name].failing(error)

    def _count(self, source: str, what: str, key: str) -> None:
        """Count a run for the report, once."""
        if source not in self.counts or (self.fresh and what != "added"):
            return
        if not self.fresh:
            if what != "removed" and key in self._counted:
                return
            self._counted.add(key)
        self.counts[source][what] += 1

    def _newest(self, query: str) -> int:
        row = self.database.execute(query).fetchone()
        return (row[0] if row else 0) or 0

    def _insert_run(self, new: rows.RunRows, source: str) -> int:
        pk = self._next_run
        self._next_run += 1
        self._last_rev += 1
        if self._waiting >= _BATCH:
            self.flush()
        self._pending.add(new.run[0])
        self.add(rows.INSERT_RUN, (pk, *new.run, self._last_rev))
        for trial, scores in new.trials.values():
            self.add(rows.INSERT_TRIAL, (self._next_trial, pk, *trial))
            for score in scores:
                self.add(rows.INSERT_SCORE, (self._next_trial, *score))
            self._next_trial += 1
        for target in new.targets:
            self.add(rows.INSERT_TARGET, (pk, *target))
        for tag in new.tags:
            self.add(rows.INSERT_TAG, (pk, *tag))
        if not self.fresh:
            self.run("DELETE FROM deletions WHERE key = ?", (new.run[0],))
        self._count(source, "added", new.run[0])
        return pk

    def _settle_run(self, key: str, pk: int, stale: bool) -> None:
        best_first = ranked(self.places_of(pk), self._order)
        if not best_first:
            self._delete_run(key, pk)
            return
        query = "SELECT source, path, ref, tags, sha, added_at, author, timestamp FROM runs WHERE id = ?"
        stored = self.database.execute(query, (pk,)).fetchone()
        owed = self.database.execute("SELECT 1 FROM _unsettled WHERE key = ?", (key,)).fetchone() is not None
        for place in best_first:
            better = place is not best_first[0]
            if place[:3] == stored[:3] and not better and not stale:
                self._settle_shared(key, pk, best_first, stored)
                return
            run = self._reread(*place[:3])
            if run is not None and run.key == key:
                self.write_run(run, place, [other for other in best_first if other is not place])
                self._owe(key, owed, better)
                return
        self._settle_shared(key, pk, best_first, stored)
        self._owe(key, owed, True)

    def _owe(self, key: str, before: bool, now: bool) -> None:
        """Note that the best place of a run could not be read, so that the next pass settles it again."""
        if now and not before:
            self.run("INSERT INTO _unsettled VALUES (?)", (key,))
        elif before and not now:
            self.run("DELETE FROM _unsettled WHERE key = ?", (key,))

    def _settle_shared(self, key: str, pk: int, best_first: Sequence[Place], stored: rows.Row) -> None:
        """The row's own place stays the best: only tags and commit may differ."""
        chosen = tags(best_first)
        shared = (rows.tags_text(chosen), *added(best_first))
        if shared != stored[3:7]:
            self._last_rev += 1
            self.run(
                "UPDATE runs SET tags = ?, sha = ?, added_at = ?, author = ?, rev = ? WHERE id = ?",
                (*shared, self._last_rev, pk),
            )
            rows.replace_tags(self.database, pk, rows.tag_rows(key, stored[7], chosen))
            self._count(stored[0], "changed", key)

    def _moved(self, pk: int, key: str, timestamp: str) -> None:
        self.database.execute(
            "UPDATE places SET timestamp = ?, run_key = ? WHERE run_pk = ? AND (timestamp <> ? OR run_key <> ?)",
            (timestamp, key, pk, timestamp, key),
        )

    def _delete_run(self, key: str, pk: int) -> None:
        source = self.database.execute("SELECT source FROM runs WHERE id = ?", (pk,)).fetchone()[0]
        rows.delete_rows(self.database, pk)
        self.run("DELETE FROM _unsettled WHERE key = ?", (key,))
        self._last_rev += 1
        self.run("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?)", (key, self._last_rev, file.now()))
        self._count(source, "removed", key)

    def _add_sources(self) -> None:
        for source in self._sources.values():
            insert = "INSERT INTO sources (name, kind, place, runs) VALUES (?, ?, ?, 0)"
            self.run(insert, (source.name, source.kind, source.place))

    def _reorder_sources(self) -> None:
        """Bring the rows of sources in line with the settings: forget those not named any more, add new ones."""
        kept = {row[0]: row for row in self.database.execute(f"SELECT {', '.join(_SOURCE)} FROM sources ORDER BY id")}
        if list(kept) == list(self._sources):
            return
        for name in kept.keys() - self._sources.keys():
            Ledger(self, name).forget()
        self.run("DELETE FROM sources")
        for source in self._sources.values():
            new = (source.name, source.kind, source.place, None, 0, None, None, None)
            self.run(rows.insert("sources", _SOURCE), kept.get(source.name, new))
        # the order of sources ranks places
        self.database.execute(
            "INSERT OR IGNORE INTO _touched SELECT run_key, 0 FROM places GROUP BY run_pk HAVING count(*) > 1"
        )

    def _index_for_reading(self) -> None:
        """The indexes of a fresh index, once: they are cheaper after the rows, but rewriting a run needs them."""
        if self.fresh and not self._indexed:
            self._indexed = True
            file.run_script(self.database, "indexes.sql")

    def _close(self) -> None:
        if not self.fresh:
            oldest = self.database.execute(
                "SELECT rev FROM deletions ORDER BY rev DESC LIMIT 1 OFFSET ?", (rows.DELETIONS_KEPT,)
            ).fetchone()
            if oldest:
                self.database.execute("DELETE FROM deletions WHERE rev <= ?", oldest)
                self.database.execute("UPDATE meta SET forgotten_rev = max(forgotten_rev, ?)", oldest)
        self.database.execute("UPDATE meta SET last_rev = ?", (self._last_rev,))
