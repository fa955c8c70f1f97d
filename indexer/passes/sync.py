"""One pass over the sources: what changed is read by its format and written to the index.

The pass is one transaction. Sources are walked one after the other, git first; each change is read and
written before the next is looked for, so memory does not grow with the number of runs. How far each ref was
read is written with the rows it gave, so a pass that is killed leaves the index as it was, and the next
one starts from there. Nothing that cannot be read stops a pass: it becomes a row of `problems`.

A rebuild is the same pass over empty tables inside one transaction in place: readers see the old index
until they see the new one whole. A file on disk that changed less than 20 ms before it was read may have
changed again without a new stamp, so it is read once more after that time.
"""

import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from indexer import interrupts
from indexer.changes import Advance, Change, Found, Gone, History, Known, Missing, Naming, Same, Swept, Trouble
from indexer.errors import IndexFileError, SourceError
from indexer.formats import READER
from indexer.protocols import Nothing, Options, Unreadable
from indexer.records import Run, utc_now
from indexer.sources import Source
from indexer.sources.git import GitSource
from indexer.store import file, lock
from indexer.store.ledger import Ledger
from indexer.store.transaction import prepare
from indexer.store.writer import Pass

RACY_NS = 20_000_000
"""A file that changed this short before it was read may change again unseen, in nanoseconds."""

_OUTSIDE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}
"""Errors of SQLite that have their cause outside this program."""
_NO_ROOM = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL}

Progress = Callable[[Source, Known], Iterator[Change]]
"""Yields the changes of a source and shows how far the pass is."""


@dataclass(slots=True)
class SourceReport:
    """What a pass changed in one source, in runs; `error` when it could not be opened."""

    name: str
    kind: str
    added: int = 0
    changed: int = 0
    removed: int = 0
    error: str | None = None
    looked: bool = True  # whether the whole source was walked


@dataclass(slots=True)
class Report:
    """What a pass did. `built` says why the index was built anew, if it was."""

    built: str | None
    waiting: str | None = None  # why it has to be built anew and was not
    sources: list[SourceReport] = field(default_factory=list)
    unsettled: list[tuple[str, str]] = field(default_factory=list)  # source and run folder to be looked at again

    @property
    def failed(self) -> bool:
        return any(source.error for source in self.sources)


def sync(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """Bring the index up to date; build it if there is none, or if it cannot be continued.

    Raises LockedError, IndexFileError. A source that cannot be opened is in the report and keeps its rows.
    """
    with file.locked(db, "sync"):
        fetch(sources)
        return bring_up_to_date(db, sources, options, progress)


def bring_up_to_date(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """As `sync`, for who holds the lock already, and without fetching."""
    began = utc_now()
    with _clear_errors(db):
        report = _continue(db, sources, options, progress)
    failing = {source.name for source in report.sources if source.error}
    kept = failing if report.built is None else set()  # rows that were read before stay
    note_looked(db, [source for source in sources if source.name not in failing], began, kept)
    return report


def rebuild(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """A fresh index in the place of the old one, which stays if any source cannot be opened.

    Raises LockedError, IndexFileError, SourceError.
    """
    with file.locked(db, "rebuild"), _clear_errors(db):
        fetch(sources)
        began = utc_now()
        report = _build(db, sources, options, progress, "asked for", strict=True)
        note_looked(db, sources, began)
        return report


def fetch(sources: Iterable[Source]) -> None:
    """Bring in what repositories lack to be read; a source that fails tells so when it is opened."""
    for source in sources:
        interrupts.check()
        if isinstance(source, GitSource):
            with suppress(SourceError):
                source.fetch()


def note_looked(db: Path, sources: Sequence[Source], when: str, kept: Collection[str] = ()) -> None:
    """Note for `status` up to when the index is known to equal these sources; of a remote, what was fetched.

    What is noted of others is forgotten, but for those `kept`.
    """
    fetched = {source.name: source.fetched for source in sources if isinstance(source, GitSource)}
    lock.note_looked(db, {source.name: fetched.get(source.name) or when for source in sources}, kept)


Work = Mapping[str, Collection[str] | None]
"""By source: the paths to look at, None for everything."""


def look(database: sqlite3.Connection, sources: Sequence[Source], options: Options, work: Work) -> Report:
    """One pass over a part of the sources, for who holds the lock and keeps the index open.

    It does not wait for files that had just changed: the report has them, to be looked at again.
    """
    prepare(database)
    database.execute("BEGIN IMMEDIATE")
    try:
        report = Report(None)
        current = _walk(database, sources, options, None, report, strict=False, fresh=False, work=work)
        database.execute("COMMIT" if current.changed else "ROLLBACK")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return report


def reader(options: Options) -> str:
    """What decides which rows the same bytes give: the reader version and the options."""
    return f"{READER} {options.model_dump_json()}"


def _continue(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None) -> Report:
    fault = file.fault(db, reader(options))
    if fault is None:
        try:
            return _incremental(db, sources, options, progress)
        except sqlite3.DatabaseError as error:
            if not file.is_damage(error):
                raise
            fault = file.Fault(f"the index is damaged ({error})", lost=True)
            file.create(db)
    if fault.lost:
        return _build(db, sources, options, progress, fault.why, strict=False)
    try:
        return _build(db, sources, options, progress, fault.why, strict=True)
    except SourceError as error:  # rows that can still be read are not given up for a source that is away
        report = _incremental(db, sources, options, progress)
        report.waiting = f"{fault.why}; it is built anew once every source can be read: {error}"
        return report


def _incremental(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None) -> Report:
    database = file.connect(db, write=True)
    try:
        database.execute("BEGIN IMMEDIATE")
        report = Report(None)
        current = _walk(database, sources, options, progress, report, strict=False, fresh=False)
        database.execute("COMMIT" if current.changed else "ROLLBACK")
        return report
    finally:
        database.close()


def _build(
    db: Path, sources: Sequence[Source], options: Options, progress: Progress | None, why: str, *, strict: bool
) -> Report:
    _require_space(db)
    if not db.exists() or db.stat().st_size == 0:
        file.create(db)
        try:
            return _build_in_place(db, sources, options, progress, why, strict=strict)
        except BaseException:
            file.remove(db)  # an empty file is no index
            raise
    try:
        return _build_in_place(db, sources, options, progress, why, strict=strict)
    except sqlite3.DatabaseError as error:
        if not file.is_damage(error):
            raise
    file.create(db)
    return _build_in_place(db, sources, options, progress, why, strict=strict)


def _build_in_place(
    db: Path, sources: Sequence[Source], options: Options, progress: Progress | None, why: str, *, strict: bool
) -> Report:
    database = file.connect(db, write=True)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("BEGIN IMMEDIATE")
        file.begin_anew(database, reader(options))
        report = Report(why)
        _walk(database, sources, options, progress, report, strict=strict, fresh=True)
        if broken := database.execute("PRAGMA foreign_key_check").fetchone():
            raise AssertionError(f"row without its parent: {broken}")
        database.execute("COMMIT")
        with suppress(sqlite3.OperationalError):  # a reader may hold the log; SQLite does it later
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return report
    finally:
        database.close()


def _walk(
    database: sqlite3.Connection,
    sources: Sequence[Source],
    options: Options,
    progress: Progress | None,
    report: Report,
    *,
    strict: bool,
    fresh: bool,
    work: Work | None = None,
) -> Pass:
    by_name = {source.name: source for source in sources}
    opened: set[str] = set()

    def reread(name: str, path: str, ref: str | None) -> Run | None:
        try:
            if name not in opened and work is not None and name not in work:
                by_name[name].open()
                opened.add(name)
            found = by_name[name].find(ref, path) if name in opened else None
            run = found.format.read(found.folder, options, Nothing()) if found else None
        except (Unreadable, SourceError):
            return None
        return None if run is None or run.partial else run

    current = Pass(database, sources, reread, fresh=fresh)
    errors: dict[str, str] = {}
    for source in sorted(sources, key=lambda source: source.kind != "git"):
        if work is not None and source.name not in work:
            continue
        ledger = current.ledgers[source.name]
        try:
            source.open()
            opened.add(source.name)
            ledger.opened(source)
            if work is None:
                changes = progress(source, ledger) if progress else source.changes(ledger)
                for path in _settle_racy(source, ledger, options, _take_in(changes, ledger, options)):
                    report.unsettled.append((source.name, path))
            else:
                changes = source.changes(ledger, work[source.name])
                for path, names in _take_in(changes, ledger, options):
                    ledger.unsettle(path, names)
                    report.unsettled.append((source.name, path))
        except SourceError as error:
            if strict:
                raise SourceError(f"source {source.name}: {error}; the index is as it was") from None
            current.fail(source.name, str(error))
            errors[source.name] = str(error)
    current.settle(work)
    for source in sources:
        report.sources.append(
            SourceReport(
                source.name,
                source.kind,
                **current.counts[source.name],
                error=errors.get(source.name),
                looked=work is None or work.get(source.name, ()) is None,
            )
        )
    return current


def _take_in(changes: Iterator[Change], ledger: Ledger, options: Options) -> list[tuple[str, list[str]]]:
    """Index what differs in one source. Returns run folders with files that had just changed when they were read."""
    racy: list[tuple[str, list[str]]] = []
    with closing(cast("Generator[Change]", changes)):  # an error would keep it, and what it has open
        _index_all(changes, ledger, options, racy)
    return racy


def _index_all(changes: Iterator[Change], ledger: Ledger, options: Options, racy: list[tuple[str, list[str]]]) -> None:
    for change in changes:
        interrupts.check()
        match change:
            case Found():
                if names := _index(change, ledger, options):
                    racy.append((change.path, names))
            case Same(ref, path):
                ledger.same(ref, path)
            case Gone(ref, path):
                ledger.gone(ref, path)
            case Swept(ref):
                ledger.swept(ref)
            case Missing(ref):
                ledger.missing(ref)
            case Trouble():
                ledger.trouble(change)
            case History():
                ledger.history(change)
            case Naming():
                ledger.naming(change)
            case Advance(ref, tip):
                ledger.advance(ref, tip)


def _settle_racy(source: Source, ledger: Ledger, options: Options, racy: list[tuple[str, list[str]]]) -> Iterator[str]:
    """Read once more what had just changed when it was read. Yields the run folders that go on changing."""
    if not racy:
        return
    time.sleep(RACY_NS / 1e9)
    for path, names in racy:
        ledger.unsettle(path, names)
        again = source.find(None, path)
        if again is not None and (names := _index(again, ledger, options)):
            ledger.unsettle(path, names)  # so that the next pass reads them again
            yield path


def _index(found: Found, ledger: Ledger, options: Options) -> list[str]:
    """Read a run folder and write its rows. Returns the files on disk that had just changed."""
    if found.ref is not None and ledger.put_twin(found):
        return []
    began = time.time_ns()
    try:
        run = found.format.read(found.folder, options, ledger.earlier(found))
    except Unreadable as error:
        ledger.unreadable(found, error)
        return []
    if run is None:
        ledger.no_run(found)
        return []
    ledger.put(found, run)
    just = began - RACY_NS
    return [name for name, stamp in found.stamps.items() if max(stamp.mtime_ns, stamp.ctime_ns) > just]


def _require_space(db: Path) -> None:
    """A rebuild writes a second index beside the old one before it replaces it."""
    needed = sum(part.stat().st_size for part in (db, Path(f"{db}-wal")) if part.exists())
    free = shutil.disk_usage(db.parent).free
    if free < needed:
        raise IndexFileError(f"{db.parent} has {free:,} bytes free, and a rebuild needs about {needed:,}")


def is_outside(error: sqlite3.DatabaseError) -> bool:
    """Whether an error of SQLite has its cause outside this program: the disk, other programs, a damaged file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTSIDE or file.is_damage(error)


@contextmanager
def _clear_errors(db: Path) -> Iterator[None]:
    """What SQLite says of a full disk or a read-only file, as one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_outside(error):
            raise
        code = error.sqlite_errorcode & 0xFF
        sorted_there = "; what is sorted lies in SQLITE_TMPDIR, /var/tmp or /tmp" if code in _NO_ROOM else ""
        raise IndexFileError(f"{db} cannot be written: {error}{sorted_there}") from error
