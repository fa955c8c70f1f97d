"""`watch`: keeps running, and looks where something happened.

Several things make it look. File system events say where, and are answered at once (see scheduler). Unreadable paths
are retried with back-off. Refs and databases are polled. Sweeps find what no event reported: each minute they compare
the folder and the top files of every run with their stamps, and a tenth of the runs file by file, so that all are
compared within ten minutes. So the index is correct again after ten sweeps, however many events were lost.

One thread reads the sources and writes the index; others only watch, fetch and publish.
"""

import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from indexer import interrupts
from indexer.errors import IndexFileError, LockedError, SourceError
from indexer.interrupts import Interrupted
from indexer.passes.sync import bring_up_to_date, look, note_looked
from indexer.passes.walk import Report, SourceReport
from indexer.protocols import Options
from indexer.records import utc_now
from indexer.sources import Source
from indexer.store import file, lock
from indexer.watch import Log
from indexer.watch.events import Mailbox, Watches
from indexer.watch.falls import Falls
from indexer.watch.followers import follower
from indexer.watch.publishing import Publisher
from indexer.watch.scheduler import AGAIN, FIRST_RETRY, LAST_RETRY

SETTLED = 0.025
"""Seconds until a just-changed file is looked at again: longer than the granularity of mtimes."""
SWEEP = 60.0
"""Seconds between two sweeps, give or take a tenth."""

ShowLive = Callable[[Sequence[dict[str, Any]]], None]
"""Shows the newest runs that have not ended."""
_LIVE = "run_id", "status", "timestamp", "updated_at", "planned_count", "ended_count", "running_count"
_NEWEST_LIVE = f"""
SELECT {", ".join(_LIVE)} FROM runs WHERE status IN ('queued', 'running') ORDER BY timestamp DESC, key DESC LIMIT 100
"""


class OpenIndex:
    """The one connection to the watched index, reopened when the file was replaced."""

    def __init__(self, db: Path):
        self._db = db
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def connected(self) -> sqlite3.Connection:
        """The connection. Raises IndexFileError if the file is gone or was replaced."""
        now = file.identity(self._db)
        if now is None:
            raise IndexFileError(f"{self._db} is gone; building a new one")
        if self._database is None:
            self._database, self._identity = file.connect(self._db, write=True), now
        elif self._identity != now:
            self.close()
            raise IndexFileError(f"{self._db} was replaced; bringing it up to date")
        return self._database

    def ask(self, statement: str, *values: object) -> list[Any]:
        """Rows; empty while the index cannot be read, which the next look repairs."""
        try:
            return self.connected().execute(statement, values).fetchall()
        except (sqlite3.Error, IndexFileError):
            return []


class Watcher:
    """Keeps the index at `db` current until a signal arrives."""

    def __init__(
        self,
        db: Path,
        sources: Sequence[Source],
        options: Options,
        log: Log,
        show_live: ShowLive | None = None,
        publisher: Publisher | None = None,
    ):
        self._db, self._sources, self._options, self._log = db, sources, options, log
        self._publisher = publisher
        self._show_live = show_live
        self._index = OpenIndex(db)
        self._followers = {source.name: follower(source, self._index.ask) for source in sources}
        self._own = {f"{os.path.realpath(db)}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", ".lock")}
        self._mailbox = Mailbox()
        self._sweeps = 0
        self._next_sweep = 0.0
        self._refused = ""
        self._stumbled = 0
        self._falls = Falls(db)
        self._lock: lock.Held
        self._waiting: str | None = None  # why the index has to be rebuilt once every source can be read

    def run(self) -> None:
        """Watch until SIGINT or SIGTERM. Raises LockedError, IndexFileError."""
        with file.locked(self._db, "watch") as self._lock, interrupts.handled():
            try:
                with Watches(self._mailbox.put, self._mailbox.lose) as watches, suppress(Interrupted):
                    self._begin(watches)
                    while not interrupts.requested():
                        self._turn(watches)
            finally:
                if self._publisher is not None:
                    self._publisher.stop()
            _notify("STOPPING=1")
            self._index.close()

    def _begin(self, watches: Watches) -> None:
        """Bring the index up to date, and start what runs beside."""
        self._follow(watches)  # before the first look, so that no change is missed
        for source in self._sources:
            source.begin_watching()
        self._catch_up()
        self._follow(watches)
        self._next_sweep = time.monotonic()
        for source in self._sources:
            if source.pause is not None:
                moved = partial(self._mailbox.put, self._followers[source.name].root, True)
                told = (source, source.pause, moved, self._log)
                threading.Thread(target=_keep_fetching, args=told, daemon=True).start()
        if self._publisher is not None:
            self._publisher.start()
            self._publisher.wake()
        _notify("READY=1")
        self._log("ready", {"sources": len(self._sources)})

    def _turn(self, watches: Watches) -> None:
        """Wait for an event or a due look, look, and watch what is new."""
        next_due = min(self._next_sweep, *(each.schedule.next() for each in self._followers.values()))
        paths, lost = self._mailbox.wait(max(0.0, next_due - time.monotonic()))
        for path in paths.keys() - self._own:
            for each in self._followers.values():
                each.hear(path, AGAIN if not paths[path] else 0.0)
        if lost:
            self._log("lost", {"why": "the kernel dropped events; everything is looked at"})
            for each in self._followers.values():
                each.schedule.restart(0.0)
        now = time.monotonic()
        swept = now >= self._next_sweep
        if swept:
            began = utc_now()
            self._next_sweep = now + SWEEP * random.uniform(0.9, 1.1)
            self._sweeps += 1
            for each in self._followers.values():
                each.sweep(self._sweeps)
        work = self._due_work(now)
        caught_up = self._look(work) if work else False
        if swept:
            self._note_sweep(began)
            for facts in self._falls.new(self._index.ask("SELECT generation, last_rev FROM meta")):
                self._log("drift", facts)
        more = [each.folders_of(work[name]) for name, each in self._followers.items() if name in work]
        if swept or caught_up or None in more:
            self._follow(watches)
        elif more:
            self._hear_first(watches.follow_more(chain.from_iterable(filter(None, more))))
        if (work or swept) and self._publisher is not None:
            self._publisher.wake()
        if (work or swept) and self._show_live is not None:
            self._show_live([dict(zip(_LIVE, run, strict=True)) for run in self._index.ask(_NEWEST_LIVE)])

    def _due_work(self, now: float) -> dict[str, Collection[str] | None]:
        due = {name: each for name, each in self._followers.items() if each.schedule.next() <= now}
        return {name: each.schedule.take(now, partly=each.partly) for name, each in due.items()}

    def _look(self, work: dict[str, Collection[str] | None]) -> bool:
        """Look at what is due. Returns whether the whole index was brought up to date."""
        began = time.monotonic()
        try:
            self._lock.keep()
            report = look(self._index.connected(), self._sources, self._options, work)
        except LockedError:
            raise
        except (sqlite3.DatabaseError, IndexFileError, SourceError, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not file.is_outside(error):
                raise
            self._stumble(error, work)
            return True
        ended = time.monotonic()
        self._stumbled = 0
        self._tell(report, ended - began)
        changed = {source.name for source in report.sources if any(source.counts.values())}
        for name, paths in work.items():
            self._followers[name].looked(paths, ended, rest=name in changed)
        self._look_again(report, ended)
        if self._waiting and not any(each.failing for each in self._followers.values()):
            self._catch_up()
            return True
        return False

    def _look_again(self, report: Report, ended: float) -> None:
        for name, path in report.unsettled:
            self._followers[name].schedule.later(path, ended + SETTLED)

    def _stumble(self, error: Exception, work: Collection[str]) -> None:
        """Retry with back-off after the index could not be written: a full disk, or another index in its place."""
        if not self._stumbled:
            self._log("error", {"error": str(error)})
        pause = min(FIRST_RETRY * 2**self._stumbled, LAST_RETRY)
        self._stumbled = min(self._stumbled + 1, 16)
        self._index.close()
        if not isinstance(error, OSError):
            try:
                self._catch_up()
            except (sqlite3.Error, IndexFileError, SourceError, OSError):
                pass  # already logged; the next try is after the pause
            else:
                self._stumbled = 0
                return
        for name in work:
            self._followers[name].schedule.restart(time.monotonic() + pause)

    def _catch_up(self) -> None:
        """Bring the whole index up to date, and open it anew."""
        self._index.close()
        began = time.monotonic()
        report = bring_up_to_date(self._db, self._sources, self._options)
        ended = time.monotonic()
        self._tell(report, ended - began)
        for each in self._followers.values():
            each.schedule.restart()
            each.looked(None, ended, rest=False)
        self._look_again(report, ended)

    def _tell(self, report: Report, seconds: float) -> None:
        """Log what a pass did, and note which sources fail."""
        if report.built:
            self._log("built", {"why": report.built})
        if report.waiting and report.waiting != self._waiting:
            self._log("waiting", {"why": report.waiting})
        self._waiting = report.waiting or (self._waiting if report.built is None else None)
        for source in report.sources:
            if any(source.counts.values()):
                facts = {"source": source.name, **source.counts, "ms": round(1000 * seconds, 1)}
                self._log("changed", facts | {"runs": _named(source)})
            each = self._followers[source.name]
            if source.error and source.error != each.failing:
                self._log("error", {"source": source.name, "error": source.error})
            if source.error or source.looked:
                each.failing = source.error

    def _follow(self, watches: Watches) -> None:
        """Watch where runs may appear and what has not ended; look at newly watched folders."""
        first: list[str] = []
        others: list[str] = []
        for each in self._followers.values():
            mine, further = each.folders()
            first += mine
            others += further
        self._hear_first(watches.follow([*first, *others]))
        if watches.refused and watches.refused != self._refused:
            self._log("refused", {"why": f"watching folders: {watches.refused}; sweeps find what changes"})
        self._refused = watches.refused

    def _hear_first(self, folders: Iterable[str]) -> None:
        """Schedule looks at newly watched folders: they may have changed before the watch."""
        for folder in folders:
            for each in self._followers.values():
                each.hear(folder, 0.0)

    def _note_sweep(self, now: str) -> None:
        """Note for `status` when the sweep began, and which sources equalled the index."""
        quiet = (each for each in self._followers.values() if each.schedule.next() > time.monotonic())
        readable = [each.source for each in quiet if each.failing is None]
        try:
            lock.note(self._db, {"swept": now, "refused": self._refused or None})
        except OSError as error:
            self._log("error", {"error": f"{lock.lock_path(self._db)}: {error.strerror}"})
        else:
            note_looked(self._db, readable, now, kept=self._followers)


def _keep_fetching(source: Source, pause: float, moved: Callable[[], None], log: Log) -> None:
    """In its own thread: fetch periodically, with back-off while it fails; `moved` hears of what came and of errors."""
    failed, wait = 0, 0.0
    while not interrupts.requested():
        time.sleep(wait)
        before, came = source.error, False
        try:
            came = source.fetch()
            failed = 0
        except SourceError:
            failed = min(failed + 1, 16)
        except Exception as bug:  # must neither end the thread nor go unnoticed
            log("error", {"source": source.name, "error": f"bug: {bug!r}"})
            failed = min(failed + 1, 16)
        wait = min(pause * 2**failed, max(pause, source.longest_pause)) * random.uniform(0.9, 1.1)
        if came or source.error != before:
            moved()


def _named(source: SourceReport) -> list[str]:
    """The runs that a pass changed, and how many more."""
    more = sum(source.counts.values()) - len(source.runs)
    return [*source.runs, *([f"{more} more"] if more else [])]


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), if it started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.sendall(state.encode())
