"""Events of single folders: by inotify where the kernel has it, else by watchdog's observers.

Watchdog's observers take a thread for each folder and do not say when the kernel dropped events, so inotify is read
below them, with the one thread of its `InotifyFD`.
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
"""Takes the path of what changed, and whether that is done: a file may be in the middle of being written."""


class Kernel(Protocol):
    """Watches of single folders, which call back from another thread."""

    most: int
    """Watches at the same time."""

    def watch(self, folder: str) -> int:
        """Watch a folder; the number of the watch. Raises OSError when the kernel refuses."""

    def unwatch(self, number: int) -> None:
        """Watch it no more."""

    def ended(self) -> set[int]:
        """The watches that ended since this was asked last: their folders went."""

    def close(self) -> None:
        """Watch nothing more."""


def kernel(happened: Happened, lost: Callable[[], None]) -> Kernel:
    """What this machine has; `lost` is called when events were dropped. Raises OSError when the kernel refuses."""
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
        """A `WatchCallback`. Opened and closed-no-write are left out: our own reading causes them."""

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
            self._ended.discard(number)  # the kernel may give a number again
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
    """Watchdog's observer of this platform, which polls where there is no other."""

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
