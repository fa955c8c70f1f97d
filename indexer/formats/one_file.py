"""A single-file run as a read-only folder that holds only this file."""

from collections.abc import Collection
from typing import IO

from indexer.protocols import Folder, Unreadable


class OneFile:
    """The file `name` of a folder as a folder of its own."""

    def __init__(self, parent: Folder, name: str):
        self._parent, self.name = parent, name
        self.path = f"{parent.path}/{name}" if parent.path else name
        self.ref = parent.ref

    def files(self) -> Collection[str]:
        return {self.name}

    def folders(self) -> Collection[str]:
        return set()

    def find(self, path: str) -> Folder | None:
        return None

    def elsewhere(self, path: str) -> Folder | None:
        return self._parent.elsewhere(path)

    def size(self, path: str) -> int | None:
        return self._parent.size(path) if path == self.name else None

    def read(self, path: str, limit: int) -> bytes | None:
        return self._parent.read(path, limit) if path == self.name else None

    def beginning(self, length: int) -> bytes:
        """The first bytes of the file. Raises Unreadable."""
        return beginning(self._parent, self.name, length)

    def open(self, path: str) -> IO[bytes] | None:
        return self._parent.open(path) if path == self.name else None


def beginning(parent: Folder, name: str, length: int) -> bytes:
    """The first bytes of a file. Raises Unreadable."""
    file = parent.open(name)
    if file is None:
        return b""
    try:
        with file:
            return file.read(length)
    except OSError as error:
        raise Unreadable(name, "denied", str(error.strerror).lower()) from None
