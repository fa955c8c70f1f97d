"""Runs in a git repository, read from its object database alone: no checkout, no git index, no writing.

`refwalk` finds what changed in a ref. A kill at any point loses nothing: how far a ref was read is stored with its
rows. A partial clone is read up to the commits whose missing files were fetched (see `partial`).
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2

from indexer.changes import Change, Found, Indexed, Missing, Trouble
from indexer.errors import SourceError
from indexer.formats import DRAFTS, REFS
from indexer.masking import error_line
from indexer.protocols import Folder, Unreadable
from indexer.records import utc_now
from indexer.sources import RefSource
from indexer.sources.objects import common_folder
from indexer.sources.partial import LackingObjects, promisor
from indexer.sources.refs import (
    HEAD,
    checked_out,
    followed,
    is_draft,
    is_refspec,
    matches,
    ref_names,
    refspec,
    short_name,
)
from indexer.sources.refwalk import RefWalk
from indexer.sources.repository import Repository, open_repository
from indexer.sources.treewalk import difference, found_file, holds_run, needed_blobs, run_at, run_file_at, whole

_NAMED = 5
"""The most refs named in a message."""


class GitSource(RefSource):
    """The runs in some refs of one repository.

    `refs` are names (`agentv/results/v1` stands for the branch and its remote-tracking branches), full
    names (`refs/…`) or patterns in which `*` matches any text.
    """

    kind = "git"
    rank = 1
    wakes = "refs"
    is_yours = True
    """Whether the user keeps the clone, and may fetch into it."""
    pause: float | None = 1.0  # for a local partial clone, whose refs others move

    def __init__(self, name: str, path: Path, refs: Sequence[str] = REFS, wip: bool = True):
        self.name = name
        self.folder = path
        self.place = str(path)
        self._refs = tuple(refs)
        self._wip = wip
        self._repository: Repository

    def open(self) -> None:
        if self.error is not None:
            raise SourceError(self.error)
        git = open_repository(self.folder)
        with self._one_error():
            self._repository = Repository(git, self._lacking_objects(git))
            fetched = self._repository.fetched
            mine = set(followed(git, self._followed)) if fetched is not None else set()
        if mine and mine.isdisjoint(fetched or ()):
            raise SourceError(f"{self.place} is a partial clone, and the files it lacks have not been fetched yet")

    def prepare(self) -> None:
        with suppress(SourceError):
            self.fetch()

    def keeps(self, path: Path) -> bool:
        places = (self.folder, self.folder / ".git")
        return any(path.is_relative_to(os.path.realpath(each)) for each in places if os.path.isdir(each / "objects"))

    def fetch(self) -> bool:
        """Fetch missing files; returns whether there were any. A failure is kept for `open`, which raises it."""
        began = utc_now()
        try:
            git = open_repository(self.folder)
        except SourceError:
            return False  # `open` reports it
        try:
            lacking = self._lacking_objects(git)
            moved = self._fetch_lacking(git, lacking) if lacking else False
        except (SourceError, OSError, ValueError, pygit2.GitError, KeyError, Unreadable) as error:
            self.error = (
                f"{self.place} is a partial clone, and the files it lacks cannot be fetched: {error_line(str(error))}"
            )
            raise SourceError(self.error) from None
        self.error, self.fetched = None, began if lacking else None
        return moved

    def _fetch_lacking(self, git: pygit2.Repository, lacking: LackingObjects) -> bool:
        tips = dict(Repository(git).tips(self._followed))
        wanted = {ref: commit for ref, commit in tips.items() if commit is not None}
        if wanted.items() <= lacking.fetched().items():
            return False
        with lacking.alone():
            known = lacking.fetched()
            repository = Repository(git, lacking)
            lacking.fetch({
                blob
                for ref, commit in wanted.items()
                if known.get(ref) != commit
                for blob in lacking_blobs(repository, known.get(ref), commit)
            })  # fmt: skip
            lacking.note(wanted, ref_names(git))
        return True

    def _lacking_objects(self, git: pygit2.Repository) -> LackingObjects | None:
        remote = promisor(git)
        return LackingObjects(git, remote) if remote else None

    @property
    def _followed(self) -> tuple[str, ...]:
        return (*self._refs, *(DRAFTS if self._wip else ()))

    def signs(self) -> list[str]:
        place = common_folder(self._repository.git)
        return [f"{place}/packed-refs", f"{place}/refs/"]

    def has_runs(self) -> bool:
        """Whether any ref matches: such a repository is a place of results.

        Needs no `open`: the files that a partial clone lacks may be fetched later. Raises SourceError.
        """
        with self._one_error():
            return any(followed(open_repository(self.folder), self._refs))

    def nothing_found(self) -> str | None:
        """What was looked for, and what is there instead."""
        looked_for = ", ".join(self._refs)
        git = self._repository.git
        with self._one_error():
            others = sorted(ref_names(git) - set(followed(git, self._followed)))
            holding = [ref for ref in others if self._holds_run(ref)]
            cloned = self.is_yours and any(git.remotes.names())
        if holding:
            more = ", …" if len(holding) > _NAMED else ""
            names = ", ".join(short_name(ref) for ref in holding[:_NAMED])
            return f"no runs in {looked_for}; there are some in {names}{more}: name it in refs"
        if cloned:
            refspecs = " ".join(f"'{refspec(pattern)}'" for pattern in self._followed if is_refspec(pattern))
            return f"no runs in {looked_for}; a plain clone may lack them: git fetch origin {refspecs}"
        return f"no runs in {looked_for}, nor in any other ref"

    def _holds_run(self, ref: str) -> bool:
        """Whether a quick search finds a run in an unfollowed ref."""
        root = None if is_draft(ref) else self._repository.root_of(ref)
        return root is not None and holds_run(root)

    def changes(self, indexed: Indexed, paths: Collection[str] | None = None) -> Iterator[Change]:
        with self._one_error():
            yield from self._changes(indexed)

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        """Turn libgit2's errors about an unreadable repository into a SourceError."""
        try:
            yield
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise SourceError(f"path {self.place} cannot be read: {error_line(str(error))}") from error

    def _changes(self, indexed: Indexed) -> Iterator[Change]:
        repository, known = self._repository, indexed.tips()
        published = dict(repository.readable_tips(self._refs))
        drafts = dict(repository.readable_tips(DRAFTS)) if self._wip else {}
        drafts = {ref: commit for ref, commit in drafts.items() if ref not in published}
        # a partial clone may have refs whose files have not been fetched yet
        there = set(followed(repository.git, self._followed)) if repository.fetched is not None else set()
        yield from (Missing(ref) for ref in known if ref not in published and ref not in drafts and ref not in there)
        yield from self._unmatched(published)
        for ref in [ref for refs in (published, drafts) for ref, commit in refs.items() if commit is None]:
            yield Trouble(ref, "", "missing-object", "the commit it names cannot be read")
        walk = RefWalk(repository, indexed)
        moved = known.keys() - drafts.keys() != published.keys()
        for ref, commit in published.items():
            if commit is not None:
                for change in walk.published(ref, commit, known.get(ref)):
                    moved = True
                    yield change
        first = next(filter(None, published.values()), None)
        base = repository.commit(first).tree_id.raw if first else None
        for ref, commit in drafts.items():
            if commit is not None:
                yield from walk.draft(ref, commit, known.get(ref), base, moved=moved)

    def _unmatched(self, published: Mapping[str, str | None]) -> Iterator[Trouble]:
        git = self._repository.git
        head = checked_out(git)
        for name in self._refs:
            if "*" not in name and not any(matches(name, ref) or (name == HEAD and ref == head) for ref in published):
                why = "the repository has no commits yet" if git.is_empty else f"no ref {name} holds a commit"
                yield Trouble(None, name, "missing-ref", why)

    def folder_at(self, ref: str | None, path: str) -> Folder | None:
        root = self._repository.root_of(ref or "") if path else None
        try:
            file = run_file_at(root, path) if root else None
            return file.opened() if file is not None else root.find(path) if root else None
        except Unreadable:
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        root = self._repository.root_of(ref or "") if path else None
        try:
            if root is not None and (file := run_file_at(root, path)) is not None:
                return found_file(file)
            folder = root.find(path) if root is not None else None
            return run_at(folder) if folder is not None else None
        except (KeyError, ValueError, pygit2.GitError, Unreadable):
            return None

    def refs_folders(self) -> list[str]:
        """The folders that change when a ref moves; empty if the repository cannot be opened."""
        try:
            place = common_folder(open_repository(self.folder))
        except SourceError:
            return []
        return [str(place), *(folder for folder, _, _ in os.walk(place / "refs"))]


def lacking_blobs(repository: Repository, old: str | None, new: str) -> Iterator[bytes]:
    """The ids of missing blobs that reading a commit needs, where it differs from another.

    Raises SourceError, Unreadable.
    """
    root = repository.root(new)
    before = repository.root(old) if old and repository.objects.has(bytes.fromhex(old)) else None
    for step in difference(before, root) if before else whole(root):
        if isinstance(step, Found):
            folder, blob = root.find(step.path), root.blob_id(step.path)
            needed = needed_blobs(folder) if folder else [blob] if blob else []
            yield from (each for each in needed if not repository.objects.has(each))
        elif isinstance(step, Trouble) and step.kind == "missing-object":
            raise SourceError("it lacks folders too (--filter=tree:0); use the url of its remote instead of path")
