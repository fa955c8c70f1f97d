"""The row of `sources` of one source in one pass."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from indexer.changes import Tip
from indexer.records import utc_now
from indexer.store.transaction import Transaction


class OpenSource(Protocol):
    """What an open source contributes to its own row."""

    kind: str
    place: str
    web_url: str | None
    holds_runs: bool

    def nothing_found(self) -> str | None: ...
    def signs(self) -> Collection[str]: ...


class SourceRow:
    """One source's own row. `failing` says that it could not be opened in this pass."""

    def __init__(self, transaction: Transaction, source: str):
        self._transaction, self._source = transaction, source
        self._database = transaction.database
        self._nothing_found: Callable[[], str | None] = lambda: None
        self._tells_tip = False
        self.failing = False

    def opened(self, source: OpenSource, forget: Callable[[], None]) -> None:
        """Note that the source could be opened; if its place is another one now, forget what was indexed."""
        self._nothing_found, self._tells_tip = source.nothing_found, source.holds_runs
        new = (source.kind, source.place, source.web_url, json.dumps(list(source.signs())))
        query = "SELECT kind, place, web_url, signs FROM sources WHERE name = ?"
        stored = self._database.execute(query, (self._source,)).fetchone()
        if stored[:2] != new[:2]:
            forget()
        if stored != new:
            self._transaction.run(
                "UPDATE sources SET kind = ?, place = ?, web_url = ?, signs = ? WHERE name = ?", (*new, self._source)
            )

    def fail(self, error: str) -> None:
        """Note that the source cannot be opened."""
        self.failing = True
        row = self._database.execute("SELECT error FROM sources WHERE name = ?", (self._source,)).fetchone()
        if row != (error,):
            self._transaction.run(
                "UPDATE sources SET error = ?, failing_since = coalesce(failing_since, ?) WHERE name = ?",
                (error, utc_now(), self._source),
            )

    def finish(self, tips: Callable[[], Mapping[str, Tip]], added_runs: int, *, changed: bool, whole: bool) -> None:
        """Update the row; `whole`: all of the source was walked, so it no longer fails."""
        query = "SELECT tip, runs, changed_at, failing_since, error, note FROM sources WHERE name = ?"
        old = self._database.execute(query, (self._source,)).fetchone()
        refs = tips() if self._tells_tip else {}
        tip = ", ".join(f"{ref} {tip.commit}" for ref, tip in refs.items() if not tip.wip) or None
        whole = whole and not self.failing
        runs = old[1] + added_runs
        note = self._nothing_found() if whole and not runs else old[5] if not runs else None
        new = (
            tip if self._tells_tip else old[0],
            runs,
            utc_now() if changed else old[2],
            *((None, None) if whole else old[3:5]),
            note,
        )
        if new != old:
            columns = ("tip", "runs", "changed_at", "failing_since", "error", "note")
            update = f"UPDATE sources SET {', '.join(f'{column} = ?' for column in columns)} WHERE name = ?"
            self._transaction.run(update, (*new, self._source))
