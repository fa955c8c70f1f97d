"""What a source tells of a pass, and what it may ask: the words between sources and the index."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexer.protocols import Readable

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]")


class Stamp(NamedTuple):
    """What tells whether a file on disk changed, without reading it. Bytes and nanoseconds."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


ABSENT = Stamp(0, 0, 0, 0)
"""Nothing is there."""
UNSETTLED = -(2**63)
"""The `mtime_ns` of what has to be read again: it equals that of nothing."""


class Tip(NamedTuple):
    """How far a ref was read. `tree` is empty when a part of it could not be read, so that it is walked again."""

    commit: str
    tree: str
    history: str
    wip: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A run that is new or differs from what is indexed.

    `stamps` are of its files on disk and of the folders searched for them, empty in git. Names of folders end
    with `/`, that of the run's own is empty; what lies outside of it starts with `//`. With `trials`, which are names
    of folders directly inside, only these were looked at and the files beside them: other stamps are as they were.
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
    """What was indexed at `path` and below is there no more; what is there now is told afterwards."""

    ref: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Swept:
    """Every run folder of a ref has been told in this pass: what was not is gone."""

    ref: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """A ref that was followed is there no more."""

    ref: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What cannot be read and is no run: a ref, a part of a tree, the history. Told anew in every pass.

    What is indexed at `path` and below stays, in the ref that it is told of.
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
    """Commits that brought folders to a ref; `complete` replaces what was known of it.

    `error` says why `added` ended early; then nothing of it counts.
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
    """A commit of a code repository that names a run. `seconds` since 1970, None if the commit does not tell."""

    run_key: str
    sha: str
    seconds: int | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Naming:
    """Commits that name runs; `complete` replaces what was known of the repository."""

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
        """The stamps of the files and folders on disk that the run at `path` was read from; with `trials` those of the
        folders of this name directly inside, and of the run's own files."""

    def trials(self, path: str) -> Collection[str]:
        """The names of the trials of the run at `path` on disk."""

    def format_of(self, path: str) -> str | None:
        """The key of the format that read the run at `path` on disk; None in a rebuild, and where none did."""

    def run_above(self, path: str) -> str | None:
        """The path of the run on disk that a path lies below; None if there is none."""

    def fingerprints(self) -> Iterator[tuple[str, str]]:
        """Path and fingerprint of each run outside of refs, sorted by path."""

    def unfinished(self) -> Sequence[str]:
        """The paths of the runs outside of refs that have not ended."""

    def below(self, path: str) -> Sequence[str]:
        """The paths of the runs on disk below a folder; of all for the empty path."""

    def inside(self, path: str) -> bool:
        """Whether a run that is indexed lies below the run at `path` on disk."""

    def unread(self, path: str) -> Collection[str]:
        """The names directly inside the run at `path` on disk that are, or hold, what could not be read."""

    def places_named(self, name: str) -> set[tuple[str, str]]:
        """Ref and path of every run folder with this plain name (see `plain_name`) that a ref holds, or ever held."""


def is_within(path: str, folder: str) -> bool:
    """Whether a path is that of a folder, or lies below it."""
    return f"{path}/".startswith(f"{folder}/")


def plain_name(name: str) -> str:
    """A folder's name as it may stand in a ref: what is no letter or digit as `-`, at most 60 characters."""
    return _NOT_PLAIN.sub("-", name)[:60]
