"""The files of an indexed run, read from where it lies."""

from indexer.errors import SettingsError, SourceError, UnknownRunError
from indexer.project import Project
from indexer.protocols import Folder, Unreadable
from indexer.queries.types import RunRow

LARGEST = 8 << 20
"""Bytes of a file at most."""
_NAMED = 10
"""Files that are named in a message."""


def names(project: Project, run: RunRow) -> list[str]:
    """The files directly in the run's folder and in the folders below, two levels deep, those that can be read, sorted.

    Raises SettingsError, SourceError, UnknownRunError.
    """
    folder = _folder(project, run)
    return sorted(_below(folder, "", 2)) if folder is not None else []


def content(project: Project, run: RunRow, path: str) -> bytes:
    """The bytes of one of the run's files. Raises SettingsError, SourceError, UnknownRunError."""
    folder = _folder(project, run)
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} is rows of a database: it has no files")
    try:
        data = folder.read(path, LARGEST)
    except Unreadable as error:
        raise UnknownRunError(f"{run['path']}/{path}: {error.message}") from None
    if data is None:
        known = sorted(_below(folder, "", 2))
        more = ", …" if len(known) > _NAMED else ""
        raise UnknownRunError(f"{run['run_id']} has no file {path!r}; it has {', '.join(known[:_NAMED])}{more}")
    return data


def _folder(project: Project, run: RunRow) -> Folder | None:
    """None for a run that is no folder."""
    from indexer.settings import load

    _, sources = load(project)
    source = next((source for source in sources if source.name == run["source"]), None)
    if source is None:
        raise SettingsError(f"the settings name no source {run['source']!r} any more; run indexer sync")
    if not source.holds_files:
        return None
    try:
        source.open()
    except SourceError as error:
        raise SourceError(f"source {source.name}: {error}; its files are read from there") from None
    folder = source.folder_at(run["ref"], run["path"])
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} is no more at {run['path']}, or cannot be read")
    return folder


def _below(folder: Folder, prefix: str, depth: int) -> list[str]:
    try:
        found = [f"{prefix}{name}" for name in folder.files()]
        inside = {name: folder.find(name) for name in folder.folders()} if depth else {}
    except Unreadable:
        return []  # what can be read beside it is shown
    for name, each in inside.items():
        found += _below(each, f"{prefix}{name}/", depth - 1) if each else []
    return found
