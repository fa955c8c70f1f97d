"""What could not be read of one source, as rows that close themselves.

A problem of a run lasts until its run folder is read again or goes; any other one (a ref, a part of a tree, the
history) is told anew by every pass and goes when it is not.
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
"""A doubt about what was read, which holds as long as it is not read again."""


class Problems:
    """The problems of one source in one pass."""

    def __init__(self, transaction: Transaction, source: str):
        self._transaction, self._source = transaction, source
        self._database = transaction.database
        self._told: set[int] = set()
        self._kept: set[int] = set()
        """Those of what was not looked at."""
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
        """The run folder at a path was read, or is gone: what was not told of it in this pass is mended.

        With `names` only the files and folders of these names directly inside were read, and what else cannot be
        stays. Returns whether any doubt about rows is among what went.
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
        """The rows of the run at a path stay as they are, and so does what is doubted of them or could not be added."""
        for pk, (of, where, lasting) in self._lasting.items():
            if of == ref and lasting in (OPTIONAL, OF_ROWS) and is_within(where, path):
                self._told.add(pk)

    def _is_of_run_inside(self, ref: str | None, path: str, where: str) -> bool:
        """Whether a file below the run at a path belongs to a run of its own there."""
        inside = "SELECT path FROM places WHERE source = ? AND ref IS ? AND path > ? AND path < ?"
        places = self._database.execute(inside, (self._source, ref, f"{path}/", f"{path}0"))
        return any(is_within(where, run) for (run,) in places)

    def doubt_alike(self, ref: str, twin: str, path: str) -> None:
        """What is doubted of the rows of a run in one ref is doubted in another that has the same."""
        for pk, (of, where, lasting) in list(self._lasting.items()):
            if of == twin and lasting == OF_ROWS and is_within(where, path):
                columns = "kind, message, run_key"
                problem = self._database.execute(f"SELECT {columns} FROM problems WHERE id = ?", (pk,)).fetchone()
                self.tell(ref, where, problem[0], problem[1], run_key=problem[2], lasting=OF_ROWS)

    def swept(self, ref: str | None) -> None:
        """Every run folder of a ref was visited."""
        for pk, (of, _, _) in list(self._lasting.items()):
            if of == ref and pk not in self._told and pk not in self._kept:
                self._remove(pk)

    def unread(self, ref: str | None, path: str) -> set[str]:
        """The names directly inside the run at a path, '' for itself, that are, or hold, what cannot be read."""
        return {
            where[len(path) + 1 :].partition("/")[0]
            for of, where, lasting in self._lasting.values()
            if of == ref and is_within(where, path) and lasting in (2, 3)
        }

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


def _was_read(where: str, path: str, names: Collection[str] | None) -> bool:
    """Whether what lies in the run at a path is below one of these names directly inside."""
    return names is None or where[len(path) + 1 :].partition("/")[0] in names
