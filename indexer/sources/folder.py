"""Runs in folders on disk.

Every pass walks the tree down to the run folders and stats the files that rows are read from; a file is
opened only when its stamp (size, mtime, ctime, inode) differs from the one it was read under. Links are
never followed and only regular files are opened, so nothing outside the source is read and nothing blocks.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from indexer.errors import SourceError
from indexer.formats import Unreadable, recognise
from indexer.sources import DEEPEST, Change, Found, Known, Same, Stamp, Swept, Trouble, walkable

PARTS = ("jobs", "results", ".agentv/results")
"""Where a project keeps runs: Pier and Harbor, copilot-experiments, AgentV."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class DiskFolder:
    """A directory as a Folder. `real` is its path on disk, `path` the one inside its source."""

    def __init__(self, root: str, real: str, path: str):
        self._root, self.real, self.path = root, real, path
        self.ref: str | None = None

    def files(self) -> Collection[str]:
        return self._entries[0]

    def folders(self) -> Collection[str]:
        return self._entries[1]

    def find(self, path: str) -> "DiskFolder | None":
        folder = self
        for name in path.split("/") if path else []:
            real = folder._entries[1].get(name)
            if real is None:
                return None
            folder = DiskFolder(self._root, f"{folder.real}/{real}", f"{folder.path}/{name}" if folder.path else name)
        return folder

    def elsewhere(self, path: str) -> "DiskFolder | None":
        return DiskFolder(self._root, self._root, "").find(path)

    def read(self, path: str, limit: int) -> bytes | None:
        real = self._file(path)
        if real is None:
            return None
        try:
            handle = os.open(real, _OPEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(path, "denied", _why(error)) from None
        try:
            return _read_regular(handle, path, limit)
        except OSError as error:
            raise Unreadable(path, "denied", _why(error)) from None
        finally:
            os.close(handle)

    def stamp(self, path: str) -> Stamp | None:
        """The stamp of a file inside, without opening it; None if there is none."""
        real = self._file(path)
        try:
            return None if real is None else stamp_of(os.lstat(real))
        except OSError:
            return None

    def _file(self, path: str) -> str | None:
        parent, _, name = path.rpartition("/")
        folder = self.find(parent)
        real = folder._entries[0].get(name) if folder else None
        return None if folder is None or real is None else f"{folder.real}/{real}"

    @cached_property
    def _entries(self) -> tuple[dict[str, str], dict[str, str]]:
        """Real names of the regular files and of the folders inside, by their names as text. Raises Unreadable."""
        files: dict[str, str] = {}
        folders: dict[str, str] = {}
        try:
            with os.scandir(self.real) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders[_text(entry.name)] = entry.name
                    elif not entry.is_symlink():
                        files[_text(entry.name)] = entry.name
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise Unreadable(self.path, "denied", _why(error)) from None
        return files, folders


class FolderSource:
    """The runs in a project (its `jobs/`, `results/` and `.agentv/results/`), or in one such folder."""

    kind = "folder"

    def __init__(self, name: str, path: Path):
        self.name = name
        self.place = str(path)

    def open(self) -> None:
        try:
            os.scandir(self.place).close()
        except FileNotFoundError:
            raise SourceError(f"{self.place} does not exist") from None
        except NotADirectoryError:
            raise SourceError(f"{self.place} is no folder") from None
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {_why(error)}") from None

    def has_runs(self) -> bool:
        """Whether it has a folder in which tools keep runs."""
        return any((Path(self.place) / part).is_dir() for part in PARTS)

    def changes(self, known: Known) -> Iterator[Change]:
        root = DiskFolder(self.place, os.path.realpath(self.place), "")
        for part in self._parts():
            folder = root.find(part)
            if folder is not None:
                yield from self._walk(folder, known)
        yield Swept(None)

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            root = os.path.realpath(self.place)
            folder = DiskFolder(root, root, "").find(path) if path else None
            return _found(folder) if folder is not None else None
        except Unreadable:
            return None

    def _parts(self) -> tuple[str, ...]:
        """The parts of a project; the place itself where it is one of them."""
        place = Path(self.place)
        if any((place / mark).exists() for mark in (".agentv", ".git", "indexer.toml")):
            return PARTS
        if place.name in PARTS or not any((place / part).is_dir() for part in PARTS):
            return ("",)
        return PARTS

    def _walk(self, folder: DiskFolder, known: Known) -> Iterator[Change]:
        try:
            found = _found(folder) if folder.path else None
            below = sorted(folder.folders()) if found is None else []
        except Unreadable as error:
            yield Trouble(None, folder.path, error.kind, error.message)
            return
        if found is not None:
            stamps = known.stamps(folder.path)
            unchanged = bool(stamps) and stamps == found.stamps
            yield Same(None, folder.path) if unchanged else found
        elif folder.path.count("/") >= DEEPEST:
            yield Trouble(None, folder.path, "too-deep", f"folders below {DEEPEST} levels are not looked into")
        else:
            for name in below:
                child = folder.find(name) if walkable(name) else None
                if child is not None:
                    yield from self._walk(child, known)


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _found(folder: DiskFolder) -> Found | None:
    form = recognise(folder)
    if form is None:
        return None
    stamps = {name: stamp for name in form.inputs(folder) if (stamp := folder.stamp(name))}
    overlay = form.overlay(folder.path)
    over = folder.elsewhere(overlay) if overlay else None
    if over is not None:
        stamps |= {f"//{overlay}/{name}": stamp for name in over.files() if (stamp := over.stamp(name))}
    return Found(None, folder.path, _digest(stamps), folder, form, stamps)


def _digest(stamps: Mapping[str, Stamp]) -> str:
    return f"{len(stamps)} files, {sum(stamp.size for stamp in stamps.values())} bytes"


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
    """A file name as text that any database takes: bytes that are no UTF-8 are written as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
