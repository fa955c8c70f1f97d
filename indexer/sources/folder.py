"""Runs in folders on disk.

Every pass walks the tree down to the run folders. A run is known by the stamps (size, mtime, ctime, inode) of
the files that its rows were read from and of the folders that were searched for them: if all are the same, no
name can have come or gone and nothing is listed or opened. Links are never followed and only regular files are
opened, so nothing outside the source is read and nothing blocks.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from indexer.changes import ABSENT, Change, Found, Gone, Known, Same, Stamp, Swept, Trouble, is_within
from indexer.errors import SourceError
from indexer.formats import ANCHORS, recognise
from indexer.protocols import Unreadable
from indexer.sources import DEEPEST, walkable

PARTS = ("jobs", "results", ".agentv/results")
"""Where a project keeps runs: Pier and Harbor, copilot-experiments, AgentV."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Look:
    """One look at the tree of a source: each path is asked for once, so that its parts fit together.

    `found` has the real path and status by the path inside the source; None where nothing is.
    """

    def __init__(self, root: str):
        self.found: dict[str, tuple[str, os.stat_result] | None] = {"": (root, os.lstat(root))}

    def again(self, path: str) -> "Look":
        """A look that begins anew below `path`, which it has found."""
        look = object.__new__(Look)
        look.found = {"": self.found[""], path: self.found[path]}
        return look

    def status(self, path: str) -> tuple[str, os.stat_result] | None:
        """What lies at a path, no link on the way. Raises Unreadable."""
        if path not in self.found:
            parent, _, name = path.rpartition("/")
            above = self.status(parent)
            inside = above is not None and stat.S_ISDIR(above[1].st_mode)
            self.found[path] = _child(above[0], name, path) if above and inside else None
        return self.found[path]


class DiskFolder:
    """A directory as a Folder, as a look found it. `path` is the one inside its source."""

    def __init__(self, look: Look, path: str):
        self.look, self.path = look, path
        self.ref: str | None = None

    @property
    def status(self) -> os.stat_result:
        """What the look found of the folder itself."""
        found = self.look.found[self.path]
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
        return DiskFolder(self.look, _joined(self.path, path))

    def elsewhere(self, path: str) -> "DiskFolder | None":
        return DiskFolder(self.look, "").find(path)

    def size(self, path: str) -> int | None:
        found = self._locate(path)
        return None if found is None or not _is_file(found[1]) else found[1].st_size

    def stamp(self, path: str) -> Stamp | None:
        """The stamp of a file inside, without opening it; None if there is none."""
        found = self._locate(path)
        return None if found is None or not _is_file(found[1]) else stamp_of(found[1])

    def read(self, path: str, limit: int) -> bytes | None:
        found = self._locate(path)
        if found is None or not _is_file(found[1]):
            if path in self.files():
                raise Unreadable(path, "vanished", "it went while the folder was read")
            return None
        if not stat.S_ISREG(found[1].st_mode):
            raise Unreadable(path, "not-a-file", "not a regular file")
        try:
            handle = os.open(found[0], _OPEN)
            try:
                return _read_regular(handle, path, limit)
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise Unreadable(path, "vanished", "it went while the folder was read") from None
        except OSError as error:
            raise Unreadable(path, "denied", _why(error)) from None

    def _locate(self, path: str) -> tuple[str, os.stat_result] | None:
        try:
            return self.look.status(_joined(self.path, path))
        except Unreadable as error:
            raise Unreadable(path, error.kind, error.message) from None

    @cached_property
    def _entries(self) -> tuple[set[str], set[str]]:
        """Names of the files and of the folders inside. Raises Unreadable."""
        files: set[str] = set()
        folders: set[str] = set()
        found = self.look.status(self.path)
        if found is None:
            return files, folders
        try:
            with os.scandir(found[0]) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.add(_text(entry.name))
                    elif not entry.is_symlink():
                        files.add(_text(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise Unreadable(self.path, "denied", _why(error)) from None
        return files, folders


class FolderSource:
    """The runs in a project (its `jobs/`, `results/` and `.agentv/results/`), or in one such folder."""

    kind = "folder"
    web_url: str | None = None

    def __init__(self, name: str, path: Path):
        self.name = name
        self.place = str(path)
        self.searched: dict[str, Stamp] = {}
        """The folders, no runs themselves, in which the last passes looked for runs, as they were then."""
        self._identity: tuple[int, int] | None = None
        self._walked: tuple[str, ...] = ()

    def open(self) -> None:
        try:
            os.scandir(self.place).close()
            self._identity = self._now()
        except FileNotFoundError:
            raise SourceError(f"path {self.place} does not exist") from None
        except NotADirectoryError:
            raise SourceError(f"path {self.place} is no folder") from None
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {_why(error)}") from None

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.place)
        return status.st_dev, status.st_ino

    def has_runs(self) -> bool:
        """Whether it has a folder in which tools keep runs."""
        places = [f"{self.place}/{part}" for part in PARTS]
        # results/ is where an index lies, too
        return any(os.path.isdir(p) and (p != places[1] or _has_folders(p)) for p in places)

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        parts = self.parts()
        if paths is None or parts != self._walked:
            self.searched.clear()
            self._walked = parts
            for part in parts:
                yield from self._walk_at(part, known)
            self._require_place()
            yield Swept(None)
            return
        for path in sorted({about for path in paths if (about := self.about(path)) is not None}):
            yield from self._walk_at(path, known)

    def about(self, path: str) -> str | None:
        """Where to look when something happened at a path: the run that it belongs to, or the folder; None for nowhere.

        For a file among runs that is nowhere, for what lies above the runs it is where they begin.
        """
        parts = self.parts()
        part = next((part for part in parts if not part or is_within(path, part)), None)
        if part is None:
            return next((part for part in parts if part.startswith(f"{path}/")), None)
        inside = path[len(part) :].strip("/").split("/") if path != part else []
        root, here = self._root(), part
        try:
            for name in inside:
                if not walkable(name):
                    return None
                before, here = here, _joined(here, name)
                folder = root.find(here)
                if folder is None:
                    is_file = root.size(here) is not None
                    among_runs = before in self.searched and name not in ANCHORS
                    return None if among_runs and (is_file or "." in name) else before if is_file else here
                if recognise(folder) is not None:
                    return here
        except Unreadable:
            pass  # looking there tells why
        return here

    def _require_place(self) -> None:
        """What is not found is only gone if the place is still the one that was opened. Raises SourceError."""
        try:
            same = self._now() == self._identity
        except OSError:
            same = False
        if not same:
            raise SourceError(f"path {self.place} went while it was read")

    def folder_at(self, ref: str | None, path: str) -> DiskFolder | None:
        try:
            return self._root().find(path) if path else None
        except Unreadable:
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        folder = self.folder_at(ref, path)
        try:
            return _found(folder) if folder is not None else None
        except Unreadable:
            return None

    def _root(self) -> DiskFolder:
        try:
            return DiskFolder(Look(os.path.realpath(self.place)), "")
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {_why(error)}") from None

    def _walk_at(self, path: str, known: Known) -> Iterator[Change]:
        try:
            folder = self._root().find(path)
        except Unreadable as error:
            yield Trouble(None, path, error.kind, error.message)
            return
        if folder is not None:
            yield from self._walk(folder, known)
            return
        self._require_place()
        for gone in [each for each in self.searched if is_within(each, path)]:
            del self.searched[gone]
        yield Gone(None, path)

    def parts(self) -> tuple[str, ...]:
        """The parts of a project; the place itself where it is one of them."""
        place = Path(self.place)
        if any(os.path.lexists(place / mark) for mark in (".agentv", ".git", "indexer.toml")):
            return PARTS
        if place.name in PARTS or not any(os.path.isdir(place / part) for part in PARTS):
            return ("",)
        return PARTS

    def _walk(self, folder: DiskFolder, known: Known) -> Iterator[Change]:
        stamps = known.stamps(folder.path) if folder.path else {}
        if stamps and not known.inside(folder.path) and _all_same(folder, stamps):
            yield Same(None, folder.path)
            return
        try:
            found = _found(folder) if folder.path else None
            below = found.format.inner_runs(folder) if found else sorted(filter(walkable, folder.folders()))
        except Unreadable as error:
            yield Trouble(None, folder.path, error.kind, error.message)
            return
        if found is not None:
            self.searched.pop(folder.path, None)
            yield Same(None, folder.path) if stamps and stamps == found.stamps else found
        else:
            self.searched[folder.path] = stamp_of(folder.status)
            if stamps:
                yield Gone(None, folder.path)
        if found is None and folder.path.count("/") >= DEEPEST:
            yield Trouble(None, folder.path, "too-deep", f"folders below {DEEPEST} levels are not looked into")
            return
        for name in below:
            path = _joined(folder.path, name)
            try:
                child = DiskFolder(folder.look.again(folder.path), folder.path).find(name)
            except Unreadable as error:
                yield Trouble(None, path, error.kind, error.message)
                continue
            if child is not None:
                yield from self._walk(child, known)


def _all_same(folder: DiskFolder, stamps: Mapping[str, Stamp]) -> bool:
    """Whether every stamp of a run is as it was."""
    (root, _), (real, _) = folder.look.found[""] or ("", None), folder.look.found[folder.path] or ("", None)
    for name, stamp in stamps.items():
        try:
            status = os.lstat(f"{root}/{name[2:]}" if name.startswith("//") else f"{real}/{name}")
        except (OSError, ValueError):
            if stamp != ABSENT:
                return False
        else:
            if (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) != stamp:
                return False
    return True


def _has_folders(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False


def _is_file(status: os.stat_result) -> bool:
    """Whether it is neither a folder nor a link; pipes and devices are told as files that cannot be read."""
    return not stat.S_ISDIR(status.st_mode) and not stat.S_ISLNK(status.st_mode)


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
        raise Unreadable(path, "denied", _why(error)) from None


def _joined(*parts: str) -> str:
    return "/".join(filter(None, parts))


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
    elif overlay:
        stamps[f"//{overlay}/"] = ABSENT
    inside = [folder.path, *([over.path] if over else [])]
    for path, found in folder.look.found.items():  # the folders that were searched
        if found and stat.S_ISDIR(found[1].st_mode) and any(is_within(path, top) for top in inside):
            name = f"{path}/"[len(folder.path) + 1 :] if is_within(path, folder.path) else f"//{path}/"
            stamps[name] = stamp_of(found[1])
    return Found(None, folder.path, "stamps", folder, form, stamps)  # the stamps are its fingerprint


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
