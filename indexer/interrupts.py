"""SIGINT and SIGTERM set a flag; long work checks it where stopping is safe.

An exception from a signal handler could strike anywhere, even while a file is being closed or a transaction rolled
back. A second signal ends the process at once; the index stays as it was, as after any kill.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_requested: int | None = None  # signals belong to the process, and so does this


class Interrupted(BaseException):
    """A signal asked to stop; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def handled() -> Iterator[None]:
    """Make SIGINT and SIGTERM requests to stop at the next check. Main thread only."""
    global _requested
    before = {number: signal.signal(number, _request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested = None


def requested() -> bool:
    """Whether a signal asked to stop."""
    return _requested is not None


def check() -> None:
    """Raises Interrupted if a signal asked to stop."""
    if _requested is not None:
        raise Interrupted(_requested)


def _request(number: int, _frame: FrameType | None) -> None:
    global _requested
    _requested = number
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
