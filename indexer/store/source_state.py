"""Taking in what one source tells in a pass: its places, refs, history and problems."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from indexer.changes import UNSETTLED, Found, History, Naming, Tip, Trouble, plain_name
from indexer.derive import status
from indexer.protocols import DOUBTFUL, MALFORMED, Earlier, Nothing, Unreadable
from indexer.records import Run
from indexer.store import commits, rows
from indexer.store.added import take_in
from indexer.store.earlier import EarlierRows
from indexer.store.indexed import IndexedSource
from indexer.store.place_table import COLUMNS, PlaceTable, StoredPlace
from indexer.store.places import Place
from indexer.store.problems import OF_ROWS, OPTIONAL, Lasting, Problems
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
        self._commits_changed = False
        refs = "SELECT 1 FROM _refs WHERE source = ? LIMIT 1"
        self._several_refs = self._database.execute(refs, (source,)).fetchone() is not None

    def put(self, found: Found, run: Run) -> None:
        """A run folder was read."""
        old = self._places.find(found.ref, found.path)
        self._tell_of_files(found, run)
        self.problems.close(found.ref, found.path)
        tags = None if run.tags is None else rows.tags_text(run.tags.tags)
        decided = run.tags.updated_at if run.tags else None
        ended = int(run.state in ("ended", "failed", "cancelled"))
        ended_count = sum(trial.status != "running" for trial in run.trials)
        last_activity = max((trial.finished_at for trial in run.trials if trial.finished_at), default=None)
        place = Place(
            self._source, found.path, found.ref, ended, ended_count, last_activity, tags, decided,
            rows.tags_text(run.authored_tags), *self._added(found.ref, found.path), 0,
        )  # fmt: skip
        self._store(found, place, old, run)

    def _tell_of_files(self, found: Found, run: Run) -> None:
        lasts: Lasting = 3 if run.partial else 2
        told: list[tuple[Mapping[str, str], str, Lasting]] = [
            (run.torn, MALFORMED, lasts), (run.optional, MALFORMED, OPTIONAL), (run.doubts, DOUBTFUL, OF_ROWS)
        ]  # fmt: skip
        for files, kind, lasting in told:
            for path, message in files.items():
                where = f"{found.path}/{path}"
                self.problems.tell(found.ref, where, kind, message, run_key=run.key, lasting=lasting)

    def earlier(self, found: Found) -> Earlier:
        """What is indexed of a run folder that is about to be read again."""
        old = self._places.find(found.ref, found.path)
        if old is None:
            return Nothing()
        mine = self._runs.place_of(old.run_key) == (self._source, found.path, found.ref)
        stamps = self.indexed.stamps(found.path) if found.ref is None else {}
        changed = {name.partition("/")[0] for name, _ in stamps.items() ^ found.stamps.items()}
        whole = not self.problems.lacks_rows(found.ref, found.path)
        return EarlierRows(self._database, old.run_pk if mine else None, changed if stamps else None, whole)

    def put_twin(self, found: Found) -> bool:
        """Take over what another ref with the same folder at the same path was read as, if there is one."""
        if not self._several_refs:
            return False
        columns = ["ref", *(column for column in COLUMNS if column not in ("ref", "sha"))]
        twin = self._database.execute(
            f"SELECT {', '.join(columns)} FROM places WHERE source = ? AND path = ? AND fingerprint = ? AND ref <> ?",
            (self._source, found.path, found.fingerprint, found.ref),
        ).fetchone()
        if twin is None:
            return False
        assert found.ref is not None
        self.problems.doubt_alike(found.ref, twin[0], found.path)
        self.problems.close(found.ref, found.path)
        values = dict(zip(columns, twin, strict=True)) | {
            "ref": found.ref,
            "sha": self._added(found.ref, found.path)[0],
        }
        old = self._places.find(found.ref, found.path)
        mine = (self._source, found.path, found.ref)
        self._transaction.touch(values["run_key"], stale=self._runs.place_of(values["run_key"]) == mine)
        if old is not None:
            self._transaction.touch(old.run_key)
        self._places.write(old, tuple(values[column] for column in COLUMNS), {}, new_in_source=False)
        return True

    def unreadable(self, found: Found, error: Unreadable) -> None:
        """A run folder cannot be read: what was read of it before stays."""
        old = self._places.find(found.ref, found.path)
        key = old.run_key if old else found.run.key_from_names()
        inside = error.path == found.path or error.path.startswith(f"{found.path}/")
        path = error.path if inside else f"{found.path}/{error.path}".rstrip("/")
        lasts: Lasting = 3 if self.problems.lacks_rows(found.ref, found.path) else 2
        self.problems.tell(found.ref, path, error.kind, error.message, run_key=key, lasting=lasts)
        for other, message in error.others.items():
            self.problems.tell(found.ref, f"{found.path}/{other}", MALFORMED, message, run_key=key, lasting=lasts)
        if self.problems.close(found.ref, found.path) and found.ref and old:
            self._places.doubt(old)
        self._places.keep(found.ref, found.path)

    def same(self, ref: str | None, path: str) -> None:
        """A run folder equals what is indexed."""
        self.problems.keep(ref, path)
        self.problems.close(ref, path)
        self._places.keep(ref, path)

    def no_run(self, found: Found) -> None:
        """A run folder turned out to be none; what lies below is told on its own."""
        self.problems.close(found.ref, found.path)
        if (old := self._places.find(found.ref, found.path)) is not None:
            self._transaction.flush()
            self._places.remove(old.pk, old.run_pk, old.run_key)

    def gone(self, ref: str | None, path: str) -> None:
        """No run is at a path or below any more."""
        self._transaction.flush()
        for place in self._places.at_or_below(ref, path):
            self._places.remove(*place)
        self.problems.close(ref, path)

    def swept(self, ref: str | None) -> None:
        """Every run folder of a ref was told: the rest is gone."""
        self._transaction.flush()
        self._places.remove_unseen(ref)
        self.problems.swept(ref)

    def missing(self, ref: str) -> None:
        """A ref is there no more."""
        self._transaction.flush()
        for place in self._places.at_or_below(ref, ""):
            self._places.remove(*place)
        for table in ("_refs", "_added"):
            self._transaction.run(f"DELETE FROM {table} WHERE source = ? AND ref = ?", (self._source, ref))
        self.problems.swept(ref)

    def trouble(self, trouble: Trouble) -> None:
        """Something beside the runs cannot be read: what is indexed there stays."""
        self._transaction.flush()
        self.problems.tell(trouble.ref, trouble.path, trouble.kind, trouble.message)
        for pk, _, _ in self._places.at_or_below(trouble.ref, trouble.path):
            self._places.mark(pk)

    def history(self, history: History) -> None:
        """Which commits brought which folders to a ref."""
        take_in(self._transaction, self._source, history)

    def naming(self, naming: Naming) -> None:
        """Which commits of the source's repository name runs."""
        self._transaction.flush()
        self._commits_changed |= commits.take_in(self._transaction, self._runs, self._source, naming)

    def advance(self, ref: str, tip: Tip) -> None:
        """A ref is read up to `tip`."""
        self._transaction.flush()
        self._several_refs = True
        old = self._database.execute(
            'SELECT "commit", tree, history, wip FROM _refs WHERE source = ? AND ref = ?', (self._source, ref)
        ).fetchone()
        if old != tuple(tip):
            self._transaction.run("INSERT OR REPLACE INTO _refs VALUES (?, ?, ?, ?, ?, ?)", (self._source, ref, *tip))

    def opened(self, source: OpenSource) -> None:
        """The source can be read; what was indexed of another place under its name is forgotten."""
        self._row.opened(source, self.forget)

    def fail(self, error: str) -> None:
        """The source cannot be opened: its rows stay."""
        self._row.fail(error)

    def unsettle(self, path: str, names: Iterable[str]) -> None:
        """Files of a place may have changed while they were read: they have to be read again."""
        self._transaction.flush()
        self._places.unsettle(path, names)

    def forget(self) -> None:
        """The source is not followed any more."""
        places = "SELECT id, run_pk, run_key FROM places WHERE source = ?"
        for place in self._database.execute(places, (self._source,)).fetchall():
            self._places.remove(*place)
        for table in ("_refs", "_added", "problems"):
            self._transaction.run(f"DELETE FROM {table} WHERE source = ?", (self._source,))
        self.naming(Naming(iter(()), complete=True))

    def finish(self, paths: Collection[str] | None) -> None:
        """Bring the source's own row up to date, and close problems that were not told again below these paths.

        None stands for the whole source.
        """
        if not self._row.failing:
            self.problems.finish(paths)
        counts = self._runs.counts[self._source]
        changed = self._places.changed or self._commits_changed or any(counts.values())
        self._row.finish(self.indexed.tips, self._places.run_count, changed=changed, whole=paths is None)

    # places

    def _added(self, ref: str | None, path: str) -> tuple[Any, Any, Any]:
        query = "SELECT sha, seconds, author FROM _added WHERE source = ? AND ref = ? AND path = ?"
        row = self._database.execute(query, (self._source, ref, path)).fetchone() if ref else None
        return row or (None, None, None)

    def _store(self, found: Found, place: Place, old: StoredPlace | None, run: Run) -> None:
        others = self._others(place, old, run)
        best = not others or self._runs.is_best(place, others)
        if run.partial and self._runs.place_of(run.key) not in (None, place[:3]):
            best = False  # good rows from elsewhere stay
        if best:
            pk = self._runs.write_run(run, place, others)
            timestamp = run.timestamp
        else:
            pk, timestamp = self._database.execute(
                "SELECT id, timestamp FROM runs WHERE key = ?", (run.key,)
            ).fetchone()
        if others or not best:
            self._transaction.touch(run.key, stale=not best and self._runs.place_of(run.key) == place[:3])
        if old and old.run_key != run.key:
            self._transaction.touch(old.run_key)
        row = (
            pk, run.key, timestamp, *place[:3], place.sha, status(run), place.ended, place.ended_count,
            place.last_activity, plain_name(found.path.rpartition("/")[2]), place.tags, place.tags_at,
            place.authored_tags, "" if (run.torn or run.optional) and found.ref else found.fingerprint,
        )  # fmt: skip
        again = run.torn.keys() | run.optional.keys()
        stamps = {name: UNSETTLED if name in again else stamp for name, stamp in found.stamps.items()}
        self._places.write(old, row, stamps, new_in_source=all(other.source != self._source for other in others))

    def _others(self, place: Place, old: StoredPlace | None, run: Run) -> list[Place]:
        if old is None and self._runs.is_new(run.key):
            return []
        pk = self._runs.pk_of(run.key)
        return [] if pk is None else [other for other in self._runs.places_of(pk) if other[:3] != place[:3]]
