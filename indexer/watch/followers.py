"""Follows the changes of a source: what to watch, which run an event is about, what a sweep compares."""

import os
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Protocol, cast

from indexer.changes import Stamp, is_within
from indexer.errors import SourceError
from indexer.formats import is_run_file, run_of_overlay
from indexer.sources import FileSource, RefSource, Source
from indexer.sources.disk import stamp_of
from indexer.watch.scheduler import Schedule
from indexer.watch.stored import Ask, Stored

POLL = 5.0
"""Seconds between two looks where events cannot be relied on."""
PARTS = 10
"""Each run is compared file by file once in this many sweeps."""
ABANDONED = 3_600_000_000_000
"""Nanoseconds of silence after which only the top folder of a live run is watched."""
_NEW = ""
"""The path that stands for all new, live and just-ended runs of a database."""


class Follower(Protocol):
    """One source that is followed."""

    source: Source
    schedule: Schedule
    failing: str | None
    root: str
    """Where it is on this machine; an event there is about it."""

    def folders(self) -> tuple[list[str], list[str]]:
        """The folders to watch, and further ones if there are watches left."""

    def folders_of(self, paths: Collection[str] | None) -> list[str] | None:
        """More folders to watch after a look at these paths; None if `folders` has to be asked again."""

    def hear(self, path: str, pause: float) -> None:
        """Something happened at a path on this machine: look there in `pause` seconds."""

    def sweep(self, number: int) -> None:
        """Schedule looks at changes that no event reported."""

    def looked(self, paths: Collection[str] | None, ended: float, *, rest: bool) -> None:
        """A look at some paths or everything ended; `rest` if it changed something."""

    @property
    def partly(self) -> bool:
        """Whether it can look at some paths alone."""


class _Base:
    def __init__(self, source: Source, ask: Ask):
        self.source = source
        self.schedule = Schedule()
        self.failing: str | None = None
        self.root = os.path.realpath(source.place)

    def folders(self) -> tuple[list[str], list[str]]:
        return [], []

    def folders_of(self, paths: Collection[str] | None) -> list[str] | None:
        return None

    def sweep(self, number: int) -> None:
        self.schedule.soon(None, time.monotonic())

    @property
    def partly(self) -> bool:
        return self.failing is None


class RefFollower(_Base):
    """Follows the refs of a repository by file events and polling."""

    def folders(self) -> tuple[list[str], list[str]]:
        folders = cast("RefSource", self.source).refs_folders()
        self.root = folders[0].rstrip("/") if folders else self.root
        return folders, []

    def hear(self, path: str, pause: float) -> None:
        if is_within(path, self.root) and not path.endswith(".lock"):
            self.schedule.soon(None, time.monotonic(), pause)

    def looked(self, paths: Collection[str] | None, ended: float, *, rest: bool) -> None:
        self.schedule.looked(paths, ended, rest=rest)
        self.schedule.later(None, ended + POLL)

    @property
    def partly(self) -> bool:
        return False


class RowFollower(_Base):
    """Follows rows of a database: a thread says when to look again, and every tenth sweep looks at all."""

    def hear(self, path: str, pause: float) -> None:
        if is_within(path, self.root):
            self.schedule.soon(_NEW, time.monotonic())

    def sweep(self, number: int) -> None:
        if number % PARTS == 0:
            super().sweep(number)

    def looked(self, paths: Collection[str] | None, ended: float, *, rest: bool) -> None:
        self.schedule.looked(paths, ended, rest=rest)


class FileFollower(_Base):
    """Follows runs on disk: live ones by events, the others by comparing stamps."""

    def __init__(self, source: Source, ask: Ask):
        super().__init__(source, ask)
        self._files = cast("FileSource", source)
        self._stored = Stored(ask, source.name)
        self._live: set[str] = set()

    def folders(self) -> tuple[list[str], list[str]]:
        source = self._files
        self.root = os.path.realpath(source.place)
        live = self._stored.live()
        self._live = {each.run for each in live}
        abandoned = time.time_ns() - ABANDONED
        above = [part.rpartition("/")[0] for part in source.parts()]
        roots = ["", *above, *(path for path in source.searched if "/" not in path)]
        first = [*roots, *(_watched(each.folder) for each in live if each.sign_of_life > abandoned)]
        first += map(_watched, self._stored.just_ended())  # so that a resumed run is noticed at once
        rest = [path for path in source.searched if "/" in path and run_of_overlay(path) is None]
        others = [
            *(_watched(each.run) for each in live if each.run == each.folder),
            *(_watched(self._run_of(path)) for path in self.schedule.retries),
            *rest,
        ]
        return [source.real_path(path) for path in first], [source.real_path(path) for path in others]

    def folders_of(self, paths: Collection[str] | None) -> list[str] | None:
        if paths is None or not all(self._live.intersection(_above(path)[:-1]) for path in paths):
            return None
        found = []
        for path in paths:
            run = next(each for each in _above(path) if each in self._live)
            found += self._stored.folders_below(run, path[len(run) + 1 :].rstrip("/"))
        return [self._files.real_path(path) for path in found]

    def hear(self, path: str, pause: float) -> None:
        now = time.monotonic()
        for inside in self._files.paths_at(path):
            if (run := next((each for each in _above(inside) if each in self._live), None)) is not None:
                self.schedule.soon(_part(run, inside), now, pause, run=run)
                continue
            for about in self._about(inside):
                self.schedule.soon(about, now, pause)

    def _about(self, path: str) -> Iterator[str | None]:
        """The runs or folders that an event at a path is about; None for the whole source."""
        if not path:
            yield None
            return
        above = _above(path)
        for each in above[-2:]:
            if (run := run_of_overlay(each)) is not None:
                yield run
        try:
            about = self._files.about(path)
        except SourceError:
            yield None
            return
        if about is not None:
            yield about

    def looked(self, paths: Collection[str] | None, ended: float, *, rest: bool) -> None:
        places = None if paths is None else {self._run_of(path) for path in paths}
        self.schedule.looked(places, ended, rest=rest)
        if self.failing is not None:
            self.schedule.later(None, ended + POLL)
            return
        unread = self._unreadable() | self._young(places or ())
        of = {*unread, *self.schedule.retries}
        looked = None if paths is None else {each for each in of if any(is_within(each, path) for path in paths)}
        self.schedule.retry(unread, looked, ended)

    def _run_of(self, path: str) -> str:
        """The run that a path is a part of, or the path."""
        return next((run for run in _above(path.rstrip("/")) if self._stored.knows(run)), path)

    def _unreadable(self) -> set[str]:
        """Where to retry because something cannot be read: parts of runs, or places where runs may be."""
        found = set()
        for path in self._stored.unreadable():
            run = self._run_of(path)
            if run != path:
                found.add(_part(run, path))
                continue
            with suppress(SourceError):
                found.add(self._files.about(path) or path)
        return found

    def _young(self, paths: Collection[str]) -> set[str]:
        """The paths that may be runs too young to be recognised."""
        new = (path for path in paths if path not in self._files.searched)
        return {path for path in new if os.path.isdir(f"{self.root}/{path}") and not self._stored.knows(path)}

    def sweep(self, number: int) -> None:
        if not self._stored.is_readable() or not os.path.isdir(self.root):
            super().sweep(number)
            return
        now, known = time.monotonic(), self._stored.top_stamps()
        for path, stamps in known.items():
            mine = zlib.crc32(path.encode()) % PARTS == number % PARTS
            if mine or any(_stamp(f"{self.root}/{name}") != stamp for name, stamp in stamps):
                self.schedule.soon(path, now)
        for part in self._files.parts():
            if part not in self._files.searched and part not in known and os.path.isdir(f"{self.root}/{part}"):
                self.schedule.soon(part or None, now)
        for folder, stamp in self._files.searched.items():
            if _stamp(f"{self.root}/{folder}") != stamp:
                inside = _folders(self.root, folder)
                new = [path for path in inside if path not in known and path not in self._files.searched]
                for path in new if inside else [folder]:
                    self.schedule.soon(path or None, now)


_FOLLOWERS: dict[str, Callable[[Source, Ask], Follower]] = {
    "files": FileFollower,
    "refs": RefFollower,
    "rows": RowFollower,
}


def follower(source: Source, ask: Ask) -> Follower:
    """How a source is followed; `ask` queries the index."""
    return _FOLLOWERS[source.wakes](source, ask)


def _part(run: str, path: str) -> str:
    """The entry directly inside a run that is, or contains, a path."""
    return "/".join(path.split("/")[: run.count("/") + 2])


def _above(path: str) -> list[str]:
    """A path's parent folders and the path itself, outermost first."""
    return [path[:at] for at, character in enumerate(f"{path}/") if character == "/"]


def _watched(path: str) -> str:
    """The folder to watch for a run; for a file its parent, since each version replaces the file."""
    above, _, name = path.rpartition("/")
    return above if is_run_file(name) else path


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
