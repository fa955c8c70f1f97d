"""Where run folders lie and which of them changed, one module a kind of place.

A source never knows what its folders mean: it recognises a run folder by asking the formats about names,
and tells by fingerprints which ones differ from what is already indexed. It only reads.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, Protocol

from indexer.changes import Change, Found, Indexed, Stamp
from indexer.formats import FOLDERS, PASSED_OVER
from indexer.protocols import Folder

DEEPEST = 32
"""Folders below this depth are not looked into."""
_DOT_FOLDERS = frozenset(name for path in FOLDERS for name in path.split("/") if name.startswith("."))


class Source(Protocol):
    """A place with run folders. What is given here holds for a place that is read as it is, without a server."""

    name: str
    kind: str
    place: str
    web_url: str | None = None
    """The page of a commit, where commits are what it tells."""
    holds_runs: bool = True
    """Whether runs lie in it; commits only name some."""
    holds_files: bool = True
    """Whether runs are folders of files; rows of a database are none."""
    rank: int = 0
    """Of two copies of a run that are alike otherwise, that of the source with the greater rank is shown."""
    wakes: Literal["files", "refs", "rows"] = "files"
    """What a watcher has to look at to hear of changes: files and folders, the refs of a repository, or rows."""
    pause: float | None = None
    """Seconds between two fetches while it is watched; None where nothing has to be fetched."""
    longest_pause: float = 600.0
    """Seconds at most, while fetching fails."""
    error: str | None = None
    """Why the last fetch failed."""
    fetched: str | None = None
    """When it was last seen that nothing is lacking here, UTC text; None where nothing has to be fetched."""

    def prepare(self) -> None:
        """Bring in what a pass needs; what fails is told by `open`."""
        return None  # noqa: RET501

    def fetch(self) -> bool:
        """Bring in what is new elsewhere; whether anything is. Raises SourceError, which `open` raises again."""
        return False

    def begin_watching(self) -> None:
        """From now on a thread fetches, and nobody else waits for it."""
        return None  # noqa: RET501

    def keeps(self, path: Path) -> bool:
        """Whether a path lies in the source's own store, where nobody else may write."""
        return False

    def open(self) -> None:
        """Make ready to read. Raises SourceError when the place cannot be opened."""

    def nothing_found(self) -> str | None:
        """For people, of a source without runs: what was looked for, and what is there instead."""

    def signs(self) -> Collection[str]:
        """Files and folders on this machine that change when it does; with `/` at its end a folder with all below."""
        return ()

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        """What differs from the index; lazy, so that each change is indexed before the next is looked for.

        `paths` are those to look at, where a source can tell them apart.
        """

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        """The folder at a path as it is now; None if there is none, or its place cannot be read."""

    def find(self, ref: str | None, path: str) -> Found | None:
        """The run folder at a path as it is now; None if there is none."""


class FileSource(Source, Protocol):
    """A source that wakes by files: what a watcher asks of it."""

    searched: dict[str, Stamp]
    """The folders, no runs themselves, in which the last passes looked for runs, as they were then."""

    def parts(self) -> Collection[str]:
        """The folders that runs lie in; the source's own is empty."""

    def about(self, path: str) -> str | None:
        """Where to look when something happened at a path; None for nowhere. Raises SourceError."""

    def paths_at(self, real: str) -> Collection[str]:
        """What a path on this machine is called inside the source, once for each way that leads there."""

    def real_path(self, path: str) -> str:
        """Where a folder of the source lies on this machine."""


class RefSource(Source, Protocol):
    """A source that wakes by refs: what a watcher asks of it."""

    def refs_folders(self) -> list[str]:
        """The folders in which something happens when a ref moves, the repository's own first."""


def walkable(name: str) -> bool:
    """Whether runs may lie below a folder of this name."""
    return (not name.startswith(".") or name in _DOT_FOLDERS) and not name.endswith(PASSED_OVER)
