"""What one source holds in the index: its places, refs, history and problems.

It answers the source's questions while it is walked (`sources.Known`), and takes in what it tells.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from indexer.changes import UNSETTLED, Found, History, Naming, Stamp, Tip, Trouble, plain_name
from indexer.derive import status
from indexer.protocols import DOUBTFUL, MALFORMED, Earlier, Nothing, Unreadable
from indexer.records import Run, utc_now
from indexer.store import commits, rows
from indexer.store.added import take_in
from indexer.store.earlier import EarlierRows
from indexer.store.place_table import COLUMNS, PlaceTable, StoredPlace
from indexer.store.places import Place
from indexer.store.problems import OF_ROWS, OPTIONAL, Lasting, Problems
from indexer.store.runs import Runs
from indexer.store.transaction import Transaction


class OpenSource(Protocol):
    """A source that can be read: what of it goes into its own row."""

    kind: str
    place: str
    web_url: str | None

    def nothing_found(self) -> str | None: ...


class SourceState:
    """One source in one pass: what the index holds of it, and what it says now."""

    def __init__(self, transaction: Transaction, runs: Runs, source: str):
        self._transaction, self._runs, self._source = transaction, runs, source
        self._database = transaction.database
        self._places = PlaceTable(transaction, runs, source)
        self.problems = Problems(transaction, source)
        self._failing = False
        self._commits_changed = False
        self._several_refs = False
        self._nothing_found: Callable[[], str | None] = lambda: None

    # what the source asks

    def tips(self) -> Mapping[str, Tip]:
        rows_ = self._database.execute(
            'SELECT ref, "commit", tree, history, wip FROM _refs WHERE source = ? ORDER BY ref', (self._source,)
        )
        tips = {ref: Tip(commit, tree, history, bool(wip)) for ref, commit, tree, history, wip in rows_}
        self._several_refs = bool(tips)
        return tips

    def fingerprint(self, ref: str | None, path: str) -> str | None:
        place = self._places.find(ref, path)
        return place.fingerprint if place else None

    def stamps(self, path: str) -> Mapping[str, Stamp]:
        place = self._places.find(None, path)
        if place is None:
            return {}
        return self._places.stamps(place.pk)

    def fingerprints(self) -> Iterator[tuple[str, str]]:
        query = "SELECT path, fingerprint FROM places WHERE source = ? AND ref IS NULL ORDER BY path"
        return self._database.execute(query, (self._source,))

    def unfinished(self) -> Sequence[str]:
        query = "SELECT path FROM places WHERE source = ? AND ended = 0 AND ref IS NULL"
        return [path for (path,) in self._database.execute(query, (self._source,))]

    def inside(self, path: str) -> bool:
        below = "SELECT 1 FROM places WHERE source = ? AND path > ? AND path < ? AND ref IS NULL"
        place = self._database.execute(below, (self._source, f"{path}/", f"{path}0")).fetchone()
        return place is not None or self.problems.covers(None, path)

    def places_named(self, name: str) -> set[tuple[str, str]]:
        self._transaction.flush()
        query = (
            "SELECT ref, path FROM places WHERE source = ?1 AND name = ?2 AND ref IS NOT NULL "
            "UNION SELECT ref, path FROM _added WHERE source = ?1 AND name = ?2"
        )
        return set(self._database.execute(query, (self._source, name)))

    # what the source tells

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
        stamps = self.stamps(found.path) if found.ref is None else {}
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
        key = old.run_key if old else _key_from_names(found)
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
        self._nothing_found = source.nothing_found
        kind, place, web_url = source.kind, source.place, source.web_url
        query = "SELECT kind, place, web_url FROM sources WHERE name = ?"
        stored = self._database.execute(query, (self._source,)).fetchone()
        if stored[:2] != (kind, place):
            self.forget()
        if stored != (kind, place, web_url):
            update = "UPDATE sources SET kind = ?, place = ?, web_url = ? WHERE name = ?"
            self._transaction.run(update, (kind, place, web_url, self._source))

    def failing(self, error: str) -> None:
        """The source cannot be opened."""
        self._failing = True
        row = self._database.execute("SELECT error FROM sources WHERE name = ?", (self._source,)).fetchone()
        if row != (error,):
            self._transaction.run(
                "UPDATE sources SET error = ?, failing_since = coalesce(failing_since, ?) WHERE name = ?",
                (error, utc_now(), self._source),
            )

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

        None stands for the whole source, which then fails no more.
        """
        if not self._failing:
            self.problems.finish(paths)
        counts = self._runs.counts[self._source]
        query = "SELECT tip, runs, changed_at, failing_since, error, note, kind FROM sources WHERE name = ?"
        *old, kind = self._database.execute(query, (self._source,)).fetchone()
        refs = {} if kind == "repo" else self.tips()  # those of results: code has hundreds of branches
        tip = ", ".join(f"{ref} {tip.commit}" for ref, tip in refs.items() if not tip.wip) or None
        changed_at = utc_now() if self._places.changed or self._commits_changed or any(counts.values()) else old[2]
        whole = paths is None and not self._failing
        trouble = (None, None) if whole else old[3:5]
        runs = old[1] + self._places.run_count
        note = self._nothing_found() if whole and not runs else old[5] if not runs else None
        new = (tip, runs, changed_at, *trouble, note)
        if list(new) != old:
            columns = ("tip", "runs", "changed_at", "failing_since", "error", "note")
            update = f"UPDATE sources SET {', '.join(f'{column} = ?' for column in columns)} WHERE name = ?"
            self._transaction.run(update, (*new, self._source))

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


def _key_from_names(found: Found) -> str | None:
    try:
        return found.format.key_from_names(found.folder)
    except Unreadable:
        return None
