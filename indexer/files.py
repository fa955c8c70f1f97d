"""The files of an indexed run, read from where it lies."""

from indexer.errors import SettingsError, UnknownRunError
from indexer.index.select import Row
from indexer.project import Project
from indexer.protocols import Folder, Unreadable

LARGEST = 8 << 20
"""Bytes of a file at most."""


def names(project: Project, run: Row) -> list[str]:
    """The files directly in the run's folder and in the folders below, two levels deep, sorted.

    Raises SettingsError, SourceError, UnknownRunError.
    """
    try:
        return sorted(_below(_folder(project, run), "", 2))
    except Unreadable as error:
        raise UnknownRunError(f"{run['path']}: {error.message}") from None


def content(project: Project, run: Row, path: str) -> bytes:
    """The bytes of one of the run's files. Raises SettingsError, SourceError, UnknownRunError."""
    folder = _folder(project, run)
    try:
        data = folder.read(path, LARGEST)
    except Unreadable as error:
        raise UnknownRunError(f"{run['path']}/{path}: {error.message}") from None
    if data is None:
        raise UnknownRunError(f"{run['run_id']} has no file {path!r}")
    return data


def _folder(project: Project, run: Row) -> Folder:
    from indexer.settings import load

    _, sources = load(project)
    source = next((source for source in sources if source.name == run["source"]), None)
    if source is None:
        raise SettingsError(f"the settings name no source {run['source']!r} any more; run indexer sync")
    source.open()
    found = source.find(run["ref"], run["path"])
    if found is None:
        raise UnknownRunError(f"{run['run_id']} is no more at {run['path']}")
    return found.folder


def _below(folder: Folder, prefix: str, depth: int) -> list[str]:
    found = [f"{prefix}{name}" for name in folder.files()]
    for name in folder.folders() if depth else ():
        inside = folder.find(name)
        found += _below(inside, f"{prefix}{name}/", depth - 1) if inside else []
    return found
