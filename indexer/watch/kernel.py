"""Events of single folders: by inotify where the kernel has it, else by watchdog's observers.

Watchdog's observers take a thread per folder and hide inotify queue overflow, so inotify is read through the layer
below, watchdog's `InotifyFD`, which has a single thread.
"""

import errno
import os
import sys
from collections.abc import Callable
from typing import Protocol

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

Happened = Callable[[str, bool], None]
"""Takes a changed path, and whether the change is complete: a file may still be being written."""


class Kernel(Protocol):
    """Watches of single folders, which call back from another thread."""

    most: int
    """The most watches at a time."""

    def watch(self, folder: str) -> int:
        """Watch a folder; the number of the watch. Raises OSError when the kernel refuses."""

    def unwatch(self, number: int) -> None:
        """Stop this watch."""

    def ended(self) -> set[int]:
        """The watches that ended since the last call because their folders are gone."""

    def close(self) -> None:
        """Stop all watches."""


def kernel(happened: Happened, lost: Callable[[], None]) -> Kernel:
    """This machine's Kernel; `lost` is called when events were dropped. Raises OSError when the kernel refuses."""
    return _Inotify(happened, lost) if sys.platform == "linux" else Observed(happened)


if sys.platform == "linux":
    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyConstants,
        InotifyEvent,
        InotifyFD,
        Mask,
        WatchDescriptor,
    )

    class _Inotify:
        """A `WatchCallback`. Skips opened and closed-no-write: our own reads cause them."""

        most = 8192
        _MASK = Mask(
            InotifyConstants.IN_CREATE
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_DELETE_SELF
            | InotifyConstants.IN_MOVED_FROM
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_MODIFY
            | InotifyConstants.IN_ATTRIB
            | InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_DONT_FOLLOW
        )
        _UNDONE = InotifyConstants.IN_CREATE | InotifyConstants.IN_MODIFY | InotifyConstants.IN_ATTRIB

        def __init__(self, happened: Happened, lost: Callable[[], None]):
            self._happened, self._lost = happened, lost
            self._folders: dict[int, bytes] = {}
            self._ended: set[int] = set()
            self._reader = InotifyFD()
            self._reader.start()

        def watch(self, folder: str) -> int:
            path = os.fsencode(folder)
            number = self._reader.add_callback(path, self._MASK, self, CallbackId(0))
            if number < 0:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
            self._folders[number] = path
            self._ended.discard(number)  # the kernel may reuse a number
            return number

        def unwatch(self, number: int) -> None:
            if self._folders.pop(number, None) is not None:
                self._reader.remove_callbacks([(WatchDescriptor(number), CallbackId(0))])

        def ended(self) -> set[int]:
            return {self._ended.pop() for _ in range(len(self._ended))}

        def close(self) -> None:
            self._reader.stop()
            self._reader.join(1)

        def on_event(self, event: InotifyEvent) -> None:
            folder = self._folders.get(event.wd)
            if folder is not None:
                undone = not event.is_directory and event.mask & self._UNDONE
                self._happened(os.fsdecode(folder + b"/" + event.name if event.name else folder), not undone)

        def on_watch_deleted(self, wd: WatchDescriptor) -> None:
            if self._folders.pop(wd, None) is not None:
                self._ended.add(wd)

        def on_queue_overflow(self) -> None:
            self._lost()


class Observed(events.FileSystemEventHandler):
    """Watchdog's observer of this platform, which polls if it has no event API."""

    most = 256  # each is a thread

    def __init__(self, happened: Happened, observer: Callable[[], BaseObserver] = Observer):
        self._happened = happened
        self._watches: dict[int, ObservedWatch] = {}
        self._ended: set[int] = set()
        self._numbers = 0
        self._observer = observer()
        self._observer.start()

    def watch(self, folder: str) -> int:
        self._numbers += 1
        self._watches[self._numbers] = self._observer.schedule(self, folder, recursive=False)
        return self._numbers

    def unwatch(self, number: int) -> None:
        self._observer.unschedule(self._watches.pop(number))

    def ended(self) -> set[int]:
        return {self._ended.pop() for _ in range(len(self._ended))}

    def close(self) -> None:
        self._observer.stop()
        self._observer.join(1)

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        if isinstance(event, events.FileOpenedEvent | events.FileClosedNoWriteEvent):
            return  # our own reading causes them
        if isinstance(event, events.DirDeletedEvent | events.FileDeletedEvent):
            self._ended.update(number for number, each in list(self._watches.items()) if each.path == event.src_path)
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)} - {""}:
            self._happened(path, not isinstance(event, events.FileCreatedEvent | events.FileModifiedEvent))
