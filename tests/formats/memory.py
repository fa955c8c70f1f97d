"""A folder in memory, as formats see it."""

import io
from collections.abc import Collection, Iterable, Mapping
from typing import IO, Any

from indexer.derive import TOTALS, Sums
from indexer.formats import recognise
from indexer.protocols import Format, Unreadable
from indexer.records import Trial


class MemoryFolder:
    """The tree {path: text or bytes} seen from `path`."""

    def __init__(self, tree: Mapping[str, str | bytes], path: str = "", ref: str | None = None):
        self._tree, self.path, self.ref = tree, path, ref

    def _inside(self) -> list[str]:
        prefix = f"{self.path}/" if self.path else ""
        return [name[len(prefix) :] for name in self._tree if name.startswith(prefix)]

    def files(self) -> Collection[str]:
        return {name for name in self._inside() if "/" not in name}

    def folders(self) -> Collection[str]:
        return {name.split("/")[0] for name in self._inside() if "/" in name}

    def find(self, path: str) -> "MemoryFolder | None":
        return self.elsewhere(f"{self.path}/{path}" if self.path else path)

    def elsewhere(self, path: str) -> "MemoryFolder | None":
        found = MemoryFolder(self._tree, path, self.ref)
        return found if found._inside() else None

    def size(self, path: str) -> int | None:
        text = self._tree.get(f"{self.path}/{path}" if self.path else path)
        return None if text is None else len(text if isinstance(text, bytes) else text.encode())

    def read(self, path: str, limit: int) -> bytes | None:
        text = self._tree.get(f"{self.path}/{path}" if self.path else path)
        if text is None:
            return None
        data = text if isinstance(text, bytes) else text.encode()
        if len(data) > limit:
            raise Unreadable(path, "too-large", "too large")
        return data

    def open(self, path: str) -> IO[bytes] | None:
        data = self.read(path, 1 << 30)
        return None if data is None else io.BytesIO(data)


def totals(trials: Iterable[Trial]) -> dict[str, Any]:
    """The totals over some trials, by column name."""
    sums = Sums()
    for trial in trials:
        sums.add(trial)
    return dict(zip(TOTALS, sums.totals(), strict=True))


def format_of(folder: MemoryFolder) -> Format | None:
    """The format that recognises a folder; None if none does."""
    run = recognise(folder)
    return run.format if run else None
