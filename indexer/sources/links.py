"""The symlinks among a source's folders: which of them are walked, and the real paths behind them."""

import os
from collections.abc import Collection

from indexer.changes import is_within
from indexer.formats import recognise
from indexer.protocols import Unreadable
from indexer.sources import walkable
from indexer.sources.disk import DiskFolder, joined, root_folder


class Links:
    """The real paths of folders that the last passes found behind links, by their paths inside the source.

    A link is not walked if a full walk reaches its target by another way.
    """

    def __init__(self, place: str):
        self._place = place
        self._real: dict[str, str] = {}

    def clear(self) -> None:
        self._real.clear()

    def note(self, folder: DiskFolder) -> None:
        """Remember the links on the way to a walked folder, and those inside a run."""
        if folder.path in self._real and folder.path not in folder.snapshot.links:
            self.forget(folder.path)  # a folder took the link's place
        for path, real in folder.snapshot.links.items():
            if is_within(folder.path, path) or (is_within(path, folder.path) and recognise(folder) is not None):
                self._real[path] = real

    def forget(self, path: str) -> None:
        """Forget the links at and below a path that is gone."""
        for gone in [each for each in self._real if is_within(each, path)]:
            del self._real[gone]

    def real_path(self, path: str) -> str:
        """Where a folder of the source lies on this machine, links followed."""
        above = [path[:at] for at, character in enumerate(f"{path}/") if character == "/"]
        behind = next((each for each in reversed(above) if each in self._real), None)
        if behind is None:
            return f"{os.path.realpath(self._place)}/{path}".rstrip("/")
        return f"{self._real[behind]}{path[len(behind) :]}"

    def paths_at(self, real: str) -> list[str]:
        """The paths inside the source for a real path, one for each way through links."""
        ways = [("", os.path.realpath(self._place)), *self._real.items()]
        inside = [(way, os.fsencode(real[len(place) + 1 :])) for way, place in ways if is_within(real, place)]
        return [joined(way, rest.decode("utf-8", "backslashreplace")) for way, rest in inside]


def is_passed_over(root: DiskFolder, path: str, parts: Collection[str]) -> bool:
    """Whether a full walk would skip a path: a link on the way leads to what it walks anyway."""
    for at in (at for at, character in enumerate(f"{path}/") if character == "/"):
        linked = root.find(path[:at])
        if linked is None:
            return False
        if path[:at] in root.snapshot.links:
            above = root.find(path[:at].rpartition("/")[0]) if "/" in path[:at] else root
            if above is not None:
                above.folders()  # finds the links beside
            if path[:at] not in parts and is_walked(root.real, linked, parts):
                return True
    return False


def is_walked(place: str, linked: DiskFolder, parts: Collection[str]) -> bool:
    """Whether a walk reaches a link's target by another way, through no run and no dot folder.

    Raises SourceError.
    """
    real, above = linked.real, linked.path.rpartition("/")[0]
    for path, to in linked.snapshot.links.items():
        is_beside = path.rpartition("/")[0] == above
        if is_beside and is_within(real, to) and (real != to or path < linked.path):
            return True
    root = root_folder(place, parts)
    return any(_leads_to(root, part, real) for part in parts)


def _leads_to(root: DiskFolder, part: str, real: str) -> bool:
    """Whether a walk from a part comes to a real path."""
    try:
        here = root.find(part) if part else root
        if here is None or not is_within(real, here.real):
            return False
        for name in real[len(here.real) + 1 :].split("/") if real != here.real else ():
            if not walkable(name) or (here.path and recognise(here) is not None):
                return False
            here = here.find(name)
            if here is None:
                return False
    except Unreadable:
        return False
    return True
