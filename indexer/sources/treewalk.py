"""The run folders in the trees of a repository: all of them, or those in which two trees differ.

Trees are walked side by side, and only where their object ids differ. The fingerprint of a run is the object id of its
folder, and that of its overlay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from indexer.changes import Found, Gone, Trouble
from indexer.formats import OVERLAYS, is_run_file, recognise, recognise_file, run_of_overlay
from indexer.protocols import RunFile, RunFolder, Unreadable
from indexer.sources import DEEPEST, walkable
from indexer.sources.objects import GitFolder, Tree

Step = Found | Gone | Trouble

_GLANCE = 2000
"""The most steps of a quick search for any run: each folder takes up to two."""


@dataclass(frozen=True, slots=True)
class _Overlaid:
    """The overlay of the run at `path` differs."""

    path: str


def whole(root: GitFolder) -> Iterator[Step]:
    """Everything below a root tree."""
    return (step for step in _walk(None, root) if not isinstance(step, _Overlaid))


def difference(old: GitFolder, new: GitFolder) -> Iterator[Step]:
    """What differs between two root trees, including runs whose overlay alone differs. Raises Unreadable."""
    found: set[str] = set()
    overlaid: set[str] = set()
    for step in _walk(old, new):
        if isinstance(step, _Overlaid):
            overlaid.add(step.path)
            continue
        if isinstance(step, Found):
            found.add(step.path)
        yield step
    for path in sorted(overlaid - found):
        folder = new.find(path)
        run = run_at(folder) if folder is not None else None
        if run is not None:
            yield run


def run_at(folder: GitFolder) -> Found | None:
    """A folder as a run; None if it is not one. Raises Unreadable."""
    run = recognise(folder)
    return _found(run) if run is not None else None


def run_file_at(root: GitFolder, path: str) -> RunFile[GitFolder] | None:
    """The single-file run at a path; None if there is none. Raises Unreadable."""
    above, _, name = path.rpartition("/")
    if not is_run_file(name) or root.blob_id(path) is None:
        return None
    parent = root.find(above)
    return recognise_file(parent, name) if parent is not None else None


def found_file(file: RunFile[GitFolder]) -> Found:
    """Its fingerprint is the object id of its content."""
    oid = file.parent.tree().files[file.name]
    path = f"{file.parent.path}/{file.name}" if file.parent.path else file.name
    return Found(file.parent.ref, path, oid.hex(), file, {})


def _walk_files(old: Tree | None, new: GitFolder) -> Iterator[Found | Gone]:
    """The files directly inside a folder that are runs by themselves and differ from those of the old one."""
    before, after = old.files if old else {}, new.tree().files
    for name in sorted(filter(is_run_file, before.keys() - after.keys())):
        yield Gone(new.ref, f"{new.path}/{name}" if new.path else name)
    for name in sorted(filter(is_run_file, after)):
        if before.get(name) != after[name] and (file := recognise_file(new, name)) is not None:
            yield found_file(file)


def needed_blobs(folder: GitFolder) -> Iterator[bytes]:
    """The object ids of the files that the rows of a run folder depend on, its overlay included. Raises Unreadable."""
    run = recognise(folder)
    if run is None:
        return
    yield from (blob for path in run.inputs() if (blob := folder.blob_id(path)) is not None)
    over = _overlay(run)
    if over is not None:
        yield from over.tree().files.values()


def holds_run(root: GitFolder) -> bool:
    """Whether a quick search finds a run in a tree."""
    try:
        return any(found is not None for found in islice(_glance(root), _GLANCE))
    except Unreadable:
        return False


def _glance(root: GitFolder) -> Iterator[Found | Gone | None]:
    """The folders of a tree, breadth first, and a file that is a run in each: runs as Found, others as None."""
    level = [root]
    while level:
        below = []
        for each in level:
            found = run_at(each) if each.path else None
            yield found
            if found is None:
                yield next(_walk_files(None, each), None)
            if found is None and each.path.count("/") < DEEPEST:
                below += [each.child(name, oid) for name, oid in each.tree().folders.items() if walkable(name)]
        level = below


def _found(run: RunFolder[GitFolder]) -> Found:
    over = _overlay(run)
    fingerprint = run.folder.oid.hex() + (f"+{over.oid.hex()}" if over else "")
    return Found(run.folder.ref, run.folder.path, fingerprint, run, {})


def _overlay(run: RunFolder[GitFolder]) -> GitFolder | None:
    path = run.overlay()
    return run.folder.elsewhere(path) if path else None


def _walk(old: GitFolder | None, new: GitFolder) -> Iterator[Step | _Overlaid]:
    """Run folders below `new` that differ from those in `old`, which is None for a full walk."""
    try:
        after = new.tree()
        run = recognise(new) if new.path else None
        found = _found(run) if run is not None else None
    except Unreadable as error:
        if old is not None:
            raise
        yield Trouble(new.ref, new.path, error.kind, error.message)
        return
    if old is not None and old.path and (run is None) != (recognise(old) is None):
        yield Gone(new.ref, new.path)
        old = None
    before = old.tree() if old else None
    if run is not None and found is not None:
        yield found
        yield from _walk_inner(run, before, after)
        return
    if (overlaid := run_of_overlay(new.path)) is not None and (before is None or before.files != after.files):
        yield _Overlaid(overlaid)
    if new.path.count("/") >= DEEPEST:
        new.objects.failed = True  # so that the next pass reports it too
        yield Trouble(new.ref, new.path, "too-deep", f"folders below {DEEPEST} levels are not looked into")
        return
    kept = before.folders if before else {}
    yield from _removed_below(old, kept, after)
    yield from _walk_files(before, new)
    yield from _walk_below(old, new, kept, after)


def _walk_below(
    old: GitFolder | None, new: GitFolder, kept: dict[str, bytes], after: Tree
) -> Iterator[Step | _Overlaid]:
    """Walk the folders inside one that is not a run; `kept` are those of the old one."""
    for name, oid in sorted(after.folders.items()):
        if kept.get(name) != oid and walkable(name):
            below = old.child(name, kept[name]) if old and name in kept else None
            yield from _walk(below, new.child(name, oid))


def _removed_below(old: GitFolder | None, kept: dict[str, bytes], after: Tree) -> Iterator[Gone | _Overlaid]:
    """The folders that are gone; reported before anything that may take their place."""
    for name in sorted(kept.keys() - after.folders.keys()):
        if old is not None and walkable(name):
            yield from _walk_removed(old.child(name, kept[name]))


def _walk_inner(run: RunFolder[GitFolder], before: Tree | None, after: Tree) -> Iterator[Step | _Overlaid]:
    """Runs inside a run. There are few: each is reported whenever the outer one differs."""
    folder, inner = run.folder, run.inner_runs()
    if before is not None:
        yield from (Gone(folder.ref, f"{folder.path}/{name}") for name in sorted(before.folders) if name not in inner)
    for name in inner:
        yield from _walk(None, folder.child(name, after.folders[name]))


def _walk_removed(old: GitFolder) -> Iterator[Gone | _Overlaid]:
    yield Gone(old.ref, old.path)
    if not OVERLAYS.isdisjoint(old.path.split("/")):
        yield from _removed_overlays(old)


def _removed_overlays(old: GitFolder) -> Iterator[_Overlaid]:
    if (run := run_of_overlay(old.path)) is not None:
        yield _Overlaid(run)
    for name, oid in sorted(old.tree().folders.items() if old.path.count("/") < DEEPEST else ()):
        yield from _removed_overlays(old.child(name, oid))
