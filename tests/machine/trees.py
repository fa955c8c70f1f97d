"""A ref of a repository and a folder on disk as the same thing: files by path that can be changed."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.repos import Repo

Changes = Mapping[str, str | None]


class Tree(Protocol):
    """Where runs lie. Text is written as bytes with surrogates for what is no UTF-8."""

    def files(self) -> dict[str, str]:
        """Every file by its path."""

    def change(self, changes: Changes) -> None:
        """Write files; None removes a file or folder."""


class RefTree:
    """What a ref of a bare repository holds; each change is a commit."""

    def __init__(self, repo: Repo, ref: str):
        self.repo, self.ref = repo, ref

    def exists(self) -> bool:
        return self.ref in self.repo.pygit2.references

    def files(self) -> dict[str, str]:
        if not self.exists():
            return {}
        found = self.repo.files(self.repo.tip(self.ref))
        return {path: self.repo.blob(oid).decode("utf-8", "surrogateescape") for path, oid in found.items()}

    def change(self, changes: Changes) -> None:
        self.repo.commit(encoded(changes), ref=self.ref)


class DiskTree:
    """A folder on disk."""

    def __init__(self, root: Path):
        self.root = root

    def files(self) -> dict[str, str]:
        found = (Path(folder) / name for folder, _, names in os.walk(self.root, followlinks=True) for name in names)
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes().decode("utf-8", "surrogateescape")
            for path in sorted(found)
            if path.is_file()
        }

    def change(self, changes: Changes) -> None:
        for name, text in changes.items():
            path = self.root / name
            if text is None:
                self._remove(path)
                continue
            if path.is_dir():
                self._remove(path)
            for parent in path.relative_to(self.root).parents:
                if (self.root / parent).is_file():
                    (self.root / parent).unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(text))

    def replace(self, name: str, text: str) -> None:
        """Write a file under another name, then rename it over the old one."""
        path = self.root / name
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(_bytes(text))
        new.rename(path)

    def rewrite_unseen(self, name: str, text: str) -> None:
        """Other content of the same size under the same modification time."""
        path = self.root / name
        status = path.stat()
        path.write_bytes(_bytes(text)[: status.st_size].ljust(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def set_back(self, name: str, text: str) -> None:
        """Other content under a modification time of long ago."""
        path = self.root / name
        path.write_bytes(_bytes(text))
        os.utime(path, (1, 1))

    def link(self, source: str, target: str) -> None:
        """Copy a folder by hard links."""
        self.change({target: None})
        shutil.copytree(self.root / source, self.root / target, copy_function=os.link)

    def lead_to(self, source: str, target: str) -> None:
        """Move a file or folder out of the tree and leave a link to it."""
        place = self.root.with_name(f"{self.root.name}-linked") / target.replace("/", "-")
        self._remove(place)
        place.parent.mkdir(exist_ok=True)
        shutil.move(self.root / source, place)
        self.change({target: None})
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).symlink_to(place)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        parent = path.parent
        while parent not in (self.root, self.root.parent) and parent.is_dir() and not any(parent.iterdir()):
            if parent.is_symlink():
                parent.unlink()
            else:
                parent.rmdir()
            parent = parent.parent


def encoded(changes: Changes) -> dict[str, bytes | None]:
    """Changes as bytes."""
    return {path: None if text is None else _bytes(text) for path, text in changes.items()}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
