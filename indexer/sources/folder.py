"""Runs in folders on disk.

Every pass walks the tree down to the run folders. A run is known by the stamps (size, mtime, ctime, inode) of
the files that its rows were read from and of the folders that were searched for them: if all are the same, no
name can have come or gone and nothing is listed or opened. Only regular files are opened, so nothing blocks.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from indexer.changes import ABSENT, Change, Found, Gone, Known, Same, Stamp, Swept, Trouble, is_within
from indexer.errors import SourceError
from indexer.formats import ANCHORS, recognise
from indexer.project import PARTS
from indexer.protocols import Unreadable
from indexer.sources import DEEPEST, FileSource, walkable
from indexer.sources.disk import DiskFolder, Look, joined, stamp_of, why

_MARKS = (".agentv", ".git", "indexer.toml")
"""What makes a folder a project, of which only those parts are looked into."""

_LINKS = 100
"""Links in one folder that are named one by one when they are not followed."""


class FolderSource(FileSource):
    """The runs in a project (its `jobs/`, `results/` and `.agentv/results/`), or in one such folder."""

    kind = "folder"

    def __init__(self, name: str, path: Path):
        self.name = name
        self.place = str(path)
        self.searched: dict[str, Stamp] = {}
        """The folders, no runs themselves, in which the last passes looked for runs, as they were then."""
        self.links: dict[str, str] = {}
        """The real paths of folders that the last passes found behind links."""
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
            raise SourceError(f"{self.place} cannot be opened: {why(error)}") from None

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.place)
        return status.st_dev, status.st_ino

    def has_runs(self) -> bool:
        """Whether it has a folder in which tools keep runs."""
        return bool(self._parts_there()) or self._is_checkout()

    def _parts_there(self) -> list[str]:
        """The parts of a project that are there; `results/` may be only where an index lies."""
        there = [part for part in PARTS if os.path.isdir(f"{self.place}/{part}")]
        return [part for part in there if part != "results" or _has_folders(f"{self.place}/{part}")]

    def _is_checkout(self) -> bool:
        """Whether it is a checkout of a results repository, in which runs lie directly or under `runs/`."""
        if not os.path.lexists(f"{self.place}/.git"):
            return False
        try:
            root = self._root(("",))
            names = [name for name in root.folders() if walkable(name)]
            return "runs" in names or any(recognise(child) for name in names if (child := root.find(name)))
        except (Unreadable, SourceError):
            return False

    def nothing_found(self) -> str:
        there = [part for part in self.parts() if os.path.isdir(f"{self.place}/{part}")]
        looked = " and ".join(f"{part or '.'}/" for part in self.parts())
        if not there:
            return f"no runs: looked for {looked} in {self.place}, and none is there"
        folders = sum(is_within(path, part) or not part for path in self.searched for part in there)
        return f"no runs: looked into {looked} in {self.place}; none of {folders:,} folders holds a run of a known tool"

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        parts = self.parts()
        if paths is None or parts != self._walked:
            self.searched.clear()
            self.links.clear()
            self._walked = parts
            for part in parts:
                yield from self._walk_at(part, known)
            self._require_place()
            yield Swept(None)
            return
        last = None
        for path in sorted({about for path in paths if (about := self.about(path)) is not None}, key=lambda p: f"{p}/"):
            if last is None or not is_within(path, last):  # else it was looked at with the folder above
                last = path
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
        root, here = self._root(parts), part
        try:
            for name in inside:
                if not walkable(name):
                    return None
                before, here = here, joined(here, name)
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
            return self._root(self.parts()).find(path) if path else None
        except Unreadable:
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        folder = self.folder_at(ref, path)
        try:
            return _found(folder) if folder is not None else None
        except Unreadable:
            return None

    def _root(self, tops: Collection[str]) -> DiskFolder:
        try:
            return DiskFolder(Look(os.path.realpath(self.place), tops), "")
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {why(error)}") from None

    def _walk_at(self, path: str, known: Known) -> Iterator[Change]:
        root = self._root(self.parts())
        try:
            folder = None if self._is_passed_over(root, path) else root.find(path)
        except Unreadable as error:
            yield Trouble(None, path, error.kind, error.message)
            return
        if folder is None and (refused := root.look.refusal(path)):
            yield Trouble(None, path, "link", refused)
            return
        if folder is not None:
            yield from self._walk(folder, known)
            return
        self._require_place()
        for known_ in (self.searched, self.links):
            for gone in [each for each in known_ if is_within(each, path)]:
                del known_[gone]
        yield Gone(None, path)

    def parts(self) -> tuple[str, ...]:
        """The parts of a project; the place itself where it is one of them, or a checkout of a results repository."""
        place = Path(self.place)
        if any(os.path.lexists(place / mark) for mark in _MARKS):
            return ("",) if not self._parts_there() and self._is_checkout() else PARTS
        if place.name in PARTS or not any(os.path.lexists(place / part) for part in PARTS):
            return ("",)
        return PARTS

    def _note_links(self, folder: DiskFolder) -> None:
        """Remember the links that lead to a folder that is walked, and those inside a run."""
        for path, real in folder.look.links.items():
            if is_within(folder.path, path) or (is_within(path, folder.path) and recognise(folder) is not None):
                self.links[path] = real

    def _is_passed_over(self, root: DiskFolder, path: str) -> bool:
        """Whether a walk of all would not come to a path: a link on the way leads to what it walks anyway."""
        for at in (at for at, character in enumerate(f"{path}/") if character == "/"):
            linked = root.find(path[:at])
            if linked is None:
                return False
            if path[:at] in root.look.links:
                above = root.find(path[:at].rpartition("/")[0]) if "/" in path[:at] else root
                if above is not None:
                    above.folders()  # finds the links beside
                if path[:at] not in self.parts() and self._is_walked(linked):
                    return True
        return False

    def _is_walked(self, linked: DiskFolder) -> bool:
        """Whether a walk comes to what a link leads to by another way, through no run and no dot folder."""
        parts, real = self.parts(), linked.real
        above = linked.path.rpartition("/")[0]
        for path, to in linked.look.links.items():
            is_beside = path.rpartition("/")[0] == above
            if is_beside and is_within(real, to) and (real != to or path < linked.path):
                return True
        root = self._root(parts)
        for part in parts:
            try:
                top = root.find(part) if part else root
                if top is None or not is_within(real, top.real):
                    continue
                way = [top]
                names = real[len(top.real) + 1 :].split("/") if real != top.real else []
                for name in names:
                    child = way[-1].find(name) if walkable(name) else None
                    if child is None or (way[-1].path and recognise(way[-1]) is not None):
                        break
                    way.append(child)
                else:
                    return True
            except Unreadable:
                continue
        return False

    def real_path(self, path: str) -> str:
        """Where a folder of the source lies on this machine, links followed."""
        above = [path[:at] for at, character in enumerate(f"{path}/") if character == "/"]
        behind = next((each for each in reversed(above) if each in self.links), None)
        if behind is None:
            return f"{os.path.realpath(self.place)}/{path}".rstrip("/")
        return f"{self.links[behind]}{path[len(behind) :]}"

    def paths_at(self, real: str) -> list[str]:
        """What a real path is called inside the source: once for each way that leads there."""
        ways = [("", os.path.realpath(self.place)), *self.links.items()]
        inside = [(way, os.fsencode(real[len(place) + 1 :])) for way, place in ways if is_within(real, place)]
        return [joined(way, rest.decode("utf-8", "backslashreplace")) for way, rest in inside]

    def _walk(self, folder: DiskFolder, known: Known) -> Iterator[Change]:
        stamps = known.stamps(folder.path) if folder.path else {}
        self._note_links(folder)
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
        yield from _refused(folder) if found is None else ()
        for name in below:
            path = joined(folder.path, name)
            try:
                child = DiskFolder(folder.look.again(folder.path), folder.path).find(name)
            except Unreadable as error:
                yield Trouble(None, path, error.kind, error.message)
                continue
            if child is not None and not (path in child.look.links and self._is_walked(child)):
                yield from self._walk(child, known)
            elif child is not None and known.stamps(path):
                yield Gone(None, path)


def _refused(folder: DiskFolder) -> Iterator[Trouble]:
    """The links directly inside that are not followed."""
    paths = sorted(path for name in folder.files() if (path := joined(folder.path, name)) in folder.look.refused)
    for path in paths[:_LINKS]:
        yield Trouble(None, path, "link", folder.look.refused[path])
    if len(paths) > _LINKS:
        yield Trouble(None, folder.path, "link", f"{len(paths) - _LINKS:,} more links in it are not followed")


def _all_same(folder: DiskFolder, stamps: Mapping[str, Stamp]) -> bool:
    """Whether every stamp of a run is as it was."""
    (root, _), (real, _) = folder.look.found[""] or ("", None), folder.look.found[folder.path] or ("", None)
    for name, stamp in stamps.items():
        try:
            status = os.stat(f"{root}/{name[2:]}" if name.startswith("//") else f"{real}/{name}")
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
