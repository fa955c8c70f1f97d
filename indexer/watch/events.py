"""Watches folders and reports only the paths of events, not what happened.

Events only say *look*; a look finds what changed. Each watch is for one folder alone, since a recursive one puts a
kernel watch on every folder below. If the kernel's event queue overflows, `lost` is called.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from indexer import interrupts
from indexer.watch.kernel import Happened, Kernel, kernel

LIMITS = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The kernel's errors when it is out of watches."""
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
"""Seconds until refused watches are retried."""


class Watches:
    """The watched folders; `happened` and `lost` are called from another thread."""

    def __init__(self, happened: Happened, lost: Callable[[], None]):
        self._happened, self._lost = happened, lost
        self._kernel: Kernel | None = None
        self._watched: dict[str, tuple[int, tuple[int, int]]] = {}
        self._try_again, self._pause = 0.0, _FIRST_PAUSE
        self.refused = ""

    def __enter__(self) -> "Watches":
        try:
            self._kernel = kernel(self._happened, self._lost)
        except OSError as error:
            self.refused = f"{error.strerror or error}"
        return self

    def __exit__(self, *_: object) -> None:
        if self._kernel is not None:
            self._kernel.close()

    def follow(self, folders: Iterable[str]) -> list[str]:
        """Watch these folders and no others; only the first ones if there are too many.

        Returns the newly watched ones. A folder that was recreated or replaced counts as new. One that the kernel
        refuses to watch is not among them, since nothing happened there; it is retried with back-off, up to an hour.
        """
        if self._kernel is None:
            return []
        self._drop_ended()
        there = _identities(folders)
        chosen = dict(list(there.items())[: self._kernel.most])
        self._drop_others({folder: chosen.get(folder) for folder in self._watched})
        if time.monotonic() < self._try_again:
            return []
        self.refused = f"more than {self._kernel.most} folders" if len(there) > len(chosen) else ""
        new, refused = self._watch(chosen)
        if not refused:
            self._pause = _FIRST_PAUSE
        return new

    def follow_more(self, folders: Iterable[str]) -> list[str]:
        """Watch these folders too; returns the new ones like `follow`."""
        if self._kernel is None:
            return []
        there = _identities([*self._drop_ended(), *folders])
        self._drop_others({folder: identity for folder, identity in there.items() if folder in self._watched})
        new = {folder: identity for folder, identity in there.items() if folder not in self._watched}
        room = self._kernel.most - len(self._watched)
        if len(new) > room:
            self.refused = f"more than {self._kernel.most} folders"
        return self._watch(dict(list(new.items())[:room]))[0] if time.monotonic() >= self._try_again else []

    def _drop_ended(self) -> list[str]:
        """Forget the watches of folders that are gone; returns their paths."""
        assert self._kernel is not None
        ended = self._kernel.ended()
        gone = [folder for folder, (number, _) in self._watched.items() if number in ended]
        for folder in gone:
            del self._watched[folder]
        return gone

    def _drop_others(self, identities: Mapping[str, tuple[int, int] | None]) -> None:
        """Stop watching those of these folders that were replaced or are gone."""
        assert self._kernel is not None
        for folder, identity in identities.items():
            number, watched = self._watched[folder]
            if watched != identity:
                del self._watched[folder]
                self._kernel.unwatch(number)

    def _watch(self, folders: Mapping[str, tuple[int, int]]) -> tuple[list[str], bool]:
        """Watch the folders that are not watched yet. Returns these, and whether the kernel refused any."""
        assert self._kernel is not None
        new: list[str] = []
        for folder in [folder for folder in folders if folder not in self._watched]:
            try:
                number = self._kernel.watch(folder)
            except OSError as error:
                if error.errno not in LIMITS:
                    continue  # gone or unreadable; the look there reports it
                self.refused = f"{error.strerror or error}"
                self._try_again = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                return new, True
            self._watched[folder] = number, folders[folder]
            new.append(folder)
        return new, False


def _identities(folders: Iterable[str]) -> dict[str, tuple[int, int]]:
    return {folder: identity for folder in dict.fromkeys(folders) if (identity := _identity(folder))}


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Mailbox:
    """Hands paths with events from the watching threads to the one that looks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paths: dict[str, bool] = {}
        self._lost = False

    def put(self, path: str, done: bool) -> None:
        """Hand over a path; `done` says that the change is complete (see `kernel.Happened`)."""
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
