"""Runs in folders on disk.

Every pass walks the tree down to the run folders. A run's fingerprint is the stamps (size, mtime, ctime,
inode) of the files its rows were read from and the folders searched for them: if all are the same, no
name was added or removed and nothing is listed or opened. Only regular files are opened, so nothing blocks.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from indexer.changes import ABSENT, Change, Found, Gone, Indexed, Same, Stamp, Swept, Trouble, is_within
from indexer.errors import SourceError
from indexer.formats import is_anchor, is_run_file, recognise
from indexer.protocols import Folder, RunFolder, Unreadable
from indexer.sources import DEEPEST, FileSource, Source, projects, walkable
from indexer.sources.changed_trials import changed_trials, differing
from indexer.sources.disk import DiskFolder, joined, root_folder, stamp_of, why
from indexer.sources.links import Links, is_passed_over, is_walked
from indexer.sources.run_files import file_at, found_file, told_file, walk_files
from indexer.sources.settings import Name, Place, Strict, placed

_LINKS = 100
"""The most unfollowed links in one folder that are reported one by one."""


class FolderSource(FileSource):
    """The runs in a project, where tools keep them, or in one such folder."""

    kind = "folder"

    def __init__(self, name: str, path: Path):
        self.name = name
        self.place = str(path)
        self.searched: dict[str, Stamp] = {}
        """Stamps of the folders (not runs) that the last passes searched for runs."""
        self._links = Links(self.place)
        self._gone: set[str] = set()  # paths where the current walk found nothing
        self._identity: tuple[int, int] | None = None
        self._walked: tuple[str, ...] = ()

    def open(self) -> None:
        try:
            os.scandir(self.place).close()
            self._identity = self._now()
        except FileNotFoundError:
            raise SourceError(f"path {self.place} does not exist") from None
        except NotADirectoryError:
            raise SourceError(f"path {self.place} is not a folder") from None
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {why(error)}") from None

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.place)
        return status.st_dev, status.st_ino

    def signs(self) -> list[str]:
        return [f"{self.place}/{part}".rstrip("/") for part in self.parts()]

    def has_runs(self) -> bool:
        """Whether it has a folder in which tools keep runs, or is a checkout of a results repository."""
        return bool(projects.parts_there(Path(self.place))) or projects.is_checkout(Path(self.place))

    def nothing_found(self) -> str:
        return projects.nothing_found(self.place, self.parts(), self.searched)

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        parts = self.parts()
        if paths is None or parts != self._walked:
            self.searched.clear()
            self._links.clear()
            self._walked = parts
            for part in parts:
                yield from self._walk_at(part, indexed)
            self._require_place()
            yield Swept(None)
            return
        runs: dict[str, set[str]] = {}
        whole: set[str] = set()
        for path in paths:
            if (run := indexed.run_above(path)) is not None:
                runs.setdefault(run, set()).add(path[len(run) + 1 :].partition("/")[0])
            elif (about := self.about(path)) is not None:
                whole.add(about)
        for run, names in runs.items():
            found = self._changed_trials(run, names, indexed)
            if found is None:
                whole.add(run)
            elif isinstance(found, Found):
                yield found
        last = None
        for path in sorted(whole, key=lambda p: f"{p}/"):
            if last is None or not is_within(path, last):  # else it was looked at with the folder above
                last = path
                yield from self._look_at(path, indexed)
        self._forget_gone()

    def _changed_trials(self, path: str, names: Collection[str], indexed: Indexed) -> Found | Same | None:
        """The run at a path with changes in its own files and these names; None if it has to be read whole.

        `Same` covers only these parts, so it is never yielded.
        """
        try:
            folder = self._root().find(path)
            if folder is None or indexed.inside(path):
                return None
            names = {name for name in names if name and folder.size(name) is None}  # its own files are always looked at
            unread = (f"{name}/" for name in indexed.unread(path) if name in names)
            changed = [*differing(folder, indexed.stamps(path, names)), *unread]
        except Unreadable:
            return None
        if not changed:
            return Same(None, path)
        return changed_trials(DiskFolder(folder.snapshot.again(path), path), changed, indexed)

    def _look_at(self, path: str, indexed: Indexed) -> Iterator[Change]:
        """What a walk at a path finds, and Gone for indexed runs below that it did not meet."""
        met: set[str] = set()
        unread: set[str] = set()
        for change in self._walk_at(path, indexed):
            if isinstance(change, Found | Same):
                met.add(change.path)
            elif isinstance(change, Trouble):
                unread.add(change.path)
            yield change
        for stored in indexed.below(path):
            above = (stored[:at] for at, character in enumerate(f"{stored}/") if character == "/")
            if stored not in met and unread.isdisjoint(above):
                yield Gone(None, stored)

    def about(self, path: str) -> str | None:
        """Where to look after an event at a path: the run that it belongs to, or the folder; None for nowhere.

        A file beside runs leads nowhere; a path above all runs leads to the folder where runs begin.
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
                before, here = here, joined(here, name)
                folder = root.find(here)
                if folder is None and is_run_file(name):
                    return here
                if folder is None:
                    is_file = root.size(here) is not None
                    among_runs = before in self.searched and not is_anchor(name)
                    return None if among_runs and (is_file or "." in name) else before if is_file else here
                if recognise(folder) is not None:
                    return here
        except Unreadable:
            pass  # the look there reports why
        return here

    def _require_place(self) -> None:
        """A missing run is only gone if the place is still the one that was opened. Raises SourceError."""
        try:
            same = self._now() == self._identity
        except OSError:
            same = False
        if not same:
            raise SourceError(f"path {self.place} was removed or replaced while it was read")

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        try:
            root = self._root()
            file = file_at(root, path)
            if file is not None:
                return file.opened()
            folder = root.find(path) if path else None
            return DiskFolder(folder.snapshot.closed(path), path) if folder is not None else None
        except Unreadable:
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            root = self._root()
            if (file := file_at(root, path)) is not None:
                return found_file(file)
            folder = root.find(path) if path else None
            run = recognise(folder) if folder is not None else None
            return _found(run) if run is not None else None
        except Unreadable:
            return None

    def _root(self) -> DiskFolder:
        return root_folder(self.place, self.parts())

    def _walk_at(self, path: str, indexed: Indexed) -> Iterator[Change]:
        root = self._root()
        try:
            folder = None if is_passed_over(root, path, self.parts()) else root.find(path)
        except Unreadable as error:
            yield Trouble(None, path, error.kind, error.message)
            return
        if folder is None and (refused := root.snapshot.refusal(path)):
            yield Trouble(None, path, "link", refused)
            return
        if folder is not None:
            yield from self._walk(folder, indexed)
            return
        if (file := file_at(root, path)) is not None:
            yield told_file(file, indexed)
            return
        self._require_place()
        self._links.forget(path)
        self._gone.add(path)
        yield Gone(None, path)

    def _forget_gone(self) -> None:
        """Forget searched folders that are gone, all at once: there may be many."""
        for path in list(self.searched) if self._gone else ():
            if any(path[:at] in self._gone for at, character in enumerate(f"{path}/") if character == "/"):
                del self.searched[path]
        self._gone.clear()

    def parts(self) -> tuple[str, ...]:
        """The parts of a project; or the place itself if it is such a part or a checkout of a results repository."""
        return projects.parts(Path(self.place))

    def real_path(self, path: str) -> str:
        return self._links.real_path(path)

    def paths_at(self, real: str) -> list[str]:
        return self._links.paths_at(real)

    def _walk(self, folder: DiskFolder, indexed: Indexed) -> Iterator[Change]:
        stamps = indexed.stamps(folder.path) if folder.path else {}
        self._links.note(folder)
        try:
            if stamps and not indexed.inside(folder.path):
                unread = indexed.unread(folder.path)
                changed = [*differing(folder, stamps), *(f"{name}/" for name in unread if name)]
                if not changed and not unread:
                    yield Same(None, folder.path)
                    return
                some = changed_trials(folder, changed, indexed) if changed else None
                if some is not None:
                    yield some
                    return
            run = recognise(folder) if folder.path else None
            found = _found(run) if run else None
            below = run.inner_runs() if run else sorted(filter(walkable, folder.folders()))
        except Unreadable as error:
            yield Trouble(None, folder.path, error.kind, error.message)
            return
        if found is not None:
            self.searched.pop(folder.path, None)
            same = stamps and stamps == found.stamps and not indexed.unread(folder.path)
            yield Same(None, folder.path) if same else found
        else:
            self.searched[folder.path] = stamp_of(folder.status)
            if stamps:
                yield Gone(None, folder.path)
        if found is None and folder.path.count("/") >= DEEPEST:
            yield Trouble(None, folder.path, "too-deep", f"folders below {DEEPEST} levels are not looked into")
            return
        if found is None:
            yield from _refused(folder)
            yield from walk_files(folder, indexed)
        for name in below:
            path = joined(folder.path, name)
            try:
                child = DiskFolder(folder.snapshot.again(folder.path), folder.path).find(name)
            except Unreadable as error:
                yield Trouble(None, path, error.kind, error.message)
                continue
            if child is not None and not (path in child.snapshot.links and is_walked(self.place, child, self.parts())):
                yield from self._walk(child, indexed)
            elif child is not None and indexed.stamps(path):
                yield Gone(None, path)


def _refused(folder: DiskFolder) -> Iterator[Trouble]:
    """The links directly inside that are not followed."""
    paths = sorted(path for name in folder.files() if (path := joined(folder.path, name)) in folder.snapshot.refused)
    for path in paths[:_LINKS]:
        yield Trouble(None, path, "link", folder.snapshot.refused[path])
    if len(paths) > _LINKS:
        yield Trouble(None, folder.path, "link", f"{len(paths) - _LINKS:,} more links in it are not followed")


def _found(run: RunFolder[DiskFolder]) -> Found:
    folder = run.folder
    stamps = {name: stamp for name in run.inputs() if (stamp := folder.stamp(name))}
    overlay = run.overlay()
    over = folder.elsewhere(overlay) if overlay else None
    if over is not None:
        stamps |= {f"//{overlay}/{name}": stamp for name in over.files() if (stamp := over.stamp(name))}
    elif overlay:
        stamps[f"//{overlay}/"] = ABSENT
    stamps |= folder.searched()
    if over is not None:
        stamps |= {f"//{over.path}/{name}": stamp for name, stamp in over.searched().items()}
    return Found(None, folder.path, "stamps", run, stamps)  # the stamps are its fingerprint


class FolderSettings(Strict):
    """A project or one of its run folders on disk."""

    name: Name
    kind: Literal["folder"]
    path: Place

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        return FolderSource(self.name, placed(root, self.path))
