"""What sources report during a pass, and what they may ask the index."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexer.protocols import Readable

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]")


class Stamp(NamedTuple):
    """Tells whether a file or folder on disk changed, without reading it. Sizes are bytes, times nanoseconds."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


ABSENT = Stamp(0, 0, 0, 0)
"""The stamp of a path where nothing exists."""
UNSETTLED = -(2**63)
"""The `mtime_ns` of a file to read again: no real file has it."""


class Tip(NamedTuple):
    """How far a ref was read.

    `tree` is the id of the tree that was read (for a run in progress, of the commit); empty if part of it could not be
    read, so that the next pass walks it again. Commit sources leave it empty. `history` is the commit up to which the
    history was read, with a digest of where a shallow clone ends. `wip` marks a ref of a run in progress.
    """

    commit: str
    tree: str
    history: str
    wip: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A run that is new or differs from what is indexed.

    `stamps` cover its files on disk and the folders searched for them; empty in git. Folder names end with `/`, the
    run's own folder or single file has the empty name, and names outside the run start with `//`. With `trials` (names
    of folders directly inside) only these and the files beside them were checked; all other stamps are unchanged.
    """

    ref: str | None
    path: str
    fingerprint: str
    run: Readable
    stamps: Mapping[str, Stamp]
    trials: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """A run folder that was visited and equals what is indexed."""

    ref: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Gone:
    """What was indexed at `path` and below is gone; whatever is there now is reported afterwards."""

    ref: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Swept:
    """This pass has reported every run folder of a ref; any other is gone."""

    ref: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A followed ref no longer exists."""

    ref: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something unreadable other than a run: a ref, a part of a tree, the history. Reported again in every pass.

    Rows at `path` and below stay, in this ref.
    """

    ref: str | None
    path: str
    kind: str
    message: str


class Added(NamedTuple):
    """A commit whose tree has the folder at `path` while no parent's tree has it. `seconds` since 1970.

    `sha` is None where a shallow clone ends, since the folder may have come earlier.
    """

    path: str
    sha: str | None
    seconds: int
    author: str


@dataclass(slots=True)
class History:
    """Commits that added folders to a ref. If `complete`, they replace all earlier ones.

    `error` says why `added` ended early; all of it is then discarded.
    """

    ref: str
    added: Iterator[Added]
    complete: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Advance:
    """A ref is read up to `tip`."""

    ref: str
    tip: Tip


class NamedCommit(NamedTuple):
    """A commit of a code repository that names a run. `seconds` since 1970, None if it has no valid time."""

    run_key: str
    sha: str
    seconds: int | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Naming:
    """Commits that name runs. If `complete`, they replace all earlier ones of the repository."""

    commits: Iterator[NamedCommit]
    complete: bool


Change = Found | Same | Gone | Swept | Missing | Trouble | History | Advance | Naming


class Indexed(Protocol):
    """What the index holds of one source, asked while the source is walked."""

    def tips(self) -> Mapping[str, Tip]:
        """How far each ref was read."""

    def fingerprint(self, ref: str | None, path: str) -> str | None:
        """The fingerprint under which the run at `path` was read; None if it was not."""

    def stamps(self, path: str, trials: Collection[str] | None = None) -> Mapping[str, Stamp]:
        """The stamps of the files and folders on disk that the run at `path` was read from; with `trials` only those of
        these folders directly inside, and of the run's own files."""

    def trials(self, path: str) -> Collection[str]:
        """The names of the trials of the run at `path` on disk."""

    def format_of(self, path: str) -> str | None:
        """The key of the format that read the run at `path` on disk; None in a rebuild, or if none did."""

    def run_above(self, path: str) -> str | None:
        """The path of the nearest run on disk above a path; None if there is none."""

    def fingerprints(self) -> Iterator[tuple[str, str]]:
        """Path and fingerprint of each run that is not in a ref, sorted by path."""

    def unfinished(self) -> Sequence[str]:
        """The paths of the runs that are not in a ref and have not ended."""

    def below(self, path: str) -> Sequence[str]:
        """The paths of the runs on disk below a folder; all of them for the empty path."""

    def inside(self, path: str) -> bool:
        """Whether another indexed run lies inside the run at `path` on disk."""

    def unread(self, path: str) -> Collection[str]:
        """The names directly inside the run at `path` on disk that are, or contain, something unreadable."""

    def places_named(self, name: str) -> set[tuple[str, str]]:
        """Ref and path of every run folder with this plain name (see `plain_name`) that a ref holds, or ever held."""


def is_within(path: str, folder: str) -> bool:
    """Whether a path is the folder itself or lies below it."""
    return f"{path}/".startswith(f"{folder}/")


def plain_name(name: str) -> str:
    """A folder name made safe for a ref: anything but letters and digits becomes `-`, at most 60 characters."""
    return _NOT_PLAIN.sub("-", name)[:60]
