"""What was read of a run before, as a format may ask for it."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indexer.records import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is indexed of a run of which some trials are read again; sums and times are over all others."""

    key: str
    format: str
    experiment: str
    status: str
    timestamp: str
    is_derived: bool
    """Whether trials are copied from other runs."""
    size_bytes: int
    started_at: str | None
    finished_at: str | None
    running_count: int


class Execution(NamedTuple):
    """What numbers one execution of a test among the others."""

    trial: str
    started_at: str | None
    attempt: int | None


class Earlier(Protocol):
    """What was read of a run folder before, so that a format reads only what changed since."""

    def exists(self) -> bool:
        """Whether the whole run was read before, so that its rows can stay when a file of it is broken."""

    def trial(self, name: str) -> Trial | None:
        """A trial as it was read last; None if it was not."""

    def unchanged(self, part: str) -> bool:
        """Whether no file below the folder `part`, directly inside the run's, changed since."""

    def copies(self) -> bool:
        """Whether trials of it were copied from other runs."""


class EarlierTrials(Earlier, Protocol):
    """The same where only some trials are read again."""

    @property
    def rest(self) -> Rest:
        """What is indexed beside them."""

    def of_test(self, trial: Trial) -> list[Execution]:
        """The executions of a trial's test and target in the run, as they were read last."""


class Nothing:
    """Earlier, for a run that is read for the first time."""

    def exists(self) -> bool:
        return False

    def trial(self, name: str) -> Trial | None:
        return None

    def unchanged(self, part: str) -> bool:
        return False

    def copies(self) -> bool:
        return False
