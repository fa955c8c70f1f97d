"""What could not be read in one source: rows of `problems`, which close themselves.

A problem of a run lasts until its run folder is read again or removed. Every pass reports all other problems again (of
a ref, a part of a tree, the history) and closes those that it did not report.
"""

from collections.abc import Collection
from typing import Literal

from indexer.changes import is_within
from indexer.records import utc_now
from indexer.store.transaction import Transaction

Lasting = Literal[0, 1, 2, 3, 4]
"""As in `problems.lasting`."""
OPTIONAL: Lasting = 1
"""An optional file, which is looked at again when it changes."""
OF_ROWS: Lasting = 4
"""A doubt about rows that were read, which lasts until they are read again."""


class Problems:
    """The problems of one source in one pass."""

    def __init__(self, transaction: Transaction, source: str):
        self._transaction, self._source = transaction, source
        self._database = transaction.database
        self._told: set[int] = set()
        self._kept: set[int] = set()
        """Problems of files that this pass did not read."""
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

    def close(self, ref: str | None, path: str, names: Collection[str] | None = None) -> bool:
        """Close the problems of a run folder that was read, or is gone, unless this pass reported them again.

        With `names`, only these files and folders directly inside were read, and all other problems stay.
        Returns whether a doubt about rows was closed.
        """
        unread = {
            pk
            for pk, (of, where, _) in self._lasting.items()
            if of == ref and is_within(where, path) and not _was_read(where, path, names)
        }
        self._kept |= unread
        gone = [
            (pk, where, lasting)
            for pk, (of, where, lasting) in self._lasting.items()
            if pk not in self._told and pk not in unread and of == ref and is_within(where, path)
        ]
        doubted = [
            pk for pk, where, lasting in gone if lasting == OF_ROWS and not self._is_of_run_inside(ref, path, where)
        ]
        for pk in [*(pk for pk, _, lasting in gone if lasting != OF_ROWS), *doubted]:
            self._remove(pk)
        return bool(doubted)

    def keep(self, ref: str | None, path: str) -> None:
        """Keep the doubts about a run whose rows stay as they are, and the problems of its optional files."""
        for pk, (of, where, lasting) in self._lasting.items():
            if of == ref and lasting in (OPTIONAL, OF_ROWS) and is_within(where, path):
                self._told.add(pk)

    def _is_of_run_inside(self, ref: str | None, path: str, where: str) -> bool:
        """Whether a file below the run at a path belongs to a run of its own there."""
        inside = "SELECT path FROM places WHERE source = ? AND ref IS ? AND path > ? AND path < ?"
        places = self._database.execute(inside, (self._source, ref, f"{path}/", f"{path}0"))
        return any(is_within(where, run) for (run,) in places)

    def doubt_alike(self, ref: str, twin: str, path: str) -> None:
        """Copy the doubts about a run in one ref to another ref with the same folder."""
        for pk, (of, where, lasting) in list(self._lasting.items()):
            if of == twin and lasting == OF_ROWS and is_within(where, path):
                columns = "kind, message, run_key"
                problem = self._database.execute(f"SELECT {columns} FROM problems WHERE id = ?", (pk,)).fetchone()
                self.tell(ref, where, problem[0], problem[1], run_key=problem[2], lasting=OF_ROWS)

    def swept(self, ref: str | None) -> None:
        """Close the remaining problems of a ref, all of whose run folders were visited."""
        for pk, (of, _, _) in list(self._lasting.items()):
            if of == ref and pk not in self._told and pk not in self._kept:
                self._remove(pk)

    def unread(self, ref: str | None, path: str) -> set[str]:
        """Names directly inside the run at a path that are, or contain, something unreadable; '' is the run itself."""
        return {
            where[len(path) + 1 :].partition("/")[0]
            for of, where, lasting in self._lasting.values()
            if of == ref and is_within(where, path) and lasting in (2, 3)
        }

    def lacks_rows(self, ref: str | None, path: str) -> bool:
        """Whether the run at a path was only read in part, so that its rows are not its last good state."""
        return any(
            of == ref and lasting == 3 and where.startswith(f"{path}/") for of, where, lasting in self._lasting.values()
        )

    def finish(self, paths: Collection[str] | None) -> None:
        """Close the other problems at these paths, or everywhere, that this pass did not report again."""
        rows = self._database.execute("SELECT id, path FROM problems WHERE source = ? AND NOT lasting", (self._source,))
        for pk, where in rows.fetchall():
            looked = paths is None or any(is_within(where, path) for path in paths)
            if looked and pk not in self._told:
                self._remove(pk)

    def _remove(self, pk: int) -> None:
        self._lasting.pop(pk, None)
        self._transaction.run("DELETE FROM problems WHERE id = ?", (pk,))


def _was_read(where: str, path: str, names: Collection[str] | None) -> bool:
    """Whether `where`, in the run at `path`, is one of these top-level names or below it; None stands for all."""
    return names is None or where[len(path) + 1 :].partition("/")[0] in names
