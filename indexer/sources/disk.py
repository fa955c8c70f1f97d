"""Directories on disk as folders, and the targets of symlinks in them.

A link is followed if it leads to a folder or regular file of the user who made it; the same limits apply to its target
as to any other file. Any other link (into a loop, to a device, to another user's files, behind several links, nowhere)
counts as an unreadable file, so that it is reported.
"""

import os
import stat
from collections.abc import Collection
from functools import cached_property
from typing import IO

from indexer.changes import Stamp, is_within
from indexer.errors import SourceError
from indexer.protocols import Unreadable

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LINKS_IN_A_PATH = 2
"""The most followed links above another: folders that link to each other would be walked in every order."""


class Snapshot:
    """A consistent view of a source's tree: each path is looked up only once.

    `tops` are the paths at which walks begin; if two lead to one place, the first one counts. `found` has the real path
    and status by path inside the source, None if nothing is there. `links` has the real paths of linked folders,
    `refused` says why other links are not followed.
    """

    def __init__(self, root: str, tops: Collection[str] = ("",)):
        self.found: dict[str, tuple[str, os.stat_result] | None] = {"": (root, os.lstat(root))}
        self.links: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._tops = tops
        self._within: str | None = None

    def closed(self, path: str) -> "Snapshot":
        """A new snapshot below `path`, in which no link may lead outside."""
        snapshot = self.again(path)
        found = snapshot.found[path]
        snapshot._within = found[0] if found else None
        return snapshot

    def again(self, path: str) -> "Snapshot":
        """A new snapshot below `path`, which this one has found."""
        snapshot = object.__new__(Snapshot)
        above = [path[:at] for at, character in enumerate(path) if character == "/"]
        snapshot.found = {each: self.found[each] for each in ("", *above, path)}
        snapshot.links, snapshot.refused, snapshot._tops = self.links, self.refused, self._tops
        snapshot._within = self._within
        return snapshot

    def status(self, path: str) -> tuple[str, os.stat_result] | None:
        """Real path and status at a path; for a followed link, those of its target. Raises Unreadable."""
        if path not in self.found:
            parent, _, name = path.rpartition("/")
            above = self.status(parent)
            inside = above is not None and stat.S_ISDIR(above[1].st_mode)
            entry = _child(above[0], name, path) if above and inside else None
            self.found[path] = self._followed(path, *entry) if entry and stat.S_ISLNK(entry[1].st_mode) else entry
        return self.found[path]

    def _followed(self, path: str, link: str, status: os.stat_result) -> tuple[str, os.stat_result] | None:
        try:
            target = os.path.realpath(link, strict=True)
            there = os.stat(target)
        except OSError as error:
            self.refused[path] = f"a link that leads nowhere: {why(error)}"
            return link, status
        if stat.S_ISDIR(there.st_mode):
            refused = (
                "the folders that it lies in" if any(is_within(each, target) for each in self._above(path)) else ""
            )
            if not refused and sum(path.startswith(f"{link}/") for link in self.links) >= _LINKS_IN_A_PATH:
                refused = "a folder behind several other links"
            if target in self._walked(path):
                return None
        else:
            refused = "" if stat.S_ISREG(there.st_mode) else "what is neither a folder nor a regular file"
        if self._within is not None and not is_within(target, self._within):
            refused = "what lies outside of the run"
        if there.st_uid not in {status.st_uid, os.geteuid() or status.st_uid}:  # being root must not open others' files
            refused = "what belongs to another user"
        if refused:
            self.refused[path] = f"a link to {refused} is not followed"
            return link, status
        if stat.S_ISDIR(there.st_mode):
            self.links[path] = target
        return target, there

    def _above(self, path: str) -> list[str]:
        """The real paths of a path's parent folders, starting with the source's own."""
        ends = [at for at, character in enumerate(path) if character == "/"]
        return [found[0] for each in ("", *(path[:at] for at in ends)) if (found := self.found[each])]

    def _walked(self, path: str) -> list[str]:
        """The real paths of the tops before this one."""
        root, tops = self._above("")[0], list(self._tops)
        return [os.path.realpath(f"{root}/{top}") for top in tops[: tops.index(path) if path in tops else 0]]

    def refusal(self, path: str) -> str | None:
        """Why a link at a path or above it was not followed."""
        above = [path[:at] for at, character in enumerate(f"{path}/") if character == "/"]
        return next((self.refused[each] for each in above if each in self.refused), None)


class DiskFolder:
    """A directory as a Folder, seen through a snapshot. `path` is inside its source."""

    def __init__(self, snapshot: Snapshot, path: str):
        self.snapshot, self.path = snapshot, path
        self.ref: str | None = None

    @property
    def real(self) -> str:
        """Its real path on this machine."""
        found = self.snapshot.found[self.path]
        assert found is not None
        return found[0]

    @property
    def status(self) -> os.stat_result:
        """The folder's own stat result."""
        found = self.snapshot.found[self.path]
        assert found is not None
        return found[1]

    def files(self) -> Collection[str]:
        return self._entries[0]

    def folders(self) -> Collection[str]:
        return self._entries[1]

    def find(self, path: str) -> "DiskFolder | None":
        found = self._locate(path)
        if found is None or not stat.S_ISDIR(found[1].st_mode):
            return None
        return DiskFolder(self.snapshot, joined(self.path, path))

    def elsewhere(self, path: str) -> "DiskFolder | None":
        return DiskFolder(self.snapshot, "").find(path)

    def size(self, path: str) -> int | None:
        found = self._locate(path)
        return None if found is None or not _is_file(found[1]) else found[1].st_size

    def stamp(self, path: str) -> Stamp | None:
        """The stamp of a file inside, without opening it; None if there is none."""
        found = self._locate(path)
        return None if found is None or not _is_file(found[1]) else stamp_of(found[1])

    def searched(self) -> dict[str, Stamp]:
        """The stamps of the searched folders, by name: its own (the empty name) and those below it."""
        return {
            f"{path}/"[len(self.path) + 1 :]: stamp_of(found[1])
            for path, found in self.snapshot.found.items()
            if found and stat.S_ISDIR(found[1].st_mode) and is_within(path, self.path)
        }

    def read(self, path: str, limit: int) -> bytes | None:
        found = self._locate(path)
        if found is None or not _is_file(found[1]):
            if "_entries" in self.__dict__ and path in self.files():
                raise Unreadable(path, "vanished", "it vanished while the folder was read")
            return None
        if not stat.S_ISREG(found[1].st_mode):
            refused = self.snapshot.refused.get(joined(self.path, path))
            raise Unreadable(path, "link" if refused else "not-a-file", refused or "not a regular file")
        try:
            handle = os.open(found[0], _OPEN)
            try:
                return _read_regular(handle, path, limit)
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise Unreadable(path, "vanished", "it vanished while the folder was read") from None
        except OSError as error:
            raise Unreadable(path, "denied", why(error)) from None

    def open(self, path: str) -> IO[bytes] | None:
        found = self._locate(path)
        if found is None or not _is_file(found[1]):
            return None
        if not stat.S_ISREG(found[1].st_mode):
            raise Unreadable(path, "not-a-file", "not a regular file")
        try:
            handle = os.open(found[0], _OPEN)
        except OSError as error:
            kind = "vanished" if isinstance(error, FileNotFoundError) else "denied"
            raise Unreadable(path, kind, why(error)) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Unreadable(path, "not-a-file", "not a regular file")
        return os.fdopen(handle, "rb")

    def _locate(self, path: str) -> tuple[str, os.stat_result] | None:
        whole = f"{self.path}/{path}" if self.path and path else self.path or path
        try:
            return self.snapshot.found[whole]
        except KeyError:
            pass
        try:
            return self.snapshot.status(whole)
        except Unreadable as error:
            raise Unreadable(path, error.kind, error.message) from None

    @cached_property
    def _entries(self) -> tuple[set[str], set[str]]:
        """Names of the files and of the folders inside. Raises Unreadable."""
        files: set[str] = set()
        folders: set[str] = set()
        found = self.snapshot.status(self.path)
        if found is None:
            return files, folders
        try:
            with os.scandir(found[0]) as entries:
                for entry in entries:
                    name = _text(entry.name)
                    if entry.is_symlink():
                        linked = self.snapshot.status(joined(self.path, name))
                        if linked is not None:
                            (folders if stat.S_ISDIR(linked[1].st_mode) else files).add(name)
                    else:
                        (folders if entry.is_dir(follow_symlinks=False) else files).add(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise Unreadable(self.path, "denied", why(error)) from None
        return files, folders


def root_folder(place: str, tops: Collection[str] = ("",)) -> DiskFolder:
    """The folder of a source in a new snapshot. Raises SourceError."""
    try:
        return DiskFolder(Snapshot(os.path.realpath(place), tops), "")
    except OSError as error:
        raise SourceError(f"{place} cannot be opened: {why(error)}") from None


def _is_file(status: os.stat_result) -> bool:
    """Whether it is not a folder; pipes, devices and unfollowed links count as unreadable files."""
    return not stat.S_ISDIR(status.st_mode)


def _child(folder: str, name: str, path: str) -> tuple[str, os.stat_result] | None:
    """Real path and status of an entry, whose name is text (see `_text`); None if there is none. Raises Unreadable."""
    if name in ("", ".", "..") or "\0" in name:
        return None
    try:
        try:
            return f"{folder}/{name}", os.lstat(f"{folder}/{name}")
        except FileNotFoundError:
            if "\\x" not in name:
                return None
        real = next((entry for entry in os.listdir(folder) if _text(entry) == name), None)
        return None if real is None else (f"{folder}/{real}", os.lstat(f"{folder}/{real}"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(path, "denied", why(error)) from None


def joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _read_regular(handle: int, path: str, limit: int) -> bytes:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(path, "not-a-file", "not a regular file")
    if status.st_size > limit:
        raise Unreadable(path, "too-large", f"{status.st_size:,} bytes are more than the {limit:,} that are read")
    parts, left = [], limit + 1
    while left and (part := os.read(handle, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise Unreadable(path, "too-large", f"it grew beyond the {limit:,} bytes that are read")
    return b"".join(parts)


def _text(name: str) -> str:
    """A file name as text that any database takes: bytes that are not UTF-8 are written as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
