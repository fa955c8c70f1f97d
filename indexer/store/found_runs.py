"""Stores the runs that a source finds in a pass, each with its place."""

from collections.abc import Mapping
from typing import Any

from indexer.changes import UNSETTLED, Found, Stamp, plain_name
from indexer.derive import status
from indexer.earlier import Earlier, Nothing
from indexer.protocols import DOUBTFUL, MALFORMED, Unreadable
from indexer.records import Run
from indexer.store import rows
from indexer.store.earlier import EarlierRows, EarlierSome
from indexer.store.place_table import COLUMNS, PlaceTable, StoredPlace
from indexer.store.places import Place
from indexer.store.problems import OF_ROWS, OPTIONAL, Lasting, Problems
from indexer.store.runs import Runs
from indexer.store.transaction import Transaction


class FoundRuns:
    """The runs that one source finds."""

    def __init__(self, transaction: Transaction, runs: Runs, source: str, places: PlaceTable, problems: Problems):
        self._transaction, self._runs, self._source = transaction, runs, source
        self._places, self._problems = places, problems
        self._database = transaction.database
        refs = "SELECT 1 FROM _refs WHERE source = ? LIMIT 1"
        self.several_refs = self._database.execute(refs, (source,)).fetchone() is not None
        """Whether the source already has a ref, so that another one may hold the same run."""
        self.history_is_known = False
        """Whether a history arrived in this pass."""

    def put(self, found: Found, run: Run) -> None:
        """Store a run folder that was read."""
        old = self._places.find(found.ref, found.path)
        self._tell_of_files(found, run)
        self._problems.close(found.ref, found.path)
        tags = None if run.tags is None else rows.tags_text(run.tags.tags)
        decided = run.tags.updated_at if run.tags else None
        ended = int(run.state in ("ended", "failed", "cancelled"))
        ended_count = sum(trial.status != "running" for trial in run.trials)
        last_activity = max((trial.finished_at for trial in run.trials if trial.finished_at), default=None)
        place = Place(
            self._source, found.path, found.ref, ended, ended_count, last_activity, tags, decided,
            rows.tags_text(run.authored_tags), run.rank, run.edition, *self._added(found.ref, found.path), 0,
        )  # fmt: skip
        self._store(found, place, old, run)

    def _tell_of_files(self, found: Found, run: Run) -> None:
        lasts: Lasting = 3 if run.partial else 2
        problems: list[tuple[Mapping[str, str], str, Lasting]] = [
            (run.broken, MALFORMED, lasts), (run.optional, MALFORMED, OPTIONAL), (run.doubts, DOUBTFUL, OF_ROWS)
        ]  # fmt: skip
        for files, kind, lasting in problems:
            for path, message in files.items():
                where = f"{found.path}/{path}".rstrip("/")
                self._problems.tell(found.ref, where, kind, message, run_key=run.key, lasting=lasting)

    def earlier(self, found: Found) -> Earlier:
        """What is indexed of a run folder that is about to be read again."""
        old = self._places.find(found.ref, found.path)
        if old is None:
            return Nothing()
        mine = self._runs.place_of(old.run_key) == (self._source, found.path, found.ref)
        stamps = self._places.stamps(old.pk) if found.ref is None else {}
        changed = _differing(stamps, found)
        whole = not self._problems.lacks_rows(found.ref, found.path)
        return EarlierRows(self._database, old.run_pk if mine else None, changed if stamps else None, whole)

    def earlier_of_some(self, found: Found) -> EarlierSome | None:
        """What the index holds of a run in which only `found.trials` changed; None if it must be read whole."""
        old = self._places.find(None, found.path)
        if old is None or found.trials is None or self._problems.lacks_rows(None, found.path):
            return None
        places = self._runs.places_of(old.run_pk)
        if len(places) > 1 or self._runs.place_of(old.run_key) != places[0][:3]:
            return None
        stamps = self._places.stamps(old.pk, found.trials)
        changed = _differing(stamps, found)
        return EarlierSome(self._database, old.run_pk, changed, found.trials, stamps)

    def put_some(self, found: Found, run: Run, earlier: EarlierSome) -> None:
        """Store some trials of an indexed run, read together with the run's own files."""
        old = self._places.find(None, found.path)
        assert old is not None and found.trials is not None
        self._tell_of_files(found, run)
        mine = found.trials | {name.partition("/")[0] for name in found.stamps}
        own = {name for name in self._problems.unread(None, found.path) - mine if not earlier.has_trial(name)}
        self._problems.close(None, found.path, mine | own)
        self._runs.write_trials(old.run_pk, run, found.trials, self._source)
        status, ended_count = self._database.execute(
            "SELECT status, ended_count FROM runs WHERE id = ?", (old.run_pk,)
        ).fetchone()
        ends = (earlier.rest.finished_at, *(trial.finished_at for trial in run.trials))
        told = {"status": status, "ended_count": ended_count, "last_activity": max(filter(None, ends), default=None)}
        self._places.update(old, told, earlier.stamps, _stamps(found, run))

    def keep(self, found: Found) -> None:
        """Keep all that is indexed of a run folder that could not be examined after all."""
        self._problems.close(found.ref, found.path, ())
        self._places.keep(found.ref, found.path)

    def put_twin(self, found: Found) -> bool:
        """Copy the place of another ref with the same folder at the same path. Returns whether there is one."""
        if not self.several_refs:
            return False
        columns = ["ref", *(column for column in COLUMNS if column not in ("ref", "sha"))]
        twin = self._database.execute(
            f"SELECT {', '.join(columns)} FROM places WHERE source = ? AND path = ? AND fingerprint = ? AND ref <> ?",
            (self._source, found.path, found.fingerprint, found.ref),
        ).fetchone()
        if twin is None:
            return False
        assert found.ref is not None
        self._problems.doubt_alike(found.ref, twin[0], found.path)
        self._problems.close(found.ref, found.path)
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
        """Report that a run folder cannot be read; its earlier rows stay."""
        old = self._places.find(found.ref, found.path)
        key = old.run_key if old else found.run.key_from_names()
        inside = error.path == found.path or error.path.startswith(f"{found.path}/")
        path = error.path if inside else f"{found.path}/{error.path}".rstrip("/")
        lasts: Lasting = 3 if self._problems.lacks_rows(found.ref, found.path) else 2
        self._problems.tell(found.ref, path, error.kind, error.message, run_key=key, lasting=lasts)
        for other, message in error.others.items():
            self._problems.tell(found.ref, f"{found.path}/{other}", MALFORMED, message, run_key=key, lasting=lasts)
        if self._problems.close(found.ref, found.path) and found.ref and old:
            self._places.doubt(old)
        self._places.keep(found.ref, found.path)

    def no_run(self, found: Found) -> None:
        """Remove the place of a folder that proved to be no run; runs below it are reported on their own."""
        self._problems.close(found.ref, found.path)
        if (old := self._places.find(found.ref, found.path)) is not None:
            self._transaction.flush()
            self._places.remove(old.pk, old.run_pk, old.run_key)

    def _added(self, ref: str | None, path: str) -> tuple[Any, Any, Any]:
        if not ref or (self._transaction.fresh and not self.history_is_known):
            return None, None, None
        query = "SELECT sha, seconds, author FROM _added WHERE source = ? AND ref = ? AND path = ?"
        row = self._database.execute(query, (self._source, ref, path)).fetchone()
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
            place.authored_tags, place.rank, place.edition, found.run.reader,
            "" if (run.broken or run.optional) and found.ref else found.fingerprint,
        )  # fmt: skip
        new_in_source = all(other.source != self._source for other in others)
        self._places.write(old, row, _stamps(found, run), new_in_source=new_in_source)

    def _others(self, place: Place, old: StoredPlace | None, run: Run) -> list[Place]:
        if old is None and self._runs.is_new(run.key):
            return []
        pk = self._runs.pk_of(run.key)
        return [] if pk is None else [other for other in self._runs.places_of(pk) if other[:3] != place[:3]]


def _differing(stamps: Mapping[str, Stamp], found: Found) -> set[str]:
    """Top-level names in a run whose stamps, or stamps below them, differ from these."""
    return {name.partition("/")[0] for name, _ in stamps.items() ^ found.stamps.items()}


def _stamps(found: Found, run: Run) -> dict[str, Stamp]:
    """The stamps of a run's files; unreadable ones are marked to be read again."""
    again = run.broken.keys() | run.optional.keys()
    return {
        name: stamp._replace(mtime_ns=UNSETTLED) if name in again else stamp for name, stamp in found.stamps.items()
    }
