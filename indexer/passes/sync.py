"""One pass over the sources, as one transaction: what changed is read by its format and written to the index.

The read position of each ref is committed with its rows, so a killed pass leaves the index as it was, and the next one
starts from there.

A rebuild is the same pass over empty tables inside one transaction in place: readers see the old index until
the new one is complete. A file on disk that changed less than 20 ms before it was read may have changed again without
a new stamp, so it is read once more after that time.
"""

import gc
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from indexer import interrupts
from indexer.errors import IndexFileError, SourceError
from indexer.formats import READER
from indexer.passes.walk import Plan, Progress, Report, Work, walk
from indexer.protocols import Options
from indexer.records import utc_now
from indexer.sources import Source
from indexer.store import file, lock
from indexer.store.transaction import prepare

_NO_ROOM = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL}


def sync(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """Bring the index up to date; build it if there is none, or if it cannot be continued.

    Raises LockedError, IndexFileError. A source that cannot be opened is in the report and keeps its rows.
    """
    with file.locked(db, "sync"):
        fetch(sources)
        return bring_up_to_date(db, sources, options, progress)


def bring_up_to_date(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """Like `sync`, without fetching; the caller holds the lock."""
    began = utc_now()
    with _clear_errors(db):
        report = _continue(db, Plan(sources=sources, options=options, progress=progress))
    failing = {source.name for source in report.sources if source.error}
    kept = failing if report.built is None else set()  # rows that were read before stay
    note_looked(db, [source for source in sources if source.name not in failing], began, kept)
    return report


def rebuild(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> Report:
    """Replace the index with a fresh one; the old one stays if any source cannot be opened.

    Raises LockedError, IndexFileError, SourceError.
    """
    with file.locked(db, "rebuild"), _clear_errors(db):
        fetch(sources)
        began = utc_now()
        report = _build(db, Plan(sources=sources, options=options, progress=progress, strict=True), "asked for")
        note_looked(db, sources, began)
        return report


def look(database: sqlite3.Connection, sources: Sequence[Source], options: Options, work: Work) -> Report:
    """One pass over part of the sources; the caller holds the lock and the open index.

    Does not wait for just-changed files: the report lists them for another look.
    """
    prepare(database)
    database.execute("BEGIN IMMEDIATE")
    try:
        report = walk(database, Plan(sources=sources, options=options, work=work))
        database.execute("COMMIT" if report.changed else "ROLLBACK")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return report


def fetch(sources: Iterable[Source]) -> None:
    """Fetch what sources need before they are read; one that fails says so when it is opened."""
    for source in sources:
        interrupts.check()
        source.prepare()


def note_looked(db: Path, sources: Sequence[Source], when: str, kept: Collection[str] = ()) -> None:
    """Note for `status` when the index last equalled these sources; for a remote, the time of its fetch.

    Notes on other sources are dropped, except on those `kept`.
    """
    lock.note_looked(db, {source.name: source.fetched or when for source in sources}, kept)


def reader(options: Options) -> str:
    """The reader version and the options: with others the same bytes may give other rows."""
    return f"{READER} {options.model_dump_json(exclude={'whole_errors'})}"


def _continue(db: Path, plan: Plan) -> Report:
    fault = file.fault(db, reader(plan.options))
    if fault is None:
        try:
            return _incremental(db, plan)
        except sqlite3.DatabaseError as error:
            if not file.is_damage(error):
                raise
            fault = file.Fault(f"the index is damaged ({error})", lost=True)
            file.create(db)
    if fault.lost:
        return _build(db, plan, fault.why)
    try:
        return _build(db, replace(plan, strict=True), fault.why)
    except SourceError as error:  # do not lose existing rows because a source is unavailable
        report = _incremental(db, plan)
        report.waiting = f"{fault.why}; it is built anew once every source can be read: {error}"
        return report


def _incremental(db: Path, plan: Plan) -> Report:
    database = file.connect(db, write=True)
    try:
        database.execute("BEGIN IMMEDIATE")
        report = walk(database, plan)
        database.execute("COMMIT" if report.changed else "ROLLBACK")
        return report
    finally:
        database.close()


def _build(db: Path, plan: Plan, why: str) -> Report:
    _require_space(db)
    if not db.exists() or db.stat().st_size == 0:
        file.create(db)
        try:
            return _build_in_place(db, plan, why)
        except BaseException:
            file.remove(db)  # an empty file is no index
            raise
    try:
        return _build_in_place(db, plan, why)
    except sqlite3.DatabaseError as error:
        if not file.is_damage(error):
            raise
    file.create(db)
    return _build_in_place(db, plan, why)


def _build_in_place(db: Path, plan: Plan, why: str) -> Report:
    database = file.connect(db, write=True)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("BEGIN IMMEDIATE")
        file.begin_anew(database, reader(plan.options))
        with _few_collections():
            report = walk(database, replace(plan, fresh=True), why)
        if broken := database.execute("PRAGMA foreign_key_check").fetchone():
            raise AssertionError(f"row without its parent: {broken}")
        database.execute("COMMIT")
        with suppress(sqlite3.OperationalError):  # a reader may hold the WAL; SQLite checkpoints later
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return report
    finally:
        database.close()


@contextmanager
def _few_collections() -> Iterator[None]:
    """Make garbage collections rare: they would take a seventh of a rebuild's time, and find no cycles."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _require_space(db: Path) -> None:
    """Raises IndexFileError if the disk is too full: a rebuild writes a whole index beside the old one first."""
    needed = sum(part.stat().st_size for part in (db, Path(f"{db}-wal")) if part.exists())
    free = shutil.disk_usage(db.parent).free
    if free < needed:
        raise IndexFileError(f"{db.parent} has {free:,} bytes free, and a rebuild needs about {needed:,}")


@contextmanager
def _clear_errors(db: Path) -> Iterator[None]:
    """Turn SQLite's errors that are caused outside this program, such as a full disk, into an IndexFileError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not file.is_outside(error):
            raise
        code = error.sqlite_errorcode & 0xFF
        sorted_there = "; SQLite sorts in SQLITE_TMPDIR, /var/tmp or /tmp" if code in _NO_ROOM else ""
        raise IndexFileError(f"{db} cannot be written: {error}{sorted_there}") from error
