"""Where run folders lie and which of them changed, one module per kind of place.

A source never knows what its folders mean: it recognises a run folder by asking the formats about names,
and finds by fingerprint which ones differ from the index. It only reads.
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
    """A place with run folders. The defaults here fit a place that is read directly, without a server."""

    name: str
    kind: str
    place: str
    web_url: str | None = None
    """The page of a commit, for sources of commits."""
    holds_runs: bool = True
    """Whether it holds runs; commits only name some."""
    holds_files: bool = True
    """Whether its runs are files, not rows of a database."""
    rank: int = 0
    """Of two otherwise equal copies of a run, the one in the source with the greater rank is shown."""
    wakes: Literal["files", "refs", "rows"] = "files"
    """What a watcher follows to notice changes: files and folders, the refs of a repository, or rows."""
    pause: float | None = None
    """Seconds between two fetches while it is watched; None if there is nothing to fetch."""
    longest_pause: float = 600.0
    """The longest pause while fetches fail, in seconds."""
    error: str | None = None
    """Why the last fetch failed."""
    fetched: str | None = None
    """When everything was last known to be fetched, UTC text; None if there is nothing to fetch."""

    def prepare(self) -> None:
        """Fetch what a pass needs; `open` reports failures."""
        return None  # noqa: RET501

    def fetch(self) -> bool:
        """Fetch what is new; returns whether anything was. Raises SourceError, which `open` raises again."""
        return False

    def begin_watching(self) -> None:
        """From now on a thread fetches; nothing else waits for a fetch."""
        return None  # noqa: RET501

    def keeps(self, path: Path) -> bool:
        """Whether a path lies in the source's own store, where nobody else may write."""
        return False

    def open(self) -> None:
        """Make ready to read. Raises SourceError when the place cannot be opened."""

    def nothing_found(self) -> str | None:
        """A message about a source without runs: what was looked for, and what is there instead."""

    def signs(self) -> Collection[str]:
        """Local files and folders that change when it does; a trailing `/` stands for a folder and everything below."""
        return ()

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        """What differs from the index; lazy, so that each change is indexed before the next is looked for.

        `paths` limits the look, if the source can look at some paths alone. Raises SourceError.
        """

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        """The folder at a path as it is now; None if there is none, or its place cannot be read."""

    def find(self, ref: str | None, path: str) -> Found | None:
        """The run folder at a path as it is now; None if there is none."""


class FileSource(Source, Protocol):
    """A source followed by its files: what a watcher asks of it."""

    searched: dict[str, Stamp]
    """Stamps of the folders (not runs) that the last passes searched for runs."""

    def parts(self) -> Collection[str]:
        """The folders that runs lie in; the empty path is the source's own."""

    def about(self, path: str) -> str | None:
        """Where to look when something happened at a path; None for nowhere. Raises SourceError."""

    def paths_at(self, real: str) -> Collection[str]:
        """The paths inside the source for a path on this machine, one for each way through links."""

    def real_path(self, path: str) -> str:
        """Where a folder of the source lies on this machine."""


class RefSource(Source, Protocol):
    """A source followed by its refs: what a watcher asks of it."""

    def refs_folders(self) -> list[str]:
        """The folders that change when a ref moves, the repository's own first."""


def walkable(name: str) -> bool:
    """Whether runs may lie below a folder of this name."""
    return (not name.startswith(".") or name in _DOT_FOLDERS) and not name.endswith(PASSED_OVER)
