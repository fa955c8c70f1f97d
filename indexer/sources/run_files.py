"""Single-file runs on disk: the fingerprint of each is its own stamp."""

from collections.abc import Iterator

from indexer.changes import Change, Found, Gone, Indexed, Same, Trouble
from indexer.formats import is_run_file, recognise_file
from indexer.protocols import RunFile, Unreadable
from indexer.sources.disk import DiskFolder, joined


def walk_files(folder: DiskFolder, indexed: Indexed) -> Iterator[Change]:
    """The single-file runs directly inside a folder; unfollowed links are reported elsewhere."""
    for name in sorted(filter(is_run_file, folder.files())):
        path = joined(folder.path, name)
        if path in folder.snapshot.refused:
            continue
        try:
            file = recognise_file(folder, name)
            if file is not None and folder.size(name) is not None:
                yield told_file(file, indexed)
        except Unreadable as error:
            yield Trouble(None, path, error.kind, error.message)


def file_at(root: DiskFolder, path: str) -> RunFile[DiskFolder] | None:
    """The single-file run at a path; None if there is none. Raises Unreadable."""
    above, _, name = path.rpartition("/")
    if not is_run_file(name) or root.size(path) is None:
        return None
    parent = root.find(above) if above else root
    return recognise_file(parent, name) if parent is not None else None


def found_file(file: RunFile[DiskFolder]) -> Found | None:
    """The run with the stamp of its file; None if the file is gone. Raises Unreadable."""
    stamp = file.parent.stamp(file.name)
    path = joined(file.parent.path, file.name)
    return Found(None, path, "stamps", file, {"": stamp}) if stamp is not None else None


def told_file(file: RunFile[DiskFolder], indexed: Indexed) -> Found | Same | Gone:
    """The run compared with the index. Raises Unreadable."""
    found, path = found_file(file), joined(file.parent.path, file.name)
    if found is None:
        return Gone(None, path)
    return Same(None, path) if indexed.stamps(path) == found.stamps else found
