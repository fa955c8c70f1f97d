"""A git repository opened for reading: its commits, its trees and the tips of its refs."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pygit2
from pygit2.enums import RepositoryOpenFlag

from indexer.errors import SourceError
from indexer.masking import error_line
from indexer.protocols import Unreadable
from indexer.sources.objects import GitFolder, Objects
from indexer.sources.partial import LackingObjects
from indexer.sources.refs import followed


class Repository:
    """One repository; a partial clone includes the objects that were fetched for it."""

    def __init__(self, git: pygit2.Repository, lacking: LackingObjects | None = None):
        self.git = git
        self.objects = Objects(git, lacking.objects if lacking else None)
        self.fetched = lacking.fetched() if lacking else None
        """By ref, the commit up to which a partial clone's missing blobs are here; None for a full clone."""
        self.boundary = _shallow_boundary(git)
        """The commits where a shallow clone ends; empty for a whole one."""

    def commit(self, sha: str) -> pygit2.Commit:
        """A commit by its id. Raises KeyError, ValueError, pygit2.GitError."""
        self.objects.require(bytes.fromhex(sha))
        return self.git[sha].peel(pygit2.Commit)

    def tree(self, oid: bytes, ref: str = "") -> GitFolder:
        """A tree as a root folder."""
        return GitFolder(self.objects, oid, "", ref, oid)

    def root(self, sha: str, ref: str = "") -> GitFolder:
        """The root folder of a commit. Raises what `commit` does."""
        return self.tree(self.commit(sha).tree_id.raw, ref)

    def root_of(self, ref: str) -> GitFolder | None:
        """The root folder of a ref as it is now; None if it cannot be read."""
        try:
            if self.fetched is not None:
                return self.root(self.fetched[ref], ref)
            reference = self.git.references[ref]
            self.objects.require(bytes.fromhex(str(reference.target)))
            return self.tree(reference.peel(pygit2.Commit).tree_id.raw, ref)
        except (KeyError, ValueError, pygit2.GitError, Unreadable):
            return None

    def tips(self, patterns: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """Full names of the refs that match, sorted, with their commits' ids; None for one that cannot be read."""
        for ref in followed(self.git, patterns):
            try:
                reference = self.git.references[ref]
                if reference.type == pygit2.enums.ReferenceType.DIRECT:
                    self.objects.require(bytes.fromhex(str(reference.target)))
                    yield ref, str(reference.peel(pygit2.Commit).id)
            except pygit2.InvalidSpecError:
                continue  # a tag of a file or tree
            except (KeyError, ValueError, pygit2.GitError):
                yield ref, None

    def readable_tips(self, patterns: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """Like `tips`; in a partial clone only refs that were fetched for, at the fetched commits."""
        for ref, commit in self.tips(patterns):
            if self.fetched is None or commit is None:
                yield ref, commit
            elif ref in self.fetched:
                yield ref, self.fetched[ref]

    def history_id(self, sha: str) -> str:
        """What the history of a commit depends on: itself, and where a shallow clone ends."""
        ends = hashlib.sha1(repr(sorted(self.boundary)).encode()).hexdigest() if self.boundary else ""
        return f"{sha} {ends}".strip()

    def descends(self, sha: str, ancestor: str) -> bool:
        """Whether a commit equals or descends from another."""
        try:
            return sha == ancestor or self.git.descendant_of(sha, ancestor)
        except (KeyError, ValueError, pygit2.GitError):
            return False


def open_repository(path: Path) -> pygit2.Repository:
    """The repository at a path, bare or with a worktree. Raises a SourceError that says what to do."""
    pygit2.settings.enable_caching(False)  # libgit2 would keep 256 MB of commits and trees that are read once
    try:
        return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    except (pygit2.GitError, KeyError, ValueError, OSError) as error:
        why = str(error)
    if not os.path.lexists(path):
        raise SourceError(f"path {path} does not exist")
    if "sha256" in why:
        raise SourceError(f"{path} is a SHA-256 repository, which cannot be read yet; use a SHA-1 clone of it")
    if "refstorage" in why.lower():
        raise SourceError(f"{path} keeps its refs as a reftable, which cannot be read yet; use one with ref files")
    if "not owned" in why:
        raise SourceError(f"{path} belongs to another user; allow it: git config --global --add safe.directory {path}")
    if "not found" in why.lower():
        raise SourceError(f"{path} is not a git repository")
    raise SourceError(f"{path} cannot be opened: {error_line(why)}")


def _shallow_boundary(git: pygit2.Repository) -> frozenset[str]:
    if not git.is_shallow:
        return frozenset()
    for place in (Path(git.path), Path(git.path).parent.parent):
        if (place / "shallow").is_file():
            return frozenset((place / "shallow").read_text().split())
    return frozenset()
