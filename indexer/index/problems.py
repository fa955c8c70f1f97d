"""What could not be read of one source, as rows that close themselves.

A problem of a run lasts until its run folder is read again or goes; any other one (a ref, a part of a tree, the
history) is told anew by every pass and goes when it is not.
"""

from collections.abc import Collection
from typing import Literal

from indexer.changes import is_within
from indexer.index.transaction import Transaction
from indexer.records import utc_now

Lasting = Literal[0, 1, 2, 3]
"""As in `problems.lasting`."""


class Problems:
    """The problems of one source in one pass."""

    def __init__(self, transaction: Transaction, source: str):
        self._transaction, self._source = transaction, source
        self._database = transaction.database
        self._told: set[int] = set()
        rows = self._database.execute(
            "SELECT id, ref, path, lasting FROM problems WHERE source = ? AND lasting", (source,)
        )
        self._lasting = {pk: (ref, path, lasting) for pk, ref, path, lasting in rows}

    def tell(
        self, ref: str | None, path: str, kind: str, message: str, *, run_key: str | None = None, lasting: Lasting = 0
    ) -> None:
        """Something cannot be read; `run_key` is the run that it covers."""
        identity = (self._source, path, ref, kind)
        query = (
            "SELECT id, run_key, message, lasting FROM problems WHERE source = ? AND path = ? AND ref IS ? AND kind = ?"
        )
        row = self._database.execute(query, identity).fetchone()
        if row is None:
            insert = "INSERT INTO problems (source, path, ref, kind, run_key, message, first_seen, lasting)"
            values = (*identity, run_key, message, utc_now(), lasting)
            pk = self._transaction.run(f"{insert} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid or 0
        else:
            pk = row[0]
            if row[1:] != (run_key, message, lasting):
                update = "UPDATE problems SET run_key = ?, message = ?, lasting = ? WHERE id = ?"
                self._transaction.run(update, (run_key, message, lasting, pk))
        self._told.add(pk)
        if lasting:
            self._lasting[pk] = (ref, path, lasting)

    def close(self, ref: str | None, path: str) -> None:
        """The run folder at a path was read, or is gone: what was not told of it in this pass is mended."""
        for pk, (of, where, _) in list(self._lasting.items()):
            if pk not in self._told and of == ref and is_within(where, path):
                self._remove(pk)

    def swept(self, ref: str | None) -> None:
        """Every run folder of a ref was visited."""
        for pk, (of, _, _) in list(self._lasting.items()):
            if of == ref and pk not in self._told:
                self._remove(pk)

    def covers(self, ref: str | None, path: str) -> bool:
        """Whether anything of the run at a path cannot be read."""
        return any(of == ref and is_within(where, path) for of, where, _ in self._lasting.values())

    def lacks_rows(self, ref: str | None, path: str) -> bool:
        """Whether the run at a path was only read in part, so that what is indexed of it is no last good state."""
        return any(
            of == ref and lasting == 3 and where.startswith(f"{path}/") for of, where, lasting in self._lasting.values()
        )

    def finish(self, paths: Collection[str] | None) -> None:
        """Close what this pass, which looked at these paths or at everything, does not tell any more."""
        rows = self._database.execute("SELECT id, path FROM problems WHERE source = ? AND NOT lasting", (self._source,))
        for pk, where in rows.fetchall():
            looked = paths is None or any(is_within(where, path) for path in paths)
            if looked and pk not in self._told:
                self._remove(pk)

    def _remove(self, pk: int) -> None:
        self._lasting.pop(pk, None)
        self._transaction.run("DELETE FROM problems WHERE id = ?", (pk,))
