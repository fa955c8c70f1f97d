"""Walks the folders of a source down to its runs, and yields what changed there."""

import os
from collections.abc import Iterator
from pathlib import Path

from indexer.changes import ABSENT, Change, Found, Gone, Indexed, Same, Stamp, Trouble
from indexer.errors import SourceError
from indexer.formats import recognise
from indexer.protocols import RunFolder, Unreadable
from indexer.sources import DEEPEST, projects, walkable
from indexer.sources.changed_trials import changed_trials, differing
from indexer.sources.disk import DiskFolder, joined, root_folder, stamp_of
from indexer.sources.links import Links, is_passed_over, is_walked
from indexer.sources.run_files import file_at, told_file, walk_files

_LINKS = 100
"""The most unfollowed links in one folder that are reported one by one."""


class FolderWalk:
    """The walk over one place, and what it learnt of the folders on its way."""

    def __init__(self, place: str):
        self.place = place
        self.searched: dict[str, Stamp] = {}
        """Stamps of the folders (not runs) that the last walks searched for runs; always this dictionary."""
        self.links = Links(place)
        self._gone: set[str] = set()  # paths where a walk found nothing
        self._identity: tuple[int, int] | None = None

    def forget(self) -> None:
        """Forget all folders: everything will be walked."""
        self.searched.clear()
        self.links.clear()

    def note_place(self) -> None:
        """Note which folder the place is now. Raises OSError."""
        self._identity = self._now()

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.place)
        return status.st_dev, status.st_ino

    def require_place(self) -> None:
        """A missing run is only gone if the place is still the one that was opened. Raises SourceError."""
        try:
            same = self._now() == self._identity
        except OSError:
            same = False
        if not same:
            raise SourceError(f"path {self.place} was removed or replaced while it was read")

    def parts(self) -> tuple[str, ...]:
        """The parts of a project; or the place itself if it is such a part or a checkout of a results repository."""
        return projects.parts(Path(self.place))

    def root(self) -> DiskFolder:
        return root_folder(self.place, self.parts())

    def look_at(self, path: str, indexed: Indexed) -> Iterator[Change]:
        """What a walk at a path finds, and Gone for indexed runs below that it did not meet."""
        met: set[str] = set()
        unread: set[str] = set()
        for change in self.at(path, indexed):
            if isinstance(change, Found | Same):
                met.add(change.path)
            elif isinstance(change, Trouble):
                unread.add(change.path)
            yield change
        for stored in indexed.below(path):
            above = (stored[:at] for at, character in enumerate(f"{stored}/") if character == "/")
            if stored not in met and unread.isdisjoint(above):
                yield Gone(None, stored)

    def at(self, path: str, indexed: Indexed) -> Iterator[Change]:
        """The runs at a path and below: found, the same, gone or unreadable."""
        root = self.root()
        try:
            folder = None if is_passed_over(root, path, self.parts()) else root.find(path)
        except Unreadable as error:
            yield Trouble(None, path, error.kind, error.message)
            return
        if folder is None and (refused := root.snapshot.refusal(path)):
            yield Trouble(None, path, "link", refused)
            return
        if folder is not None:
            yield from self._below(folder, indexed)
            return
        if (file := file_at(root, path)) is not None:
            yield told_file(file, indexed)
            return
        self.require_place()
        self.links.forget(path)
        self._gone.add(path)
        yield Gone(None, path)

    def forget_gone(self) -> None:
        """Forget searched folders that are gone, all at once: there may be many."""
        for path in list(self.searched) if self._gone else ():
            if any(path[:at] in self._gone for at, character in enumerate(f"{path}/") if character == "/"):
                del self.searched[path]
        self._gone.clear()

    def _below(self, folder: DiskFolder, indexed: Indexed) -> Iterator[Change]:
        stamps = indexed.stamps(folder.path) if folder.path else {}
        self.links.note(folder)
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
            found = found_at(run) if run else None
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
                yield from self._below(child, indexed)
            elif child is not None and indexed.stamps(path):
                yield Gone(None, path)


def _refused(folder: DiskFolder) -> Iterator[Trouble]:
    """The links directly inside that are not followed."""
    paths = sorted(path for name in folder.files() if (path := joined(folder.path, name)) in folder.snapshot.refused)
    for path in paths[:_LINKS]:
        yield Trouble(None, path, "link", folder.snapshot.refused[path])
    if len(paths) > _LINKS:
        yield Trouble(None, folder.path, "link", f"{len(paths) - _LINKS:,} more links in it are not followed")


def found_at(run: RunFolder[DiskFolder]) -> Found:
    """A run with the stamps that are its fingerprint."""
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
    return Found(None, folder.path, "stamps", run, stamps)
