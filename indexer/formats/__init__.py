"""What a run looks like: bytes to records, one module a tool.

A format is pure: no disk, no git, no clock, no database. It sees a run through `Folder`, which git trees
and directories both offer, so every format can be read from every place. A run folder is recognised by
its anchor file and never by its depth, so layouts of different ages live side by side in one tree. Where
tools leave their runs, and what names them elsewhere, is in their `Conventions`.
"""

from indexer.formats import agentv, copilot, inspect, pier
from indexer.protocols import AnyFolder, Format, RunFile, RunFolder

READER = 5
"""What the formats make of the same bytes; a change of it makes every index be rebuilt."""

FORMATS: tuple[Format, ...] = (agentv, pier, copilot, inspect)
ANCHORS = {anchor: form for form in FORMATS for anchor in form.ANCHORS}

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
OVERLAYS = frozenset(name for form in FORMATS for name in form.CONVENTIONS.overlays)
"""Names of folders below which overlays lie."""
TRAILERS = {name: run for form in FORMATS for name, run in form.CONVENTIONS.trailers.items()}
"""Trailers that name a run of one tool, and what makes its key of their value."""


def recognise(folder: AnyFolder) -> RunFolder[AnyFolder] | None:
    """The run that a folder is; None if it is none."""
    return next((RunFolder(form, folder) for form in FORMATS if form.recognises(folder)), None)


def recognise_file(folder: AnyFolder, name: str) -> RunFile[AnyFolder] | None:
    """The run that a file in a folder is by itself; None if it is none."""
    return next((RunFile(form, folder, name) for form in FORMATS if form.is_file(name)), None)


def is_run_file(name: str) -> bool:
    """Whether a file of this name is a run by itself, of any tool."""
    return any(form.is_file(name) for form in FORMATS)


def run_of_overlay(path: str) -> str | None:
    """The run that the overlay at `path` belongs to; None if that is no overlay."""
    return next((run for form in FORMATS if (run := form.run_of_overlay(path)) is not None), None)


def is_unique(name: str) -> bool:
    """Whether no two run folders are ever called so, of any tool."""
    return any(form.is_unique(name) for form in FORMATS)
