"""What a run looks like: bytes to records, one module per tool.

A format is pure: no disk, no git, no clock, no database. It sees a run through `Folder`, which git trees
and directories both offer, so every format can be read from every place. A run folder is recognised by
its anchor file and never by its depth, so layouts of different ages live side by side in one tree. Where
tools leave their runs, and what names them elsewhere, is in their `Conventions`.
"""

import json

from indexer.formats.registry import Guarded, load
from indexer.protocols import AnyFolder, RunFile, RunFolder, Unreadable, no_file

READER = 6
"""Changes when the same records give other rows: every index is then rebuilt. Formats have versions of their own."""

FORMATS, UNUSABLE = load()
"""The formats in the order in which they are asked, and each unusable entry point: its name, and a line why."""
UNLOADED = frozenset(name for name, _ in UNUSABLE) - {form.KEY for form in FORMATS}
"""Formats that are installed and cannot be used: their indexed runs stay as they are."""
VERSIONS = {form.KEY: form.VERSION for form in FORMATS}
"""The version of each format: runs read by another version are read again."""
VERSIONS_TEXT = json.dumps([READER, VERSIONS], sort_keys=True)
"""The versions of the reader and of all formats: other versions may need files that were not fetched under these."""
ANCHORS = frozenset(anchor for form in FORMATS for anchor in form.ANCHORS if not anchor.startswith("*"))
"""Names of files that come with runs."""
ANCHOR_ENDS = tuple(anchor[1:] for form in FORMATS for anchor in form.ANCHORS if anchor.startswith("*"))
"""Suffixes of such names."""
_OF_FILES = tuple(form for form in FORMATS if form.is_file is not no_file)
_HAS_OTHERS = any(isinstance(form, Guarded) for form in FORMATS)

FOLDERS = tuple(
    sorted({path for form in FORMATS for path in form.CONVENTIONS.folders}, key=lambda path: (path[0] == ".", path))
)
"""Where a project keeps runs, as paths from its root, hidden folders last."""
PUBLISHED = tuple(sorted({path for form in FORMATS for path in form.CONVENTIONS.published}))
"""Where a results repository keeps runs, as paths from its root."""
REFS = tuple(ref for form in FORMATS for ref in form.CONVENTIONS.refs)
"""Refs that runs are published in."""
DRAFTS = tuple(ref for form in FORMATS for ref in form.CONVENTIONS.drafts)
"""Refs of runs in progress."""
PASSED_OVER = tuple(end for form in FORMATS for end in form.CONVENTIONS.passed_over)
"""Suffixes of folders that hold no runs."""
OVERLAYS = frozenset(name for form in FORMATS for name in form.CONVENTIONS.overlays)
"""Names of folders below which overlays lie."""
TRAILERS = {name: run for form in reversed(FORMATS) for name, run in form.CONVENTIONS.trailers.items()}
"""Trailers that name a run of one tool, each with a function from its value to the run's key."""


def recognise(folder: AnyFolder) -> RunFolder[AnyFolder] | None:
    """A folder as a run; None if it is not one. The first format that claims it reads it. Raises Unreadable."""
    return next((RunFolder(form, folder) for form in FORMATS if form.recognises(folder)), None)


def also_claimed(run: RunFolder[AnyFolder] | RunFile[AnyFolder]) -> list[str]:
    """The other formats that claim a folder or file too; only formats of other packages are asked."""
    others = FORMATS[FORMATS.index(run.format) + 1 :] if _HAS_OTHERS else ()
    return [form.KEY for form in others if isinstance(form, Guarded) and _claims(form, run)]


def _claims(form: Guarded, run: RunFolder[AnyFolder] | RunFile[AnyFolder]) -> bool:
    try:
        return form.is_file(run.name) if isinstance(run, RunFile) else form.recognises(run.folder)
    except Unreadable:
        return False


def run_folder(anchor: str) -> str | None:
    """The run folder that an anchor file at this path belongs to; None if it belongs to none."""
    name = anchor.rpartition("/")[2]
    asked = (form for form in FORMATS if name in form.ANCHORS or any(fits(name, each) for each in form.ANCHORS))
    return next((folder for form in asked if (folder := form.run_folder(anchor)) is not None), None)


def fits(name: str, anchor: str) -> bool:
    """Whether a file name matches an anchor with a leading `*`."""
    return anchor.startswith("*") and name.endswith(anchor[1:])


def is_anchor(name: str) -> bool:
    """Whether a file of this name comes with runs."""
    return name in ANCHORS or name.endswith(ANCHOR_ENDS)


def recognise_file(folder: AnyFolder, name: str) -> RunFile[AnyFolder] | None:
    """A file in a folder as a run, judged by its name alone; None if it is not one."""
    return next((RunFile(form, folder, name) for form in _OF_FILES if form.is_file(name)), None)


def is_run_file(name: str) -> bool:
    """Whether a file of this name is a single-file run of any tool."""
    return any(form.is_file(name) for form in _OF_FILES)


def run_of_overlay(path: str) -> str | None:
    """The run that the overlay at `path` belongs to; None if that is not an overlay."""
    return next((run for form in FORMATS if (run := form.run_of_overlay(path)) is not None), None)


def is_unique(name: str) -> bool:
    """Whether a format guarantees that no two run folders share this name."""
    return any(form.is_unique(name) for form in FORMATS)
