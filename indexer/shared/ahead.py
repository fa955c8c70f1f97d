"""Prepares the next batch while the one before is sent."""

import threading
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items; while one is used, a thread makes the next. Closing it waits for that thread.

    The threads are daemons, so that none holds up the end of the program.
    """
    coming = _Coming(items)
    try:
        while made := coming.waited():
            coming = _Coming(items)
            yield from made
    finally:
        coming.thread.join()


class _Coming(Generic[Item]):
    """The next item, made in a thread."""

    def __init__(self, source: Iterator[Item]):
        self._source = source
        self._made: list[Item] = []
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._make, daemon=True)
        self.thread.start()

    def _make(self) -> None:
        try:
            self._made = list(islice(self._source, 1))
        except BaseException as error:  # raised where the item is waited for
            self._error = error

    def waited(self) -> list[Item]:
        """The item, or nothing at the end. Raises what making it raised."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._made
