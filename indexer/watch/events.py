"""Watches on folders: which of them something happened in, and nothing else.

Events only say *look*; what changed is found by looking. Every watch is for one folder alone, since a recursive
one puts a kernel watch on every folder below. The kernel may drop events when too many come at once, and
watchdog then only logs it: `lost` tells.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from indexer import interrupts

MOST = 256
"""Watches at the same time: each is a thread."""

_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
"""Seconds until the kernel is asked again for what it refused."""

# without opened and closed-no-write, which our own reading causes
_EVENTS: list[type[events.FileSystemEvent]] = [
    events.DirCreatedEvent,
    events.DirDeletedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileDeletedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
]
_LOGGER = logging.getLogger("watchdog.observers.inotify_c")


class Watches(events.FileSystemEventHandler):
    """The watched folders; `happened` is called from another thread.

    It gets the path of what changed, and whether that is done: a file that was created or written to may be in
    the middle of it, and is done when it is closed.
    """

    def __init__(self, happened: Callable[[str, bool], None], lost: Callable[[], None]):
        self._happened = happened
        self._observer: BaseObserver | None = None
        self._watched: dict[str, tuple[ObservedWatch, tuple[int, int]]] = {}
        self._gone: set[str] = set()
        self._overflow = _Overflow(lost)
        self._try_again, self._pause = 0.0, _FIRST_PAUSE
        self.refused = ""

    def __enter__(self) -> "Watches":
        _LOGGER.addHandler(self._overflow)
        try:
            self._observer = Observer()
            self._observer.start()
        except OSError as error:
            self._observer, self.refused = None, f"{error.strerror or error}"
        return self

    def __exit__(self, *_: object) -> None:
        _LOGGER.removeHandler(self._overflow)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(1)

    def follow(self, folders: Iterable[str]) -> list[str]:
        """Watch these folders, the first of them where there are too many. Returns those that are watched from now on.

        A folder that was removed and made again, or replaced, counts as new. One that the kernel refuses to watch is
        not told, since nothing happened there; it is tried again after a pause that doubles up to an hour.
        """
        there = {folder: identity for folder in dict.fromkeys(folders) if (identity := _identity(folder))}
        identities = dict(list(there.items())[:MOST])
        gone = {self._gone.pop() for _ in range(len(self._gone))}
        for folder, (watch, identity) in list(self._watched.items()):
            if identities.get(folder) != identity or folder in gone:
                del self._watched[folder]
                if self._observer is not None:
                    self._observer.unschedule(watch)
        if self._observer is None or time.monotonic() < self._try_again:
            return []
        new: list[str] = []
        for folder in [folder for folder in identities if folder not in self._watched]:
            try:
                watch = self._observer.schedule(self, folder, recursive=False, event_filter=_EVENTS)
            except OSError as error:  # the kernel's limits
                self.refused = f"{error.strerror or error}"
                self._try_again = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                return new
            self._watched[folder] = watch, identities[folder]
            new.append(folder)
        self.refused, self._pause = f"more than {MOST} folders" if len(there) > MOST else "", _FIRST_PAUSE
        return new

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        gone = isinstance(event, events.DirDeletedEvent | events.FileDeletedEvent)
        if gone and os.fsdecode(event.src_path) in self._watched:
            self._gone.add(os.fsdecode(event.src_path))  # the kernel forgets it, and may give its number to another
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)} - {""}:
            self._happened(path, not isinstance(event, events.FileCreatedEvent | events.FileModifiedEvent))


class _Overflow(logging.Handler):
    """Hears of events that the kernel dropped, which watchdog tells nobody but its log."""

    def __init__(self, lost: Callable[[], None]):
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._lost()


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Mailbox:
    """Paths that something happened to, handed from the threads of watches to the one that looks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paths: dict[str, bool] = {}
        self._lost = False

    def put(self, path: str, done: bool) -> None:
        with self._changed:
            self._paths[path] = done or self._paths.get(path, False)
            self._changed.notify()

    def lose(self) -> None:
        """Events were dropped: everything has to be looked at."""
        with self._changed:
            self._lost = True
            self._changed.notify()

    def wait(self, seconds: float) -> tuple[dict[str, bool], bool]:
        """Paths since the last call and whether they are done; whether events were dropped. Waits for the first."""
        with self._changed:
            left = seconds
            while not (self._paths or self._lost or interrupts.requested()) and left > 0:
                self._changed.wait(min(left, 0.5))  # signals are handled between two waits
                left -= 0.5
            paths, self._paths = self._paths, {}
            lost, self._lost = self._lost, False
            return paths, lost
