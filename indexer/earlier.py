"""What a format may ask about the last read of a run."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexer.records import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is indexed of a run besides the trials that are read again; sums and times cover only the others."""

    key: str
    format: str
    experiment: str
    status: str
    timestamp: str
    is_derived: bool
    """Whether trials are copied from other runs."""
    size_bytes: int
    """Bytes of the other trials' files only: the run's own files are read again too."""
    started_at: str | None
    finished_at: str | None
    running_count: int


class Execution(NamedTuple):
    """One execution of a test: its start, which decides its attempt number, and that number."""

    trial: str
    started_at: str | None
    attempt: int | None


class Earlier(Protocol):
    """The last read of a run folder, so that a format reads only what changed since."""

    def exists(self) -> bool:
        """Whether the whole run was read before, so that its rows can stay when one of its files is broken."""

    def trial(self, name: str) -> Trial | None:
        """A trial as it was read last; None if it was not."""

    def unchanged(self, part: str) -> bool:
        """Whether the file or folder `part`, directly inside the run's folder, is known not to have changed since."""

    def copies(self) -> bool:
        """Whether some of its trials were copied from other runs."""


class EarlierTrials(Earlier, Protocol):
    """`Earlier`, for when only some trials are read again."""

    @property
    def rest(self) -> Rest:
        """What is indexed besides these trials."""

    def of_test(self, trial: Trial) -> list[Execution]:
        """The executions of a trial's test and target in the run, as they were read last."""


class Nothing:
    """`Earlier` for a run that is read for the first time, or as if it were."""

    def exists(self) -> bool:
        return False

    def trial(self, name: str) -> Trial | None:
        return None

    def unchanged(self, part: str) -> bool:
        return False

    def copies(self) -> bool:
        return False
