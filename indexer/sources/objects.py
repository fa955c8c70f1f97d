"""Trees and blobs of a git repository as folders, read from the object database alone."""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

import pygit2

from indexer.protocols import Unreadable

_TREE_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_CACHED_TREES = 512

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Tree:
    """A tree object: object ids (20 bytes) of its files and folders by name. Links and submodules are left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, bytes] = field(default_factory=dict)


class Objects:
    """The object database of one repository. `failed` is set once an object could not be read."""

    def __init__(self, repository: pygit2.Repository, missing_hint: str = ""):
        self._odb = repository.odb
        self._missing_hint = missing_hint
        self._trees: OrderedDict[bytes, Tree] = OrderedDict()
        self.failed = False

    def tree(self, oid: bytes, path: str) -> Tree:
        """The tree object `oid`, which lies at `path`. Raises Unreadable."""
        tree = self._trees.get(oid)
        if tree is None:
            tree = self._trees[oid] = parse_tree(self._read(oid, path))
            if len(self._trees) > _CACHED_TREES:
                self._trees.popitem(last=False)
        else:
            self._trees.move_to_end(oid)
        return tree

    def size(self, oid: bytes, path: str) -> int:
        """The size of a blob in bytes; 0 for one that is missing, which only reading tells."""
        try:
            return self._guarded(oid, path, self._odb.read_header)[1]
        except Unreadable:
            return 0

    def blob(self, oid: bytes, path: str, limit: int) -> bytes:
        """The bytes of a blob of at most `limit` bytes. Raises Unreadable."""
        size = self._guarded(oid, path, self._odb.read_header)[1]
        if size > limit:
            raise Unreadable(path, "too-large", f"{size:,} bytes are more than the {limit:,} that are read")
        return self._read(oid, path)

    def _read(self, oid: bytes, path: str) -> bytes:
        return self._guarded(oid, path, self._odb.read)[1]

    def _guarded(self, oid: bytes, path: str, read: Callable[[pygit2.Oid], Answer]) -> Answer:
        try:
            return read(pygit2.Oid(raw=oid))
        except KeyError:
            self.failed = True
            kind = "partial-clone" if self._missing_hint else "missing-object"
            message = self._missing_hint or f"object {oid.hex()} is missing from the repository"
            raise Unreadable(path, kind, message) from None
        except (pygit2.GitError, ValueError, OSError) as error:
            self.failed = True
            raise Unreadable(path, "corrupt-object", f"object {oid.hex()} cannot be read: {error}") from None


def parse_tree(data: bytes) -> Tree:
    """The entries of a raw tree object (git's `tree` format: mode, name, NUL, 20 bytes of object id)."""
    tree = Tree()
    for mode, raw, oid in _TREE_ENTRY.findall(data):
        name = raw.decode("utf-8", "backslashreplace")
        if name in (".", "..") or "/" in name:
            continue
        if mode in (b"40000", b"040000"):
            tree.folders[name] = oid
        elif mode.startswith(b"100"):
            tree.files[name] = oid
    return tree


@dataclass(slots=True)
class GitFolder:
    """A tree of a commit as a Folder. `root` is the commit's own tree."""

    objects: Objects
    oid: bytes
    path: str
    ref: str
    root: bytes

    def files(self) -> Collection[str]:
        return self.tree().files

    def folders(self) -> Collection[str]:
        return self.tree().folders

    def tree(self) -> Tree:
        return self.objects.tree(self.oid, self.path)

    def find(self, path: str) -> "GitFolder | None":
        folder = self
        for name in path.split("/") if path else []:
            oid = folder.tree().folders.get(name)
            if oid is None:
                return None
            folder = folder.child(name, oid)
        return folder

    def child(self, name: str, oid: bytes) -> "GitFolder":
        """The folder `name` directly inside, whose tree is `oid`."""
        return GitFolder(self.objects, oid, f"{self.path}/{name}" if self.path else name, self.ref, self.root)

    def elsewhere(self, path: str) -> "GitFolder | None":
        return GitFolder(self.objects, self.root, "", self.ref, self.root).find(path)

    def size(self, path: str) -> int | None:
        oid = self._file(path)
        return None if oid is None else self.objects.size(oid, path)

    def read(self, path: str, limit: int) -> bytes | None:
        oid = self._file(path)
        return None if oid is None else self.objects.blob(oid, path, limit)

    def _file(self, path: str) -> bytes | None:
        parent, _, name = path.rpartition("/")
        folder = self.find(parent)
        return folder.tree().files.get(name) if folder else None
