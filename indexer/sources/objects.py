"""Trees and blobs of a git repository as folders, read from the object database alone."""

import io
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import pygit2

from indexer.protocols import Unreadable

_TREE_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_CACHED_TREES = 512
LARGEST = 256 << 20
"""The most bytes of a blob opened for random access: git reads it whole."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Tree:
    """A tree object: object ids (20 bytes) of its files and folders by name. Links and submodules are left out."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, bytes] = field(default_factory=dict)


class _Torn(ValueError):
    """A truncated loose object."""


class Loose:
    """The loose objects of a repository and its alternates.

    They are read here because libgit2 hangs on a truncated one, as a power cut leaves it.
    """

    def __init__(self, repository: pygit2.Repository, lent: Path | None = None):
        self._folders: dict[str, list[str]] = {}
        waiting, seen = [common_folder(repository) / "objects", *([lent] if lent else [])], set[Path]()
        while waiting:
            folder = Path(os.path.realpath(waiting.pop()))
            if folder not in seen:
                seen.add(folder)
                for name in _names(folder):
                    self._folders.setdefault(name, []).append(f"{folder}/{name}")
                waiting += [folder / other for other in _lines(folder / "info/alternates")]

    def read(self, oid: bytes, most: int = 0) -> tuple[int, bytes] | None:
        """Size and content of an object, only the first `most` bytes if given; None if it is not loose.

        Raises ValueError for a damaged one.
        """
        if not self._folders:
            return None
        name = oid.hex()
        for folder in self._folders.get(name[:2], ()):
            try:
                with open(f"{folder}/{name[2:]}", "rb") as file:
                    data = file.read(most + 1024 if most else -1)
            except FileNotFoundError:
                continue
            try:
                content = zlib.decompressobj().decompress(data, most + 32 if most else 0)
            except zlib.error as error:
                raise _Torn(f"loose object is damaged: {error}") from None
            header, _, content = content.partition(b"\0")
            size = int(header.rpartition(b" ")[2] or b"-1")
            if len(content) < (min(size, most) if most else size) or size < 0:
                raise _Torn("loose object ends early")
            return size, content
        return None


def common_folder(repository: pygit2.Repository) -> Path:
    """The folder with refs and objects; a linked worktree uses those of its main repository."""
    place = Path(repository.path)
    return Path(os.path.realpath(place.joinpath(*_lines(place / "commondir")[:1])))


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if len(name) == 2]
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read().splitlines() if line and not line.startswith("#")]
    except OSError:
        return []


class Objects:
    """The object database of one repository, and a further folder with more of its objects.

    `failed` is set once an object could not be read.
    """

    def __init__(self, repository: pygit2.Repository, lent: Path | None = None):
        self._odb = repository.odb
        if lent is not None:
            self._odb.add_disk_alternate(str(lent))
        self._loose = Loose(repository, lent)
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
        """The size of a blob in bytes; 0 for one that is missing or damaged, which reading reports."""
        try:
            return self._guarded(oid, path, self._size)
        except Unreadable:
            return 0

    def blob(self, oid: bytes, path: str, limit: int) -> bytes:
        """The bytes of a blob of at most `limit` bytes. Raises Unreadable."""
        size = self._guarded(oid, path, self._size)
        if size > limit:
            raise Unreadable(path, "too-large", f"{size:,} bytes are more than the {limit:,} that are read")
        return self._read(oid, path)

    def _read(self, oid: bytes, path: str) -> bytes:
        return self._guarded(oid, path, self._content)

    def has(self, oid: bytes) -> bool:
        """Whether an object is here."""
        return self._odb.exists(pygit2.Oid(raw=oid))

    def require(self, oid: bytes) -> None:
        """Raises ValueError for a damaged loose object: libgit2 must not read it."""
        self._loose.read(oid)

    def _size(self, oid: bytes) -> int:
        loose = self._loose.read(oid, most=1)
        return int(self._odb.read_header(pygit2.Oid(raw=oid))[1]) if loose is None else loose[0]

    def _content(self, oid: bytes) -> bytes:
        loose = self._loose.read(oid)
        return self._odb.read(pygit2.Oid(raw=oid))[1] if loose is None else loose[1]

    def _guarded(self, oid: bytes, path: str, read: Callable[[bytes], Answer]) -> Answer:
        try:
            return read(oid)
        except KeyError:
            self.failed = True
            raise Unreadable(path, "missing-object", f"object {oid.hex()} is missing from the repository") from None
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


class GitFolder:
    """A tree of a commit as a Folder. `root` is the commit's own tree."""

    __slots__ = ("_tree", "objects", "oid", "path", "ref", "root")

    def __init__(self, objects: Objects, oid: bytes, path: str, ref: str, root: bytes):
        self.objects, self.oid, self.path, self.ref, self.root = objects, oid, path, ref, root
        self._tree: Tree | None = None

    def files(self) -> Collection[str]:
        return self.tree().files

    def folders(self) -> Collection[str]:
        return self.tree().folders

    def tree(self) -> Tree:
        if self._tree is None:
            self._tree = self.objects.tree(self.oid, self.path)
        return self._tree

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
        oid = self.blob_id(path)
        return None if oid is None else self.objects.size(oid, path)

    def read(self, path: str, limit: int) -> bytes | None:
        oid = self.blob_id(path)
        return None if oid is None else self.objects.blob(oid, path, limit)

    def open(self, path: str) -> IO[bytes] | None:
        data = self.read(path, LARGEST)
        return None if data is None else io.BytesIO(data)

    def blob_id(self, path: str) -> bytes | None:
        """The object id of a file inside; None if there is none."""
        parent, _, name = path.rpartition("/")
        folder = self.find(parent)
        return folder.tree().files.get(name) if folder else None
