"""What a run looks like: bytes to records, one module a tool.

A format is pure: no disk, no git, no clock, no database. It sees a run through `Folder`, which git trees
and directories both offer, so every format can be read from every place. A run folder is recognised by
its anchor file and never by its depth, so layouts of different ages live side by side in one tree.
"""

from indexer.formats import agentevals, agentv, copilot, pier
from indexer.protocols import Folder, Format

READER = 4
"""What the formats make of the same bytes; a change of it makes every index be rebuilt."""


FORMATS: tuple[Format, ...] = (agentv, pier, copilot, agentevals)
ANCHORS = {anchor: form for form in FORMATS for anchor in form.ANCHORS}


def recognise(folder: Folder) -> Format | None:
    """The format whose run this folder is; None if it is no run."""
    return next((form for form in FORMATS if form.recognises(folder)), None)


def run_of_overlay(path: str) -> str | None:
    """The run that the overlay at `path` belongs to; None if that is no overlay."""
    return next((run for form in FORMATS if (run := form.run_of_overlay(path)) is not None), None)


def is_unique(name: str) -> bool:
    """Whether no two run folders are ever called so, of any tool."""
    return any(form.is_unique(name) for form in FORMATS)
