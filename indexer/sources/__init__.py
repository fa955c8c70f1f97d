"""Where run folders lie and which of them changed, one module a kind of place.

A source never knows what its folders mean: it recognises a run folder by asking the formats about names,
and tells by fingerprints which ones differ from what is already indexed. It only reads.
"""

from collections.abc import Collection, Iterator
from typing import Protocol

from indexer.changes import Change, Found, Known
from indexer.protocols import Folder

DEEPEST = 32
"""Folders below this depth are not looked into."""


class Source(Protocol):
    """A place with run folders."""

    name: str
    kind: str
    place: str
    web_url: str | None

    def open(self) -> None:
        """Make ready to read. Raises SourceError when the place cannot be opened."""

    def nothing_found(self) -> str | None:
        """For people, of a source without runs: what was looked for, and what is there instead."""

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        """What differs from the index; lazy, so that each change is indexed before the next is looked for.

        `paths` are those to look at, where a source can tell them apart.
        """

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        """The folder at a path as it is now; None if there is none, or its place cannot be read."""

    def find(self, ref: str | None, path: str) -> Found | None:
        """The run folder at a path as it is now; None if there is none."""


def walkable(name: str) -> bool:
    """Whether runs may lie below a folder of this name."""
    return not name.startswith(".") or name == ".agentv"
