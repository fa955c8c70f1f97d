"""The rows of `places` of one source in one pass: looked up, written, marked as seen, removed."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from indexer.changes import UNSETTLED, Stamp
from indexer.store import rows
from indexer.store.runs import Runs
from indexer.store.sieve import Sieve
from indexer.store.transaction import Transaction

COLUMNS = (
    "run_pk", "run_key", "timestamp", "source", "path", "ref", "sha", "status", "ended", "ended_count",
    "last_activity", "name", "tags", "tags_at", "authored_tags", "rank", "edition", "format", "fingerprint",
)  # fmt: skip
_INSERT_PLACE = rows.insert("places", ["id", *COLUMNS])
_UPDATE_PLACE = f"UPDATE places SET {', '.join(f'{column} = ?' for column in COLUMNS)} WHERE id = ?"
_INSERT_FILE = "INSERT OR REPLACE INTO _files VALUES (?, ?, ?, ?, ?, ?)"
_STAMP = "SELECT path, size, mtime_ns, ctime_ns, inode FROM _files"
_STAMPS = f"{_STAMP} WHERE place_pk = ?"
_OWN_STAMPS = f"{_STAMP} INDEXED BY files_own WHERE place_pk = ? AND instr(path, '/') = 0"
_INSERT_SEEN = "INSERT OR IGNORE INTO _seen VALUES (?)"
_BATCH = 500


class StoredPlace(NamedTuple):
    """A stored place: its id, its run and its fingerprint."""

    pk: int
    run_pk: int
    run_key: str
    fingerprint: str


class PlaceTable:
    """The places of one source. `changed`: whether any row changed; `run_count`: runs gained or lost."""

    def __init__(self, transaction: Transaction, runs: Runs, source: str):
        self._transaction, self._runs, self._source = transaction, runs, source
        self._database = transaction.database
        self._memo: tuple[tuple[str | None, str], StoredPlace | None] | None = None
        self._written = Sieve()  # of a fresh index: its places
        self._seen: list[tuple[int]] = []
        self.changed = False
        self.run_count = 0

    def find(self, ref: str | None, path: str) -> StoredPlace | None:
        """The place at a path."""
        if self._transaction.fresh and self._written.is_new((ref, path)):
            return None
        if self._memo is None or self._memo[0] != (ref, path):
            row = self._database.execute(
                "SELECT id, run_pk, run_key, fingerprint FROM places WHERE source = ? AND path = ? AND ref IS ?",
                (self._source, path, ref),
            ).fetchone()
            self._memo = ((ref, path), StoredPlace(*row) if row else None)
        return self._memo[1]

    def at_or_below(self, ref: str | None, path: str) -> list[tuple[int, int, str]]:
        """Id, run and key of the places at or below a path; an empty path stands for the whole ref."""
        columns = "SELECT id, run_pk, run_key FROM places WHERE source = ? AND ref IS ?"
        if not path:
            return self._database.execute(columns, (self._source, ref)).fetchall()
        exact = self._database.execute(f"{columns} AND path = ?", (self._source, ref, path)).fetchall()
        below = f"{columns} AND path > ? AND path < ?"
        return exact + self._database.execute(below, (self._source, ref, f"{path}/", f"{path}0")).fetchall()

    def stamps(self, pk: int, trials: Collection[str] | None = None) -> dict[str, Stamp]:
        """The stamps of a place's files; with `trials`, only those of these folders and of the run's own files."""
        rows = self._database.execute(_STAMPS if trials is None else _OWN_STAMPS, (pk,)).fetchall()
        for name in trials or ():
            rows += self._database.execute(f"{_STAMPS} AND path >= ? AND path < ?", (pk, f"{name}/", f"{name}0"))
        return {row[0]: Stamp._make(row[1:]) for row in rows}

    def write(
        self, old: StoredPlace | None, row: rows.Row, stamps: Mapping[str, Stamp], *, new_in_source: bool
    ) -> None:
        """Write a place, over an old one if any. `new_in_source`: no other place of the source has its run."""
        self._memo = None
        if old is None:
            if self._transaction.fresh:
                self._written.add((row[5], row[4]))
            pk = self._runs.new_place()
            self._transaction.add(_INSERT_PLACE, (pk, *row))
            self.run_count += new_in_source
            self._note(row[1])
        else:
            pk = old.pk
            if old.run_pk != row[0]:
                self.run_count += new_in_source - self._alone(pk, old.run_pk)
            self._replace(pk, self._row(pk), row)
        self._write_stamps(pk, self.stamps(pk) if old else {}, stamps)
        if not self._transaction.fresh:
            self.mark(pk)

    def update(
        self, old: StoredPlace, told: dict[str, object], known: Mapping[str, Stamp], stamps: Mapping[str, Stamp]
    ) -> None:
        """Update some columns of a place, and its stamps where they differ from `known`."""
        row = self._row(old.pk)
        self._replace(old.pk, row, tuple((dict(zip(COLUMNS, row, strict=True)) | told).values()))
        self._write_stamps(old.pk, known, stamps)
        self.mark(old.pk)

    def _row(self, pk: int) -> rows.Row:
        row: rows.Row = self._database.execute(rows.select("places", COLUMNS, "id = ?"), (pk,)).fetchone()
        return row

    def _replace(self, pk: int, stored: rows.Row, row: rows.Row) -> None:
        if stored != row:
            if stored[:-1] != row[:-1]:  # more than the fingerprint
                self._note(stored[1])
                self._note(row[1])
            self._transaction.run(_UPDATE_PLACE, (*row, pk))

    def _note(self, run_key: str) -> None:
        """Note that places of a run changed."""
        self.changed = True
        self._transaction.note_places(run_key)

    def _write_stamps(self, pk: int, known: Mapping[str, Stamp], stamps: Mapping[str, Stamp]) -> None:
        for name in known.keys() - stamps.keys():
            self._transaction.run("DELETE FROM _files WHERE place_pk = ? AND path = ?", (pk, name))
        for name, stamp in stamps.items():
            if known.get(name) != stamp:
                self._transaction.add(_INSERT_FILE, (pk, name, *stamp))

    def remove(self, pk: int, run_pk: int, run_key: str) -> None:
        """Remove a place; its run is settled at the end of the pass."""
        self._memo = None
        self._note(run_key)
        self.run_count -= self._alone(pk, run_pk)
        self._transaction.run("DELETE FROM _files WHERE place_pk = ?", (pk,))
        self._transaction.run("DELETE FROM places WHERE id = ?", (pk,))
        self._transaction.touch(run_key)

    def lose(self, pk: int, run_pk: int, run_key: str) -> None:
        """Remove a place where no run was found; one of a format that cannot be loaded stays."""
        if self._transaction.unloaded:
            (form,) = self._database.execute("SELECT format FROM places WHERE id = ?", (pk,)).fetchone()
            if form in self._transaction.unloaded:
                return
        self.remove(pk, run_pk, run_key)

    def remove_unseen(self, ref: str | None) -> None:
        """Remove the places of a ref that this pass did not see."""
        self._write_seen()
        if self._transaction.fresh:
            return
        unseen = (
            "SELECT id, run_pk, run_key FROM places WHERE source = ? AND ref IS ? "
            "AND id NOT IN (SELECT place_pk FROM _seen)"
        )
        for place in self._database.execute(unseen, (self._source, ref)).fetchall():
            self.lose(*place)

    def unsettle(self, path: str, names: Iterable[str]) -> None:
        """Mark files of a place that may have changed while they were read, so that they are read again."""
        if (old := self.find(None, path)) is not None:
            update = "UPDATE _files SET mtime_ns = ? WHERE place_pk = ? AND path = ?"
            for name in names:
                self._transaction.run(update, (UNSETTLED, old.pk, name))

    def doubt(self, place: StoredPlace) -> None:
        """Have the next pass read a place again."""
        self._transaction.run("UPDATE places SET fingerprint = '' WHERE id = ?", (place.pk,))
        self._memo = None

    def keep(self, ref: str | None, path: str) -> None:
        """Mark a place as seen without changing it, if it is indexed."""
        if (old := self.find(ref, path)) is not None:
            self.mark(old.pk)

    def mark(self, place_pk: int) -> None:
        """Mark a place as seen in this pass."""
        self._seen.append((place_pk,))
        if len(self._seen) >= _BATCH:
            self._write_seen()

    def _alone(self, pk: int, run_pk: int) -> bool:
        """Whether no other place of the source has the run."""
        query = "SELECT 1 FROM places WHERE run_pk = ? AND source = ? AND id <> ?"
        return self._database.execute(query, (run_pk, self._source, pk)).fetchone() is None

    def _write_seen(self) -> None:
        self._database.executemany(_INSERT_SEEN, self._seen)
        self._seen.clear()
