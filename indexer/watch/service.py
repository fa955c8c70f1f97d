"""`watch`: stays, and looks where something happened.

Three things make it look. Events of the file system say where, and are answered at once, the same run again no
sooner than 50 ms after a look that changed something. What could not be read is looked at again soon, then with growing
pauses. And what no event tells is found by sweeps: each minute the folder and the top files of every run are
compared with their stamps, and a tenth of the runs file by file, so that all are within ten minutes. An index that
was right before is right again after `sweep` and the looks that follow from it, however many events were lost.

Everything that is read or written happens in one thread; watches only hand over paths.
"""

import os
import random
import socket
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from indexer import interrupts
from indexer.changes import Stamp, is_within
from indexer.errors import IndexFileError, LockedError, SourceError
from indexer.formats import run_of_overlay
from indexer.interrupts import Interrupted
from indexer.passes.sync import Report, bring_up_to_date, is_outside, look, note_looked
from indexer.protocols import Options
from indexer.records import utc_now, utc_text
from indexer.sources import Source
from indexer.sources.agentevals import AgentevalsSource
from indexer.sources.clone import CloneSource
from indexer.sources.disk import stamp_of
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.store import file, lock
from indexer.watch.events import Happened, Watches

AGAIN = 0.05
"""Seconds between the end of a look that changed a run and the next one."""
SETTLED = 0.025
"""Seconds after which a file that had just changed is looked at again: more than two changes can share a time."""
SWEEP = 60.0
"""Seconds between two sweeps, give or take a tenth."""
PARTS = 10
"""Every run is compared file by file once in so many sweeps."""
LONGEST_PAUSE = 600.0
"""Seconds at most between two fetches from a remote that fails."""
POLL = 5.0
"""Seconds between two looks at the refs of a repository, where no event tells that they moved."""
ABANDONED = 3_600_000_000_000
"""Nanoseconds without a sign of life after which only the top of a run that has not ended is watched."""
LOCAL_POLL = 1.0
"""Seconds between two looks at the refs of a partial clone on this machine: what it lacks is fetched before."""
_NEW = ""
"""Stands among the paths of a database for what is new, live or just ended there."""
_FIRST_RETRY, _LAST_RETRY = 0.1, 60.0

Tell = Callable[[str, dict[str, Any]], None]
"""Takes the name of what happened and its facts."""


@dataclass(slots=True)
class _Place:
    """What the daemon knows of one source. Paths are those inside it; None stands for the whole source."""

    source: Source
    root: str  # where it is on this machine; of a repository, where its refs are
    due: dict[str | None, float] = field(default_factory=dict)
    looked: dict[str | None, float] = field(default_factory=dict)
    retries: dict[str, float] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    failing: str | None = None


class Daemon:
    """Keeps the index at `db` current until a signal comes."""

    def __init__(
        self,
        db: Path,
        sources: Sequence[Source],
        options: Options,
        tell: Tell,
        fetch_pauses: Mapping[str, float] = MappingProxyType({}),
    ):
        self._db, self._sources, self._options, self._tell = db, sources, options, tell
        self._fetch_pauses = fetch_pauses
        self._places = {source.name: _Place(source, os.path.realpath(source.place)) for source in sources}
        self._own = {f"{os.path.realpath(db)}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", ".lock")}
        self._happened = Happened()
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._sweeps = 0
        self._next_sweep = 0.0
        self._refused = ""
        self._stumbled = 0
        self._lock: lock.Held
        self._waiting: str | None = None  # why the index has to be built anew, once every source can be read

    def run(self) -> None:
        """Watch until SIGINT or SIGTERM. Raises LockedError, IndexFileError."""
        with file.locked(self._db, "watch") as self._lock, interrupts.handled():
            with Watches(self._happened.add, self._happened.lose) as watches, suppress(Interrupted):
                self._follow(watches)  # before the first look, so that nothing falls between
                for source in self._sources:
                    if isinstance(source, AgentevalsSource):
                        with suppress(SourceError):
                            source.fetch()  # from now on nobody but a thread waits for it
                        source.kept = True
                self._catch_up()
                self._follow(watches)
                self._next_sweep = time.monotonic()
                for source in self._sources:
                    if isinstance(source, CloneSource) and source.name in self._fetch_pauses:
                        self._start(self._keep_fetching, source, self._fetch_pauses[source.name], LONGEST_PAUSE)
                    elif isinstance(source, GitSource) and not isinstance(source, CloneSource):
                        self._start(self._keep_fetching, source, LOCAL_POLL, LONGEST_PAUSE)
                    elif isinstance(source, AgentevalsSource):
                        self._start(self._keep_fetching, source, POLL, _LAST_RETRY)
                _notify("READY=1")
                self._tell("ready", {"sources": len(self._sources)})
                while not interrupts.requested():
                    self._turn(watches)
            _notify("STOPPING=1")
            self._disconnect()

    # one turn

    def _turn(self, watches: Watches) -> None:
        paths, lost = self._happened.wait(max(0.0, self._next_due() - time.monotonic()))
        for path, done in paths.items():
            self._note(path, AGAIN if not done else 0.0)
        if lost:
            self._tell("lost", {"why": "the kernel dropped events; everything is looked at"})
            for place in self._places.values():
                place.due[None] = 0.0
        now = time.monotonic()
        swept = now >= self._next_sweep
        if swept:
            self._sweep(now)
        work = self._due_work(now)
        if work:
            self._look(work)
        if swept:
            self._note_sweep()
        if work or swept:
            self._follow(watches)

    def _next_due(self) -> float:
        return min([self._next_sweep, *(time_ for place in self._places.values() for time_ in place.due.values())])

    def _due_work(self, now: float) -> dict[str, list[str] | None]:
        work: dict[str, list[str] | None] = {}
        for name, place in self._places.items():
            due = [path for path, when in place.due.items() if when <= now]
            if due:
                whole = None in due or place.failing is not None or isinstance(place.source, GitSource)
                work[name] = None if whole else [path for path in due if path]
                for path in list(place.due) if whole else due:
                    del place.due[path]
        return work

    def _look(self, work: dict[str, list[str] | None]) -> None:
        began = time.monotonic()
        try:
            self._lock.keep()
            report = look(self._connected(), self._sources, self._options, work)
        except LockedError:
            raise
        except (sqlite3.DatabaseError, IndexFileError, SourceError, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not is_outside(error):
                raise
            self._stumble(error, work)
            return
        ended = time.monotonic()
        self._stumbled = 0
        self._told(report, ended - began)
        changed = {source.name for source in report.sources if source.added or source.changed or source.removed}
        for name, paths in work.items():
            self._looked(self._places[name], paths, ended, rest=name in changed)
        for name, path in report.unsettled:
            self._later(self._places[name], path, ended + SETTLED)
        if self._waiting and not any(place.failing for place in self._places.values()):
            self._catch_up()

    def _stumble(self, error: Exception, work: dict[str, list[str] | None]) -> None:
        """The index could not be written: a full disk, another one in its place. Try again, with growing pauses."""
        if not self._stumbled:
            self._tell("error", {"error": str(error)})
        pause = min(_FIRST_RETRY * 2**self._stumbled, _LAST_RETRY)
        self._stumbled = min(self._stumbled + 1, 16)
        self._disconnect()
        if not isinstance(error, OSError):
            try:
                self._catch_up()
            except (sqlite3.Error, IndexFileError, SourceError, OSError):
                pass  # as was told; the next try is after the pause
            else:
                self._stumbled = 0
                return
        for name in work:
            self._places[name].due = {None: time.monotonic() + pause}

    def _looked(self, place: _Place, paths: list[str] | None, ended: float, *, rest: bool) -> None:
        """What follows from a look; one that changed something lets its runs rest for a moment."""
        place.looked = {path: when for path, when in place.looked.items() if ended - when < AGAIN}
        if rest:
            place.looked.update(dict.fromkeys([None] if paths is None else paths, ended))
        if isinstance(place.source, AgentevalsSource):
            return  # a thread tells when to look again
        if place.failing is not None or not isinstance(place.source, FolderSource):
            self._later(place, None, ended + POLL)
            return
        unreadable = self._unreadable(place) | self._young(place, paths or [])
        for path in list(place.retries):
            if path not in unreadable and (paths is None or path in paths):
                del place.retries[path]
        for path in unreadable if paths is None else unreadable & set(paths):
            pause = place.retries[path] = min(2 * place.retries.get(path, _FIRST_RETRY / 2), _LAST_RETRY)
            self._later(place, path, ended + pause)

    def _young(self, place: _Place, paths: Sequence[str]) -> set[str]:
        """Those of the paths that look like a run but do not tell yet what they are."""
        known = "SELECT 1 FROM places WHERE source = ? AND path = ? AND ref IS NULL"
        searched = place.source.searched if isinstance(place.source, FolderSource) else {}
        return {
            path
            for path in paths
            if path not in searched
            and os.path.isdir(f"{place.root}/{path}")
            and not self._query(known, place.source.name, path)
        }

    def _catch_up(self) -> None:
        """Bring the whole index up to date, and open it anew."""
        self._disconnect()
        began = time.monotonic()
        report = bring_up_to_date(self._db, self._sources, self._options)
        ended = time.monotonic()
        self._told(report, ended - began)
        for place in self._places.values():
            place.due = {}
            self._looked(place, None, ended, rest=False)
        for name, path in report.unsettled:
            self._later(self._places[name], path, ended + SETTLED)

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _connected(self) -> sqlite3.Connection:
        """The index; opened anew when its file was replaced. Raises IndexFileError when it is gone."""
        try:
            status = self._db.stat()
        except OSError:
            raise IndexFileError(f"{self._db} is gone and is made anew") from None
        if self._database is None or self._identity != (status.st_dev, status.st_ino):
            if self._database is not None:
                self._database.close()
                raise IndexFileError(f"{self._db} was replaced and is brought up to date")
            self._database = file.connect(self._db, write=True)
            self._identity = (status.st_dev, status.st_ino)
        return self._database

    def _told(self, report: Report, seconds: float) -> None:
        if report.built:
            self._tell("built", {"why": report.built})
        if report.waiting and report.waiting != self._waiting:
            self._tell("waiting", {"why": report.waiting})
        self._waiting = report.waiting or (self._waiting if report.built is None else None)
        for source in report.sources:
            counts = {"added": source.added, "changed": source.changed, "removed": source.removed}
            if any(counts.values()):
                self._tell("changed", {"source": source.name, **counts, "ms": round(1000 * seconds, 1)})
            place = self._places[source.name]
            if source.error and source.error != place.failing:
                self._tell("error", {"source": source.name, "error": source.error})
            if source.error or source.looked:
                place.failing = source.error

    # where something happened

    def _note(self, path: str, pause: float = 0.0) -> None:
        """An event: find out which run it is about, and look there after a pause."""
        if path in self._own:
            return
        for place in self._places.values():
            if isinstance(place.source, FolderSource):
                for inside in place.source.paths_at(path):
                    for about in self._about(place, place.source, inside):
                        self._soon(place, about, pause)
            elif not is_within(path, place.root):
                continue
            elif isinstance(place.source, AgentevalsSource):
                self._soon(place, _NEW)
            elif not path.endswith(".lock"):
                self._soon(place, None, pause)

    def _about(self, place: _Place, source: FolderSource, path: str) -> Iterator[str | None]:
        if not path:
            yield None
            return
        above = [path[:at] for at, c in enumerate(f"{path}/") if c == "/"]
        if run := next((each for each in above if each in place.live), None):
            yield run
            return
        for each in above[-2:]:
            if (run := run_of_overlay(each)) is not None:
                yield run
        try:
            about = source.about(path)
        except SourceError:
            yield None
            return
        if about is not None:
            yield about

    def _soon(self, place: _Place, path: str | None, pause: float = 0.0) -> None:
        self._later(place, path, max(place.looked.get(path, 0.0) + AGAIN, time.monotonic() + pause))

    def _later(self, place: _Place, path: str | None, when: float) -> None:
        place.due[path] = min(place.due.get(path, float("inf")), when)

    def _follow(self, watches: Watches) -> None:
        """Watch where runs may come, and what has not ended; look at what was not watched before."""
        first: list[str] = []
        others: list[str] = []
        for place in self._places.values():
            if isinstance(place.source, GitSource):
                folders = place.source.refs_folders()
                place.root = folders[0].rstrip("/") if folders else place.root
                first += folders
            elif isinstance(place.source, FolderSource):
                place.root = os.path.realpath(place.source.place)
                live, ended = self._live(place.source.name), self._just_ended(place.source.name)
                place.live = {path for path, _, _ in live}
                abandoned = time.time_ns() - ABANDONED
                above = [part.rpartition("/")[0] for part in place.source.parts()]
                roots = [*above, *(path for path in place.source.searched if "/" not in path)]
                rest = [path for path in place.source.searched if "/" in path and run_of_overlay(path) is None]
                first += [place.source.real_path(folder) for folder in ("", *roots)]
                first += [place.source.real_path(folder) for _, folder, sign in live if sign > abandoned]
                first += [place.source.real_path(path) for path in ended]  # one that is resumed goes on at once
                others += [place.source.real_path(path) for path, folder, sign in live if path == folder]
                others += [place.source.real_path(folder) for folder in (*place.retries, *rest)]
        for folder in watches.follow([*first, *others]):
            self._note(folder)
        if watches.refused and watches.refused != self._refused:
            self._tell("refused", {"why": f"watching folders: {watches.refused}; sweeps find what changes"})
        self._refused = watches.refused

    # what no event tells

    def _sweep(self, now: float) -> None:
        """Note every run whose folder or top files changed, a part of the others, and what is new or gone."""
        self._next_sweep = now + SWEEP * random.uniform(0.9, 1.1)
        self._sweeps += 1
        readable = self._query("SELECT 1") != []
        for place in self._places.values():
            if readable and isinstance(place.source, FolderSource) and os.path.isdir(place.root):
                self._sweep_folder(place, place.source)
            elif not isinstance(place.source, AgentevalsSource) or self._sweeps % PARTS == 0:
                self._soon(place, None)

    def _note_sweep(self) -> None:
        """Tell `status` of the sweep that was just made."""
        readable = [place.source for place in self._places.values() if place.failing is None]
        now = utc_now()
        try:
            lock.note(self._db, {"swept": now, "refused": self._refused or None})
        except OSError as error:
            self._tell("error", {"error": f"{lock.lock_path(self._db)}: {error.strerror}"})
        else:
            note_looked(self._db, readable, now, kept=self._places)

    def _sweep_folder(self, place: _Place, source: FolderSource) -> None:
        known = self._top_stamps(source.name)
        for path, stamps in known.items():
            mine = zlib.crc32(path.encode()) % PARTS == self._sweeps % PARTS
            if mine or any(_stamp(f"{place.root}/{name}") != stamp for name, stamp in stamps):
                self._soon(place, path)
        for part in source.parts():
            if part not in source.searched and part not in known and os.path.isdir(f"{place.root}/{part}"):
                self._soon(place, part or None)
        for folder, stamp in source.searched.items():
            if _stamp(f"{place.root}/{folder}") == stamp:
                continue
            inside = _folders(place.root, folder)
            new = [path for path in inside if path not in known and path not in source.searched]
            for path in new if inside else [folder]:
                self._soon(place, path or None)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _keep_fetching(self, source: GitSource | AgentevalsSource, pause: float, longest: float) -> None:
        """In a thread of its own: fetch now and then, more seldom while it fails."""
        failed, wait = 0, 0.0
        while not interrupts.requested():
            time.sleep(wait)
            before, moved = source.error, False
            try:
                moved = source.fetch()
                failed = 0
            except SourceError:
                failed = min(failed + 1, 16)
            except Exception as bug:  # must not end the fetching for good, nor be silent
                self._tell("error", {"source": source.name, "error": f"bug: {bug!r}"})
                failed = min(failed + 1, 16)
            wait = min(pause * 2**failed, max(pause, longest)) * random.uniform(0.9, 1.1)
            if moved or source.error != before:
                self._happened.add(self._places[source.name].root, True)

    # what the index holds

    def _query(self, statement: str, *parameters: str) -> list[Any]:
        try:
            return self._connected().execute(statement, parameters).fetchall()
        except (sqlite3.Error, IndexFileError):
            return []  # it is made anew by the next look

    def _live(self, source: str) -> list[tuple[str, str, int]]:
        """The runs that have not ended, with the folders that were searched for them and their last sign of life.

        Those that showed life last come first; the sign is the newest time of any file, in nanoseconds since 1970.
        """
        statement = """
            SELECT p.path, rtrim(p.path || '/' || f.path, '/'),
                   (SELECT max(mtime_ns) FROM _files l WHERE l.place_pk = p.id) AS sign
            FROM places p JOIN _files f ON f.place_pk = p.id
            WHERE p.source = ? AND p.ref IS NULL AND p.ended = 0
              AND (f.path = '' OR f.path LIKE '%/' AND f.path NOT LIKE '//%')
            ORDER BY f.path <> '', sign DESC, f.mtime_ns DESC"""
        return [(path, folder, sign) for path, folder, sign in self._query(statement, source)]

    def _just_ended(self, source: str) -> list[str]:
        """The runs that ended within the last day, of the newest ones."""
        statement = """
            SELECT path FROM (SELECT * FROM runs ORDER BY timestamp DESC, key DESC LIMIT 500)
            WHERE source = ? AND ref IS NULL AND status NOT IN ('queued', 'running')
              AND coalesce(finished_at, updated_at, timestamp) >= ?"""
        yesterday = utc_text(datetime.now(UTC) - timedelta(days=1))
        return [path for (path,) in self._query(statement, source, yesterday)]

    def _top_stamps(self, source: str) -> dict[str, list[tuple[str, Stamp]]]:
        """By run: the stamps of its folder and of the files directly inside."""
        statement = """
            SELECT p.path, f.path, f.size, f.mtime_ns, f.ctime_ns, f.inode
            FROM places p JOIN _files f ON f.place_pk = p.id
            WHERE p.source = ? AND p.ref IS NULL AND instr(f.path, '/') = 0"""
        found: dict[str, list[tuple[str, Stamp]]] = {}
        for path, name, *stamp in self._query(statement, source):
            found.setdefault(path, []).append((f"{path}/{name}".rstrip("/"), Stamp(*stamp)))
        return found

    def _unreadable(self, place: _Place) -> set[str]:
        """Where to look again, since something there cannot be read."""
        if not isinstance(place.source, FolderSource):
            return set()
        problems = "SELECT DISTINCT path FROM problems WHERE source = ? AND ref IS NULL AND path <> ''"
        paths = [path for (path,) in self._query(problems, place.source.name)]
        try:
            return {about for path in paths if (about := place.source.about(path))}
        except SourceError:
            return set()


def _stamp(path: str) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None


def _folders(root: str, folder: str) -> list[str]:
    """Paths of the folders directly inside, which may be runs."""
    try:
        with os.scandir(f"{root}/{folder}") as entries:
            return [f"{folder}/{e.name}".lstrip("/") for e in entries if e.is_dir()]
    except OSError:
        return []


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), if it started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.sendall(state.encode())
