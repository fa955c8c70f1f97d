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
"""The kind of a problem with a value that could be read and cannot be right."""


def unreadable(broken: Mapping[str, str]) -> Unreadable:
    """The error for a run of which these files, with the reasons, cannot be read."""
    (path, message), *others = broken.items()
    return Unreadable(path, MALFORMED, message, dict(others))


class Options(BaseModel):
    """The settings that change what is read, beside the files themselves."""

    model_config = ConfigDict(frozen=True)

    agentv_threshold: float = 0.8
    pier_threshold: float = 1.0
    inspect_threshold: float = 1.0
    inspect_tasks: dict[str, float] = {}
    """Thresholds of tasks whose scores are on another scale."""
    errors: bool = True
    whole_errors: bool = False
    """Whether errors and reasons are read whole, for one look at a trial; no index holds them so."""
    formats: dict[str, dict[str, Any]] = {}
    """What the settings say to formats of other packages, by their keys."""
    aliases: dict[str, str] = {}
    """How models are shown, by the names that are read."""

    def model(self, name: str | None) -> str | None:
        """How a model is shown."""
        return None if name is None else self.aliases.get(name, name)


class Folder(Protocol):
    """A read-only folder of a source, in a git tree or on disk. Names are text; links do not exist here."""

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
        """A file to read parts of by their place, to be closed; None if there is none. Raises Unreadable."""


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
    """`key_from_names` of a format whose runs are told apart by what is in their files."""
    return None


def common(name: str) -> bool:
    """`is_unique` of a format whose run folders may be called alike."""
    return False


def no_file(name: str) -> bool:
    """`is_file` of a format whose runs are folders."""
    return False


def never_opened(folder: Folder, name: str) -> Folder:
    """`opened` of a format whose runs are folders."""
    raise AssertionError(f"{name} is no run")


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
    """Refs of runs in progress: each holds all published runs, and one that its last part is the plain name of."""
    passed_over: tuple[str, ...] = ()
    """Ends of names of folders in which no runs lie."""
    overlays: tuple[str, ...] = ()
    """Names of folders below which overlays lie."""
    trailers: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    """Trailers of commit messages that name a run; what makes its key, or a name of it, of their value."""


PROTOCOL = 1
"""The version of what follows; a format may say as its own PROTOCOL for which it was written."""


class Format(Protocol):
    """One tool's layout of run folders, in all its generations: a module, or any object with these names."""

    KEY: str
    """With a colon, what the keys of its runs begin with; the name of its entry point."""
    VERSION: int
    """What it makes of the same bytes: with another one, its runs are read again."""
    NAME: str
    """The tool, as `runs.format` has it."""
    CONVENTIONS: Conventions
    ANCHORS: frozenset[str]
    """Names of files that come with every run, by which git history finds when a run's folder came; `*` in front stands
    for any beginning."""

    def recognises(self, folder: Folder) -> bool:
        """Whether this folder is a run (or may be one, which only reading tells), judged by names alone."""

    def is_file(self, name: str) -> bool:
        """Whether a file of this name is a run (or may be one, which only reading tells)."""

    def opened(self, folder: Folder, name: str) -> Folder:
        """Such a file as a read-only folder of what is in it; nothing is read yet."""

    def inputs(self, folder: Folder) -> list[str]:
        """The files that the rows of a run depend on, those there are, as paths inside its folder."""

    def inputs_of(self, folder: Folder, trials: Collection[str]) -> list[str] | None:
        """As `inputs`, of some trials, which are folders of these names directly inside, and of what tells of the run
        itself; None where trials cannot be read without the others."""

    def inner_runs(self, folder: Folder) -> list[str]:
        """Names of folders directly inside a run that are runs of their own, sorted."""

    def overlay(self, path: str) -> str | None:
        """Where in the same source the files lie that override those of the run at `path`; None if nowhere."""

    def run_of_overlay(self, path: str) -> str | None:
        """The inverse: the run whose overlay is at `path`; None if that is no overlay."""

    def run_folder(self, anchor: str) -> str | None:
        """The run folder that an anchor file at this path stands for; None if it stands for none."""

    def key_from_names(self, folder: Folder) -> str | None:
        """The identity of a run whose files cannot be read; None if only they tell it. Raises Unreadable."""

    def is_unique(self, name: str) -> bool:
        """Whether no two runs have a folder of this name, wherever they lie."""

    def read(self, folder: Folder, options: Options, earlier: Earlier) -> Run | None:
        """The run in a recognised folder; None if it is none after all. Raises Unreadable."""

    def read_trials(
        self, folder: Folder, options: Options, earlier: EarlierTrials, trials: Collection[str]
    ) -> Run | None:
        """The run with nothing but these trials, and those whose rows change with them; what is not there is gone.

        None where the whole run has to be read. Raises Unreadable, and then the rows of the run stay.
        """


AnyFolder = TypeVar("AnyFolder", bound=Folder)


class Readable(Protocol):
    """A run that a source found, to be read."""

    def read(self, options: Options, earlier: Earlier) -> Run | None:
        """The run; None if it is none after all. Raises Unreadable."""

    def key_from_names(self) -> str | None:
        """Its identity where it cannot be read; None if only its content tells it."""

    @property
    def reader(self) -> str:
        """The key of the format that reads it."""


@dataclass(frozen=True, slots=True)
class RunFile(Generic[AnyFolder]):
    """A file that a format takes for a run by itself: a Readable."""

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
        """The run with these trials alone; None where the whole run has to be read. Raises Unreadable."""
        return self.format.read_trials(self.folder, options, earlier, trials)

    def inputs_of(self, trials: Collection[str]) -> list[str] | None:
        """As `inputs`, of these trials and of what tells of the run itself; None where all have to be read."""
        return self.format.inputs_of(self.folder, trials)

    def overlay(self) -> str | None:
        """Where in the same source the files lie that override its own; None if nowhere."""
        return self.format.overlay(self.folder.path)
