"""Writes one pass: what sources report goes into the index in one transaction.

A place (source, path, ref) is one row of `places`, written as it is reported. A run is written at once if the
place just read is the best of its places. In every other case (a place got worse or is gone, or another one
may decide the tags or the commit) the run's key is noted in `_touched`. After all sources were walked, each
touched run is settled from its places: a better place is read again, tags and commit are chosen over all
places, and a run without places is deleted. So a removal never comes before the additions that replace it.

Rows that did not change are not written: a pass that finds no difference leaves the file untouched.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from indexer.records import Run
from indexer.store import rows
from indexer.store.format_versions import bring_in_line
from indexer.store.runs import Runs
from indexer.store.source_state import SourceState
from indexer.store.transaction import Transaction

_BATCH = 500
_SOURCE = ("name", "kind", "place", "tip", "runs", "changed_at", "failing_since", "error", "note", "web_url", "signs")


class NamedSource(Protocol):
    """A source's name, kind and place, the web page of its commits, and its rank."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def web_url(self) -> str | None: ...
    @property
    def rank(self) -> int: ...


class Pass:
    """One pass over the sources. Open a transaction before, and commit after if `changed`.

    `versions` are those of the formats; runs of `unloaded` ones stay though nothing recognises them. `fresh` says that
    the tables are empty. `reread` reads the run at a place again; None if it cannot.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        sources: Sequence[NamedSource],
        reread: Callable[[str, str, str | None], Run | None],
        versions: Mapping[str, int],
        unloaded: Collection[str] = (),
        *,
        fresh: bool = False,
    ):
        self._transaction = Transaction(database, fresh=fresh, unloaded=unloaded)
        bring_in_line(self._transaction, versions)
        self._database = database
        self._sources = {source.name: source for source in sources}
        order = {source.name: (source.rank, at) for at, source in enumerate(sources)}
        self._runs = Runs(self._transaction, order, reread)
        self.states = {name: SourceState(self._transaction, self._runs, name) for name in self._sources}
        if self._transaction.fresh:
            self._add_sources()
        else:
            self._reorder_sources()
            database.execute("INSERT OR REPLACE INTO _touched SELECT key, 1 FROM _unsettled")

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return self._transaction.changed

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Runs added, changed and removed, by source."""
        return self._runs.changed.counts

    @property
    def named(self) -> dict[str, list[str]]:
        """Ids of the first runs that were added, changed or removed, by source."""
        return self._runs.changed.named

    def settle(self, work: Mapping[str, Collection[str] | None] | None = None) -> None:
        """Settle every touched run; call it once, after all sources.

        `work` has the paths that were walked, by source, None for all; without it all sources were walked whole.
        """
        self._transaction.flush()
        keys = self._database.execute("SELECT key, stale FROM _touched ORDER BY key")
        while batch := keys.fetchmany(_BATCH):
            for key, stale in batch:
                self._runs.settle(key, stale=stale)
        for name, state in self.states.items():
            state.finish(None if work is None else work.get(name, ()))
        if self._transaction.fresh:
            self._runs.index_for_reading()
        self._runs.bump_places()
        self._runs.kept.write()
        if self.changed:
            self._close()

    def _add_sources(self) -> None:
        for source in self._sources.values():
            insert = "INSERT INTO sources (name, kind, place, runs, web_url, signs) VALUES (?, ?, ?, 0, ?, '[]')"
            self._transaction.run(insert, (source.name, source.kind, source.place, source.web_url))

    def _reorder_sources(self) -> None:
        """Match the rows of sources to the settings: forget those no longer named, add new ones."""
        kept = {row[0]: row for row in self._database.execute(f"SELECT {', '.join(_SOURCE)} FROM sources ORDER BY id")}
        if list(kept) == list(self._sources):
            return
        for name in kept.keys() - self._sources.keys():
            SourceState(self._transaction, self._runs, name).forget()
        self._transaction.run("DELETE FROM sources")
        for source in self._sources.values():
            new = (source.name, source.kind, source.place, None, 0, None, None, None, None, source.web_url, "[]")
            self._transaction.run(rows.insert("sources", _SOURCE), kept.get(source.name, new))
        # places are ranked by the order of sources, too
        self._database.execute(
            "INSERT OR IGNORE INTO _touched SELECT run_key, 0 FROM places GROUP BY run_pk HAVING count(*) > 1"
        )

    def _close(self) -> None:
        if not self._transaction.fresh:
            oldest = self._database.execute(
                "SELECT rev FROM deletions ORDER BY rev DESC LIMIT 1 OFFSET ?", (rows.DELETIONS_KEPT,)
            ).fetchone()
            if oldest:
                self._database.execute("DELETE FROM deletions WHERE rev <= ?", oldest)
                self._database.execute("UPDATE meta SET forgotten_rev = max(forgotten_rev, ?)", oldest)
        self._database.execute("UPDATE meta SET last_rev = ?", (self._runs.last_rev,))
