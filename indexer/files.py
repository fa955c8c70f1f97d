"""Reads the files of an indexed run from its source."""

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

from indexer.errors import IndexerError, SettingsError, SourceError, UnknownRunError
from indexer.project import Project
from indexer.protocols import Folder, Unreadable, size_of
from indexer.queries.types import RunRow, TrialRow
from indexer.records import Trial

if TYPE_CHECKING:
    from indexer.sources import FileSource, Source

LARGEST = 8 << 20
"""The most bytes read of a file."""
MOST = 1000
"""The most files listed for a trial."""
_NAMED = 10
"""The most files named in a message."""
_DEPTH_OF_RUN, _DEPTH_OF_TRIAL = 2, 5
_USEFUL = (
    r"(^|/)exception[^/]*\.txt$|(^|/)error[^/]*$",
    r"(^|/)(stderr|stdout)[^/]*$|(^|/)trial\.log$|(^|/)agent/[^/]*\.(txt|log)$",
    r"trajectory[^/]*\.json$|transcript|(^|/)(answer|response)\.md$|(^|/)outputs/",
    r"(^|/)verifier/|(^|/)(grading|verify|reward)[^/]*$",
    r"\.(txt|log|md|jsonl)$",
)
_PATTERNS = tuple(map(re.compile, _USEFUL))
"""What people open first of a trial: its exception, what it printed, what the agent did, what the verifier said."""


class File(NamedTuple):
    """A file of a run: its path inside the folder asked for, and its size in bytes, None if unknown."""

    path: str
    size: int | None


def names(project: Project, run: RunRow) -> list[str]:
    """The readable files in the run's folder and in two levels of folders below it, sorted.

    Raises SettingsError, SourceError, UnknownRunError.
    """
    folder = _folder(_source(project, run), run)
    return sorted(_below(folder, "", _DEPTH_OF_RUN)) if folder is not None else []


def of_trial(project: Project, run: RunRow, trial: TrialRow) -> list[File]:
    """The files of a trial, most useful first; empty if it has none of its own. Raises the errors of `names`."""
    inside = _folder(_source(project, run), run)
    if inside is None or trial["folder"] is None:
        return []
    with _told(run):
        if inside.size(trial["folder"]) is not None:  # the trial is a single file
            return [File(trial["folder"], size_of(inside, trial["folder"]))]
        folder = _folder_of(inside, run, trial)
        found = sorted(_below(folder, "", _DEPTH_OF_TRIAL), key=lambda path: (_rank(path), path))
        return [File(path, size_of(folder, path)) for path in found[:MOST]]


def _rank(path: str) -> int:
    return next((at for at, pattern in enumerate(_PATTERNS) if pattern.search(path)), len(_PATTERNS))


def content(project: Project, run: RunRow, path: str, trial: TrialRow | None = None) -> bytes:
    """The bytes of a file of the run, or of the trial if one is given. Raises the errors of `names`."""
    path = posixpath.normpath(path)
    with _told(run):
        return _whole(*_holding(project, run, trial), path)


def ending(project: Project, run: RunRow, path: str, trial: TrialRow | None = None) -> tuple[bytes, bool]:
    """Like `content`, but only the last LARGEST bytes of a larger file; and whether these are the whole file.

    Raises the errors of `names`.
    """
    path = posixpath.normpath(path)
    with _told(run):
        folder, called, depth = _holding(project, run, trial)
        if (folder.size(path) or 0) > LARGEST and (opened := folder.open(path)) is not None:
            with opened:
                opened.seek(-LARGEST, os.SEEK_END)
                return opened.read(LARGEST), False
        return _whole(folder, called, depth, path), True


def _holding(project: Project, run: RunRow, trial: TrialRow | None) -> tuple[Folder, str, int]:
    """The folder to read from, its name for messages, and how many levels to list."""
    folder = _folder(_source(project, run), run)
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} comes from a database and has no files")
    if trial is not None and trial["folder"] and folder.size(trial["folder"]) is None:
        return _folder_of(folder, run, trial), f"{run['run_id']} {trial['trial']}", _DEPTH_OF_TRIAL
    return folder, run["run_id"], _DEPTH_OF_RUN


def _whole(folder: Folder, called: str, depth: int, path: str) -> bytes:
    data = folder.read(path, LARGEST)
    if data is None:
        known = sorted(_below(folder, "", depth))
        more = ", …" if len(known) > _NAMED else ""
        raise UnknownRunError(f"{called} has no file {path!r}; it has {', '.join(known[:_NAMED])}{more}")
    return data


@contextmanager
def _told(run: RunRow) -> Iterator[None]:
    """Turn Unreadable into an error that a user can read."""
    try:
        yield
    except Unreadable as error:
        where = "/".join(filter(None, (run["path"], error.path)))
        raise UnknownRunError(f"{where}: {error.message}") from None


def _folder_of(inside: Folder, run: RunRow, trial: TrialRow) -> Folder:
    """The folder of a trial in that of its run. Raises UnknownRunError."""
    folder = inside.find(trial["folder"] or "")
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} {trial['trial']} is no longer at {run['path']}/{trial['folder']}")
    return folder


def place(project: Project, run: RunRow, trial: TrialRow | None = None) -> str:
    """The folder of a run or of a trial on this machine; of a run that is a file, the folder it lies in.

    Raises SettingsError, SourceError, and UnknownRunError for what lies in git or in a database.
    """
    within = trial["folder"] if trial is not None else None
    inside = "/".join(filter(None, (run["path"], within)))
    if run["ref"] is not None:
        raise UnknownRunError(f"{run['run_id']} lies in git, at {run['ref']}:{inside}; --file prints a file of it")
    source = _source(project, run)
    folder = _folder(source, run)
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} comes from a database and has no folder")
    real = cast("FileSource", source).real_path(run["path"])
    if not os.path.isdir(real):
        return real.rpartition("/")[0]
    if trial is None or not within:
        return real
    with _told(run):
        _folder_of(folder, run, trial)
    return f"{real}/{within}"


def whole_error(project: Project, run: RunRow, trial: TrialRow) -> str | None:
    """The full error of a trial, masked, from its files; the line in the index if they cannot be read.

    Raises SettingsError.
    """
    from indexer.settings import load

    settings, sources = load(project)
    options = settings.options().model_copy(update={"whole_errors": True})
    try:
        if project.shared is not None:
            _require_here(project, project.shared, run)
        source = _named(sources, run)
        source.open()
        found = source.find(run["ref"], run["path"])
        read = found.run.read(options, _OnlyOne(trial)) if found else None
        mine = next((each for each in read.trials if each.trial == trial["trial"]), None) if read else None
        if mine is not None and mine.error:
            return mine.error
    except (Unreadable, IndexerError):
        pass  # gone or truncated: the index has the first line
    return trial["error"]


class _OnlyOne:
    """An `Earlier` that claims to know every trial but one, so that a format reads only that one."""

    def __init__(self, trial: TrialRow):
        self._name, self._folder = trial["trial"], trial["folder"]

    def exists(self) -> bool:
        return False

    def trial(self, name: str) -> Trial | None:
        return None if name == self._name else Trial(trial=name, status="passed")

    def unchanged(self, part: str) -> bool:
        return part not in (self._name, self._folder)

    def copies(self) -> bool:
        return False


def _source(project: Project, run: RunRow) -> "Source":
    from indexer.settings import load

    if project.shared is not None:
        _require_here(project, project.shared, run)
    return _named(load(project)[1], run)


def _require_here(project: Project, shared: str, run: RunRow) -> None:
    """Raises UnknownRunError if the files of a run of a shared index lie on another machine, and says on which."""
    from indexer.queries.shared_index import SharedIndex
    from indexer.settings import load

    try:
        mine = load(project)[0].publish.machine
    except SettingsError:  # nothing is read from here
        mine = None
    with SharedIndex(shared) as index:
        machine = index.machine_of(run["key"])
    if machine != mine:
        where = ":".join(filter(None, (run["source"], run["ref"], run["path"])))
        raise UnknownRunError(f"the files of {run['run_id']} are on {machine}, at {where}")


def _named(sources: "list[Source]", run: RunRow) -> "Source":
    """The source that a run was read from. Raises SettingsError."""
    source = next((source for source in sources if source.name == run["source"]), None)
    if source is None:
        raise SettingsError(f"the settings no longer name the source {run['source']!r}; run indexer sync")
    return source


def _folder(source: "Source", run: RunRow) -> Folder | None:
    """The folder of a run; None if it has none. Raises SourceError, UnknownRunError."""
    if not source.holds_files:
        return None
    try:
        source.open()
    except SourceError as error:
        raise SourceError(f"the run's files cannot be read: source {source.name}: {error}") from None
    folder = source.folder_at(run["ref"], run["path"])
    if folder is None:
        raise UnknownRunError(f"{run['run_id']} is no longer at {run['path']}, or cannot be read")
    return folder


def _below(folder: Folder, prefix: str, depth: int) -> Iterator[str]:
    try:
        files = [f"{prefix}{name}" for name in folder.files()]
        inside = {name: folder.find(name) for name in folder.folders()} if depth else {}
    except Unreadable:
        return  # show what else can be read
    yield from files
    for name, each in inside.items():
        if each is not None:
            yield from _below(each, f"{prefix}{name}/", depth - 1)
