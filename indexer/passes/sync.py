"""One pass over the sources, as one transaction: what changed is read by its format and written to the index.

How far each ref was read is written with the rows it gave, so a pass that is killed leaves the index as it was, and the
next one starts from there.

A rebuild is the same pass over empty tables inside one transaction in place: readers see the old index until they see
the new one whole. A file on disk that changed less than 20 ms before it was read may have changed again without a new
stamp, so it is read once more after that time.
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
    """Like sync(); the caller holds the lock and has fetched."""
    began = utc_now()
    with _clear_errors(db):
        report = _continue(db, Plan(sources=sources, options=options, progress=progress))
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
        report = _build(db, Plan(sources=sources, options=options, progress=progress, strict=True), "asked for")
        note_looked(db, sources, began)
        return report


def look(database: sqlite3.Connection, sources: Sequence[Source], options: Options, work: Work) -> Report:
    """One pass over a part of the sources, on an index that is kept open under the lock.

    It does not wait for files that had just changed: the report has them, to be looked at again.
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
    """Bring in what sources lack to be read; one that fails says so when it is opened."""
    for source in sources:
        interrupts.check()
        source.prepare()


def note_looked(db: Path, sources: Sequence[Source], when: str, kept: Collection[str] = ()) -> None:
    """Note for `status` up to when the index is known to equal these sources; of a remote, what was fetched.

    What is noted of others is forgotten, but for those `kept`.
    """
    lock.note_looked(db, {source.name: source.fetched or when for source in sources}, kept)


def reader(options: Options) -> str:
    """What decides which rows the same bytes give: the reader version and the options."""
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
    except SourceError as error:  # rows that can still be read are not given up for a source that is away
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
        with suppress(sqlite3.OperationalError):  # a reader may hold the log; SQLite does it later
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return report
    finally:
        database.close()


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let Python look for cycles seldom: it would walk over rows that wait, a seventh of a rebuild, and find none."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _require_space(db: Path) -> None:
    """A rebuild writes the whole index into its log before the old one goes. Raises IndexFileError."""
    needed = sum(part.stat().st_size for part in (db, Path(f"{db}-wal")) if part.exists())
    free = shutil.disk_usage(db.parent).free
    if free < needed:
        raise IndexFileError(f"{db.parent} has {free:,} bytes free, and a rebuild needs about {needed:,}")


@contextmanager
def _clear_errors(db: Path) -> Iterator[None]:
    """What SQLite says of a full disk or a read-only file, as one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not file.is_outside(error):
            raise
        code = error.sqlite_errorcode & 0xFF
        sorted_there = "; what is sorted lies in SQLITE_TMPDIR, /var/tmp or /tmp" if code in _NO_ROOM else ""
        raise IndexFileError(f"{db} cannot be written: {error}{sorted_there}") from error
