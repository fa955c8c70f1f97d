"""What sources, formats and the index know of each other, and no more."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from indexer.earlier import Earlier, EarlierTrials
from indexer.records import Run


class Unreadable(Exception):
    """A file of a run cannot be read; the message says why. `path` is inside the run's folder.

    `others` are further files of the run that cannot be read either, and why.
    """

    def __init__(self, path: str, kind: str, message: str, others: Mapping[str, str] = MappingProxyType({})):
        super().__init__(message)
        self.path, self.kind, self.message, self.others = path, kind, message, others


MALFORMED = "malformed"
"""The kind of a problem with the content of a file."""


DOUBTFUL = "doubtful"
"""The kind of a problem with a value that was read but cannot be right."""


def unreadable(broken: Mapping[str, str]) -> Unreadable:
    """The error for a run with these unreadable files, each with its reason."""
    (path, message), *others = broken.items()
    return Unreadable(path, MALFORMED, message, dict(others))


class Options(BaseModel):
    """The settings that change what is read from the same files."""

    model_config = ConfigDict(frozen=True)

    agentv_threshold: float = 0.8
    pier_threshold: float = 1.0
    inspect_threshold: float = 1.0
    inspect_tasks: dict[str, float] = {}
    """Thresholds of tasks whose scores are on another scale."""
    errors: bool = True
    whole_errors: bool = False
    """Whether to read errors and reasons in full, to show one trial; never stored in an index."""
    formats: dict[str, dict[str, Any]] = {}
    """Settings of formats from other packages, by format key."""
    aliases: dict[str, str] = {}
    """Display names of models, by the names in the files."""

    def model(self, name: str | None) -> str | None:
        """The display name of a model."""
        return None if name is None else self.aliases.get(name, name)


class Folder(Protocol):
    """A read-only folder of a source, in a git tree or on disk. Every method may raise Unreadable.

    Names are text. A format never sees a symlink: the source either follows it or reports it.
    """

    @property
    def path(self) -> str:
        """Where it lies in its source, with `/`; empty for the root."""

    @property
    def ref(self) -> str | None:
        """The git ref it is seen in; None on disk."""

    def files(self) -> Collection[str]:
        """Names of the regular files directly inside."""

    def folders(self) -> Collection[str]:
        """Names of the folders directly inside."""

    def find(self, path: str) -> "Folder | None":
        """The folder at a path below this one; None if there is none."""

    def elsewhere(self, path: str) -> "Folder | None":
        """The folder at a path in the same source and ref; None if there is none."""

    def size(self, path: str) -> int | None:
        """A file's size in bytes, without opening it; None if there is none."""

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's bytes; None if there is none. Raises Unreadable, also for more than `limit` bytes."""

    def open(self, path: str) -> IO[bytes] | None:
        """A file for random access, to be closed; None if there is none. Raises Unreadable."""


def size_of(folder: Folder, path: str) -> int | None:
    """A file's size; None if there is none, or if it is unknown."""
    try:
        return folder.size(path)
    except Unreadable:
        return None


def undivided(folder: Folder, trials: Collection[str]) -> list[str] | None:
    """`inputs_of` of a format whose trials cannot be read without the others."""
    return None


def never_divided(folder: Folder, options: Options, earlier: EarlierTrials, trials: Collection[str]) -> Run | None:
    """`read_trials` of such a format."""
    return None


def nowhere(path: str) -> str | None:
    """`overlay` and `run_of_overlay` of a format in which nothing overrides a run's files."""
    return None


def untold(folder: Folder) -> str | None:
    """`key_from_names` of a format whose runs are identified only by their files' content."""
    return None


def common(name: str) -> bool:
    """`is_unique` of a format whose run folders may share a name."""
    return False


def no_file(name: str) -> bool:
    """`is_file` of a format whose runs are folders."""
    return False


def never_opened(folder: Folder, name: str) -> Folder:
    """`opened` of a format whose runs are folders."""
    raise AssertionError(f"{name} is not a run")


def alone(folder: Folder) -> list[str]:
    """`inner_runs` of a format in which a run holds no other runs."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """Where a tool leaves its runs, and what it calls them elsewhere."""

    folders: tuple[str, ...] = ()
    """Where a project keeps them, as paths from its root."""
    published: tuple[str, ...] = ()
    """Folders that a results repository keeps them in, as paths from its root."""
    refs: tuple[str, ...] = ()
    """Refs that they are published in, as in the settings."""
    drafts: tuple[str, ...] = ()
    """Refs of runs in progress: each holds all published runs, and its own, whose plain name is the ref's last part."""
    passed_over: tuple[str, ...] = ()
    """Suffixes of folders that hold no runs."""
    overlays: tuple[str, ...] = ()
    """Names of folders below which overlays lie."""
    trailers: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """Commit trailers that name a run, each with a function from its value to the run's key or name."""


PROTOCOL = 1
"""The version of the protocol below; a format may declare the one it was written for as its own PROTOCOL."""


class Format(Protocol):
    """One tool's layout of run folders, in all its generations: a module, or any object with these names."""

    KEY: str
    """The name of its entry point; with a colon, the prefix of its runs' keys."""
    VERSION: int
    """Changes when the same bytes give other rows: its runs are then read again."""
    NAME: str
    """The tool, as `runs.format` has it."""
    CONVENTIONS: Conventions
    ANCHORS: frozenset[str]
    """Names of files of which every run folder has at least one; by these, git history finds when a folder was added.

    A leading `*` matches any prefix.
    """

    def recognises(self, folder: Folder) -> bool:
        """Whether this folder may be a run, judged by names alone; `read` decides."""

    def is_file(self, name: str) -> bool:
        """Whether a file of this name may be a run; `read` decides."""

    def opened(self, folder: Folder, name: str) -> Folder:
        """Such a file as a read-only folder of its content; nothing is read yet."""

    def inputs(self, folder: Folder) -> list[str]:
        """The existing files that a run's rows depend on, as paths inside its folder."""

    def inputs_of(self, folder: Folder, trials: Collection[str]) -> list[str] | None:
        """Like `inputs`, for some trials (names of folders directly inside) and the run's own files; None if trials
        cannot be read without the others."""

    def inner_runs(self, folder: Folder) -> list[str]:
        """Names of folders directly inside a run that are runs of their own, sorted."""

    def overlay(self, path: str) -> str | None:
        """The path, in the same source, of the files that override those of the run at `path`; None if none do."""

    def run_of_overlay(self, path: str) -> str | None:
        """The inverse: the run whose overlay is at `path`; None if that is not an overlay."""

    def run_folder(self, anchor: str) -> str | None:
        """The run folder that an anchor file at this path belongs to; None if it belongs to none."""

    def key_from_names(self, folder: Folder) -> str | None:
        """The identity of a run whose files cannot be read; None if only they contain it. Raises Unreadable."""

    def is_unique(self, name: str) -> bool:
        """Whether no two runs have a folder of this name, wherever they lie."""

    def read(self, folder: Folder, options: Options, earlier: Earlier) -> Run | None:
        """The run in a recognised folder; None if it is not a run after all. Raises Unreadable."""

    def read_trials(
        self, folder: Folder, options: Options, earlier: EarlierTrials, trials: Collection[str]
    ) -> Run | None:
        """The run with only these trials and those whose rows change with them; one that is absent is deleted.

        None if the whole run has to be read. Raises Unreadable; the run's rows then stay.
        """


AnyFolder = TypeVar("AnyFolder", bound=Folder)


class Readable(Protocol):
    """A run that a source found, to be read."""

    def read(self, options: Options, earlier: Earlier) -> Run | None:
        """The run; None if it is not a run after all. Raises Unreadable."""

    def key_from_names(self) -> str | None:
        """Its identity when it cannot be read; None if only its content has it."""

    @property
    def reader(self) -> str:
        """The key of the format that reads it."""


@dataclass(frozen=True, slots=True)
class RunFile(Generic[AnyFolder]):
    """A single file that a format takes for a run: a Readable."""

    format: Format
    parent: AnyFolder
    name: str

    def read(self, options: Options, earlier: Earlier) -> Run | None:
        try:
            return self.format.read(self.opened(), options, earlier)
        except Unreadable as error:
            if error.path != self.name:
                raise
            raise Unreadable("", error.kind, error.message) from None  # the run's own path names the file

    def key_from_names(self) -> str | None:
        return None

    @property
    def reader(self) -> str:
        return self.format.KEY

    def opened(self) -> Folder:
        """What is in it, as a folder."""
        return self.format.opened(self.parent, self.name)


@dataclass(frozen=True, slots=True)
class RunFolder(Generic[AnyFolder]):
    """A folder that a format recognised: a Readable."""

    format: Format
    folder: AnyFolder

    def read(self, options: Options, earlier: Earlier) -> Run | None:
        return self.format.read(self.folder, options, earlier)

    def key_from_names(self) -> str | None:
        try:
            return self.format.key_from_names(self.folder)
        except Unreadable:
            return None

    @property
    def reader(self) -> str:
        return self.format.KEY

    def inputs(self) -> list[str]:
        """The files that its rows depend on, as paths inside the folder."""
        return self.format.inputs(self.folder)

    def inner_runs(self) -> list[str]:
        """Names of folders directly inside that are runs of their own, sorted."""
        return self.format.inner_runs(self.folder)

    def read_trials(self, options: Options, earlier: EarlierTrials, trials: Collection[str]) -> Run | None:
        """The run with only these trials; None if the whole run has to be read. Raises Unreadable."""
        return self.format.read_trials(self.folder, options, earlier, trials)

    def inputs_of(self, trials: Collection[str]) -> list[str] | None:
        """Like `inputs`, for these trials and the run's own files; None if all have to be read."""
        return self.format.inputs_of(self.folder, trials)

    def overlay(self) -> str | None:
        """The path, in the same source, of the files that override its own; None if there is none."""
        return self.format.overlay(self.folder.path)
