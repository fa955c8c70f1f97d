"""Runs in folders on disk.

Every pass walks the tree down to the run folders. A run's fingerprint is the stamps (size, mtime, ctime,
inode) of the files its rows were read from and the folders searched for them: if all are the same, no
name was added or removed and nothing is listed or opened. Only regular files are opened, so nothing blocks.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from indexer.changes import Change, Found, Indexed, Same, Swept, is_within
from indexer.errors import SourceError
from indexer.formats import is_anchor, is_run_file, recognise
from indexer.protocols import Folder, Unreadable
from indexer.sources import FileSource, Source, projects, walkable
from indexer.sources.changed_trials import changed_trials, differing
from indexer.sources.disk import DiskFolder, joined, why
from indexer.sources.folder_walk import FolderWalk, found_at
from indexer.sources.run_files import file_at, found_file
from indexer.sources.settings import Name, Place, Strict, placed


class FolderSource(FileSource):
    """The runs in a project, where tools keep them, or in one such folder."""

    kind = "folder"

    def __init__(self, name: str, path: Path):
        self.name = name
        self.place = str(path)
        self._walk = FolderWalk(self.place)
        self.searched = self._walk.searched
        self._parts_walked: tuple[str, ...] = ()

    def parts(self) -> tuple[str, ...]:
        """The parts of a project; or the place itself if it is such a part or a checkout of a results repository."""
        return self._walk.parts()

    def open(self) -> None:
        try:
            os.scandir(self.place).close()
            self._walk.note_place()
        except FileNotFoundError:
            raise SourceError(f"path {self.place} does not exist") from None
        except NotADirectoryError:
            raise SourceError(f"path {self.place} is not a folder") from None
        except OSError as error:
            raise SourceError(f"{self.place} cannot be opened: {why(error)}") from None

    def signs(self) -> list[str]:
        return [f"{self.place}/{part}".rstrip("/") for part in self.parts()]

    def has_runs(self) -> bool:
        """Whether it has a folder in which tools keep runs, or is a checkout of a results repository."""
        return bool(projects.parts_there(Path(self.place))) or projects.is_checkout(Path(self.place))

    def nothing_found(self) -> str:
        return projects.nothing_found(self.place, self.parts(), self.searched)

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        parts = self.parts()
        if paths is None or parts != self._parts_walked:
            self._walk.forget()
            self._parts_walked = parts
            for part in parts:
                yield from self._walk.at(part, indexed)
            self._walk.require_place()
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
                yield from self._walk.look_at(path, indexed)
        self._walk.forget_gone()

    def _changed_trials(self, path: str, names: Collection[str], indexed: Indexed) -> Found | Same | None:
        """The run at a path with changes in its own files and these names; None if it has to be read whole.

        `Same` covers only these parts, so it is never yielded.
        """
        try:
            folder = self._walk.root().find(path)
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

    def about(self, path: str) -> str | None:
        """Where to look after an event at a path: the run that it belongs to, or the folder; None for nowhere.

        A file beside runs leads nowhere; a path above all runs leads to the folder where runs begin.
        """
        parts = self.parts()
        part = next((part for part in parts if not part or is_within(path, part)), None)
        if part is None:
            return next((part for part in parts if part.startswith(f"{path}/")), None)
        inside = path[len(part) :].strip("/").split("/") if path != part else []
        root, here = self._walk.root(), part
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

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        try:
            root = self._walk.root()
            file = file_at(root, path)
            if file is not None:
                return file.opened()
            folder = root.find(path) if path else None
            return DiskFolder(folder.snapshot.closed(path), path) if folder is not None else None
        except Unreadable:
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        try:
            root = self._walk.root()
            if (file := file_at(root, path)) is not None:
                return found_file(file)
            folder = root.find(path) if path else None
            run = recognise(folder) if folder is not None else None
            return found_at(run) if run is not None else None
        except Unreadable:
            return None

    def real_path(self, path: str) -> str:
        return self._walk.links.real_path(path)

    def paths_at(self, real: str) -> list[str]:
        return self._walk.links.paths_at(real)


class FolderSettings(Strict):
    """A project or one of its run folders on disk."""

    name: Name
    kind: Literal["folder"]
    path: Place

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        return FolderSource(self.name, placed(root, self.path))
