"""Runs in a git repository: the object database only, no checkout, no index, no write.

A ref whose tip did not move costs nothing. When it moved, the old and the new tree are walked side by
side and only where their object ids differ, so one new run among 100,000 costs the trees on its path. If
the old tree is gone (a rewritten branch after `git gc`, another clone in the same place), the new tree is
walked whole and each run folder's object id is compared with the one it was indexed under: equal ids mean
nothing to read. Killed at any point, nothing is lost: how far a ref was read is stored with what was read.

Refs of runs in progress (`agentv/wip/<host>/<run>`) hold every published run besides their own. Such a
ref gives only the run it is named after, and nothing once that run's folder is published, or ever was: what is left
of a ref whose run was published and deleted is no run in progress. Where the name is a run's alone, that is known
before the tree is opened.

A partial clone is read up to where the files that it lacks were fetched (see `partial`).
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pygit2
from pygit2.enums import RepositoryOpenFlag

from indexer.changes import (
    Added,
    Advance,
    Change,
    Found,
    Gone,
    History,
    Known,
    Missing,
    Same,
    Swept,
    Tip,
    Trouble,
    plain_name,
)
from indexer.errors import SourceError
from indexer.formats import is_unique, recognise, run_of_overlay
from indexer.formats.masking import error_line
from indexer.protocols import Unreadable
from indexer.records import utc_now
from indexer.sources import DEEPEST, RefSource, walkable
from indexer.sources.history import AddedFolders, signed
from indexer.sources.objects import GitFolder, Objects, Tree, common_folder
from indexer.sources.partial import LackingObjects, promisor
from indexer.sources.refs import (
    DEFAULT_REFS,
    HEAD,
    WIP_REFS,
    checked_out,
    followed,
    is_draft,
    matches,
    ref_names,
    short_name,
)

_GLANCE = 2000
"""Folders in which a ref that nobody named is searched for a run."""
_NAMED = 5
"""Refs that are named in a message."""


@dataclass(frozen=True, slots=True)
class _Overlaid:
    """The files that override those of the run at `path` differ."""

    path: str


class GitSource(RefSource):
    """The runs in some refs of one repository.

    `refs` are names (`agentv/results/v1` stands for the branch and its remote-tracking branches), full
    names (`refs/…`) or patterns in which `*` matches any text.
    """

    kind = "git"
    rank = 1
    wakes = "refs"
    pause: float | None = 1.0  # of a partial clone on this machine, whose refs others move

    def __init__(self, name: str, path: Path, refs: Sequence[str] = DEFAULT_REFS, wip: bool = True):
        self.name = name
        self.folder = path
        self.place = str(path)
        self._refs = tuple(refs)
        self._wip = wip
        self._objects: Objects
        self._repository: pygit2.Repository
        self._fetched_tips: Mapping[str, str] | None = None  # of a partial clone

    def open(self) -> None:
        if self.error is not None:
            raise SourceError(self.error)
        self._repository = open_repository(self.folder)
        with self._one_error():
            lacking = self._lacking_objects()
            self._objects = Objects(self._repository, lacking.objects if lacking else None)
            self._fetched_tips = lacking.fetched() if lacking else None
            mine = set(followed(self._repository, self._followed)) if lacking else set()
        if mine and mine.isdisjoint(self._fetched_tips or ()):
            raise SourceError(f"{self.place} is a partial clone, and the files it lacks have not been fetched yet")

    def prepare(self) -> None:
        with suppress(SourceError):
            self.fetch()

    def keeps(self, path: Path) -> bool:
        places = (self.folder, self.folder / ".git")
        return any(path.is_relative_to(os.path.realpath(each)) for each in places if os.path.isdir(each / "objects"))

    def fetch(self) -> bool:
        """Bring in what is lacking here; whether anything was. A failure is kept for `open`, which raises it."""
        began = utc_now()
        try:
            repository = open_repository(self.folder)
        except SourceError:
            return False  # `open` tells
        try:
            remote = promisor(repository)
            lacking = LackingObjects(repository, remote) if remote else None
            moved = self._fetch_lacking(repository, lacking) if lacking else False
        except (SourceError, OSError, ValueError, pygit2.GitError, KeyError, Unreadable) as error:
            self.error = (
                f"{self.place} is a partial clone, and the files it lacks cannot be fetched: {error_line(str(error))}"
            )
            raise SourceError(self.error) from None
        self.error, self.fetched = None, began if lacking else None
        return moved

    def _fetch_lacking(self, repository: pygit2.Repository, lacking: LackingObjects) -> bool:
        tips = dict(_tips(repository, self._followed, Objects(repository)))
        wanted = {ref: commit for ref, commit in tips.items() if commit is not None}
        if wanted.items() <= lacking.fetched().items():
            return False
        with lacking.alone():
            known = lacking.fetched()
            reader = GitSource(self.name, self.folder)  # another thread may be reading with this one
            reader._repository, reader._objects = repository, Objects(repository, lacking.objects)
            lacking.fetch({
                blob
                for ref, commit in wanted.items()
                if known.get(ref) != commit
                for blob in reader.lacking(known.get(ref), commit)
            })  # fmt: skip
            lacking.note(wanted, ref_names(repository))
        return True

    def _lacking_objects(self) -> LackingObjects | None:
        remote = promisor(self._repository)
        return LackingObjects(self._repository, remote) if remote else None

    @property
    def _followed(self) -> tuple[str, ...]:
        return (*self._refs, *(WIP_REFS if self._wip else ()))

    def has_runs(self) -> bool:
        """Whether any ref matches, which is how a repository is recognised as a place of results.

        Needs no `open`: the files that a partial clone lacks may be fetched later. Raises SourceError.
        """
        with self._one_error():
            return any(followed(open_repository(self.folder), self._refs))

    def nothing_found(self) -> str | None:
        """What was looked for in vain, and what is there instead."""
        looked_for = ", ".join(self._refs)
        with self._one_error():
            others = sorted(ref_names(self._repository) - set(followed(self._repository, self._followed)))
            holding = [ref for ref in others if self._holds_run(ref)]
            cloned = any(self._repository.remotes.names())
        if holding:
            more = ", …" if len(holding) > _NAMED else ""
            names = ", ".join(short_name(ref) for ref in holding[:_NAMED])
            return f"no runs in {looked_for}; there are some in {names}{more}: name it in refs"
        if cloned:
            return (
                f"no runs in {looked_for}; a plain clone may lack them: "
                "git fetch origin '+refs/heads/agentv/*:refs/remotes/origin/agentv/*' '+refs/agentv/*:refs/agentv/*'"
            )
        return f"no runs in {looked_for}, nor in any other ref"

    def _holds_run(self, ref: str) -> bool:
        """Whether a run is found at once in a ref that is not followed."""
        folder = None if is_draft(ref) else self._root_of(ref)
        if folder is None:
            return False
        try:
            return any(isinstance(step, Found) for step in islice(self._glance(folder), _GLANCE))
        except Unreadable:
            return False

    def _glance(self, folder: GitFolder) -> Iterator[Found | None]:
        """The folders of a tree, level by level; those that are a run as such."""
        level = [folder]
        while level:
            below = []
            for each in level:
                found = self._found(each) if each.path else None
                yield found
                if found is None and each.path.count("/") < DEEPEST:
                    below += [each.child(name, oid) for name, oid in each.tree().folders.items() if walkable(name)]
            level = below

    def changes(self, known: Known, paths: Collection[str] | None = None) -> Iterator[Change]:
        with self._one_error():
            yield from self._changes(known)

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        """What libgit2 says of a repository that it cannot read, as a SourceError."""
        try:
            yield
        except (pygit2.GitError, KeyError, ValueError, OSError) as error:
            raise SourceError(f"path {self.place} cannot be read: {error_line(str(error))}") from error

    def _changes(self, known: Known) -> Iterator[Change]:
        indexed = known.tips()
        published = dict(self._tips(self._refs))
        drafts = {ref: commit for ref, commit in self._tips(WIP_REFS) if ref not in published} if self._wip else {}
        # of a partial clone a ref may be there that nobody fetched for yet
        there = set(followed(self._repository, self._followed)) if self._fetched_tips is not None else set()
        yield from (Missing(ref) for ref in indexed if ref not in published and ref not in drafts and ref not in there)
        yield from self._unmatched(published)
        for ref in [ref for refs in (published, drafts) for ref, commit in refs.items() if commit is None]:
            yield Trouble(ref, "", "missing-object", "the commit it names cannot be read")
        moved = indexed.keys() - drafts.keys() != published.keys()
        for ref, commit in published.items():
            if commit is None:
                continue
            for change in self._published(ref, commit, indexed.get(ref), known):
                moved = True
                yield change
        first = next(filter(None, published.values()), None)
        base = self._commit(first).tree_id.raw if first else None
        for ref, commit in drafts.items():
            if commit is not None:
                yield from self._draft(ref, commit, indexed.get(ref), known, moved, base)

    def folder_at(self, ref: str | None, path: str) -> GitFolder | None:
        root = self._root_of(ref or "") if path else None
        try:
            return root.find(path) if root else None
        except Unreadable:
            return None

    def _root_of(self, ref: str) -> GitFolder | None:
        """The tree of a ref as it is now; None if it cannot be read."""
        try:
            if self._fetched_tips is not None:
                return self._root(ref, self._commit(self._fetched_tips[ref]))
            reference = self._repository.references[ref]
            self._objects.require(bytes.fromhex(str(reference.target)))
            return self._root(ref, reference.peel(pygit2.Commit))
        except (KeyError, ValueError, pygit2.GitError, Unreadable):
            return None

    def find(self, ref: str | None, path: str) -> Found | None:
        folder = self.folder_at(ref, path)
        try:
            return self._found(folder) if folder is not None else None
        except (KeyError, ValueError, pygit2.GitError, Unreadable):
            return None

    def refs_folders(self) -> list[str]:
        """The folders in which something happens when a ref moves; empty if the repository cannot be opened."""
        try:
            place = common_folder(open_repository(self.folder))
        except SourceError:
            return []
        return [str(place), *(folder for folder, _, _ in os.walk(place / "refs"))]

    def lacking(self, old: str | None, new: str) -> Iterator[bytes]:
        """The object ids of the files that are read of a commit, where it differs from another, and are not here.

        Raises SourceError, Unreadable.
        """
        root = self._root("", self._commit(new))
        before = self._root("", self._commit(old)) if old and self._objects.has(bytes.fromhex(old)) else None
        for step in self._difference(before, root) if before else self._whole(root):
            if isinstance(step, Found):
                yield from (blob for blob in _files(step) if not self._objects.has(blob))
            elif isinstance(step, Trouble) and step.kind == "missing-object":
                raise SourceError("it lacks folders too (--filter=tree:0); use the url of its remote instead of path")

    def _tips(self, patterns: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """Full names of the refs that match, sorted, with their commits' ids; None for one that cannot be read."""
        for ref, commit in _tips(self._repository, patterns, self._objects):
            if self._fetched_tips is None or commit is None:
                yield ref, commit
            elif ref in self._fetched_tips:
                yield ref, self._fetched_tips[ref]

    def _unmatched(self, published: Mapping[str, str | None]) -> Iterator[Trouble]:
        head = checked_out(self._repository)
        for name in self._refs:
            if "*" not in name and not any(matches(name, ref) or (name == HEAD and ref == head) for ref in published):
                unborn = self._repository.is_empty
                why = "the repository has no commits yet" if unborn else f"no ref {name} holds a commit"
                yield Trouble(None, name, "missing-ref", why)

    def _published(self, ref: str, commit: str, tip: Tip | None, known: Known) -> Iterator[Change]:
        boundary = shallow_boundary(self._repository)
        history = history_id(commit, boundary)
        if tip and tip.commit == commit and tip.tree and tip.history == history:
            return
        with ExitStack() as stack:
            told = None
            if not tip or tip.history != history:
                told = self._history(ref, commit, boundary, tip.history if tip else "", history, stack)
            self._objects.failed = False
            yield from self._tree_changes(ref, commit, tip, known)
            tree = "" if self._objects.failed else str(self._commit(commit).tree_id)
            if told:
                yield told
                if told.error:
                    yield Trouble(None, f"{ref} history", "history", told.error)
                    history = tip.history if tip else ""
        yield Advance(ref, Tip(commit, tree, history, wip=False))

    def _history(
        self, ref: str, commit: str, boundary: frozenset[str], old: str, new: str, running: ExitStack
    ) -> History:
        """The history of a ref since it was read last; git works on it until `running` is closed."""
        revisions = [commit]
        old_commit, _, old_boundary = old.partition(" ")
        if old_commit and old_boundary == new.partition(" ")[2] and self._descends(commit, old_commit):
            revisions.append(f"^{old_commit}")
        history = History(ref, iter(()), complete=len(revisions) == 1)
        try:
            added = running.enter_context(closing(AddedFolders(self._repository, revisions, boundary)))
            history.added = _until_error(iter(added), history)
        except OSError as error:
            history.error = f"git cannot be started: {error}"
        return history

    def _descends(self, commit: str, ancestor: str) -> bool:
        try:
            return commit == ancestor or self._repository.descendant_of(commit, ancestor)
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def _tree_changes(self, ref: str, commit: str, tip: Tip | None, known: Known) -> Iterator[Change]:
        root = self._root(ref, self._commit(commit))
        if tip and tip.tree:
            try:
                old = GitFolder(self._objects, bytes.fromhex(tip.tree), "", ref, bytes.fromhex(tip.tree))
                steps = list(self._difference(old, root))
            except Unreadable:
                self._objects.failed = False  # the old tree is gone; the new one is read whole
            else:
                yield from self._compared(iter(steps), known)
                return
        yield from self._compared(self._whole(root), known)
        yield Swept(ref)

    def _compared(self, steps: Iterator[Found | Gone | Trouble], known: Known) -> Iterator[Change]:
        """The steps of a walk, with those run folders that are indexed as they are told apart."""
        for step in steps:
            if isinstance(step, Found) and known.fingerprint(step.ref, step.path) == step.fingerprint:
                yield Same(step.ref, step.path)
            else:
                yield step

    def _difference(self, old: GitFolder, new: GitFolder) -> Iterator[Found | Gone | Trouble]:
        """What differs between two root trees, runs whose overlay alone differs included."""
        found: set[str] = set()
        overlaid: set[str] = set()
        for step in self._walk(old, new):
            if isinstance(step, _Overlaid):
                overlaid.add(step.path)
                continue
            if isinstance(step, Found):
                found.add(step.path)
            yield step
        for path in sorted(overlaid - found):
            folder = new.find(path)
            run = self._found(folder) if folder is not None else None
            if run is not None:
                yield run

    def _whole(self, root: GitFolder) -> Iterator[Found | Gone | Trouble]:
        """Everything below a root tree."""
        return (step for step in self._walk(None, root) if not isinstance(step, _Overlaid))

    def _draft(
        self, ref: str, commit: str, tip: Tip | None, known: Known, moved: bool, base: bytes | None
    ) -> Iterator[Change]:
        history = history_id(commit, shallow_boundary(self._repository))
        if tip and tip.commit == commit and tip.tree and tip.history == history and not moved:
            return
        name = plain_name(ref.rpartition("/")[2])
        self._objects.failed = False
        published = {path for other, path in known.places_named(name) if not is_draft(other)}
        if not (published and is_unique(name)):
            yield from self._runs_of_draft(ref, commit, name, published, known, base)
        yield Swept(ref)
        yield Advance(ref, Tip(commit, "" if self._objects.failed else commit, history, wip=True))

    def _runs_of_draft(
        self, ref: str, commit: str, name: str, published: set[str], known: Known, base: bytes | None
    ) -> Iterator[Change]:
        """The runs of this name in a ref, looked for only where it differs from what is published."""
        root = self._root(ref, self._commit(commit))
        try:
            old = GitFolder(self._objects, base, "", ref, base) if base else None
            steps = list(self._difference(old, root) if old else self._whole(root))
        except Unreadable:
            steps = list(self._whole(root))
        found = [s for s in steps if isinstance(s, Found) and plain_name(s.path.rpartition("/")[2]) == name]
        mine = [s for s in found if s.path not in published]
        history = History(ref, iter(()), complete=True)
        history.added = _until_error(
            (added for run in mine for added in self._added_by_draft(commit, run.path)), history
        )
        yield history
        if history.error:
            self._objects.failed = True  # so that it is told by the next pass too
            yield Trouble(None, f"{ref} history", "history", history.error)
        yield from self._compared(iter(mine), known)
        yield from (step for step in steps if isinstance(step, Trouble))

    def _added_by_draft(self, sha: str, path: str) -> Iterator[Added]:
        """The commit that brought a run to its own ref, along first parents: the checkpoints are few."""
        commit, boundary = self._commit(sha), shallow_boundary(self._repository)
        while True:
            if not any(self._has_folder(parent, path) for parent in commit.parents):
                told = None if str(commit.id) in boundary else str(commit.id)
                yield Added(path, told, *signed(commit))
                return
            if not self._has_folder(commit.parents[0], path):
                return
            commit = commit.parents[0]

    def _has_folder(self, commit: pygit2.Commit, path: str) -> bool:
        return self._root("", commit).find(path) is not None

    def _walk(self, old: GitFolder | None, new: GitFolder) -> Iterator[Found | Gone | Trouble | _Overlaid]:
        """Run folders below `new` that differ from what `old` has in the same place, which is None for a whole walk."""
        try:
            after = new.tree()
            found = self._found(new) if new.path else None
        except Unreadable as error:
            if old is not None:
                raise
            yield Trouble(new.ref, new.path, error.kind, error.message)
            return
        if old is not None and old.path and (found is None) != (recognise(old) is None):
            yield Gone(new.ref, new.path)
            old = None
        before = old.tree() if old else None
        if found is not None:
            yield found
            yield from self._walk_inner(found, before, new, after)
            return
        if (run := run_of_overlay(new.path)) is not None and (before is None or before.files != after.files):
            yield _Overlaid(run)
        if new.path.count("/") >= DEEPEST:
            self._objects.failed = True  # so that it is told by the next pass too
            yield Trouble(new.ref, new.path, "too-deep", f"folders below {DEEPEST} levels are not looked into")
            return
        kept = before.folders if before else {}
        for name in sorted(kept.keys() - after.folders.keys()):
            if old is not None and walkable(name):
                yield from self._walk_removed(old.child(name, kept[name]))
        for name, oid in sorted(after.folders.items()):
            if kept.get(name) != oid and walkable(name):
                below = old.child(name, kept[name]) if old and name in kept else None
                yield from self._walk(below, new.child(name, oid))

    def _walk_inner(
        self, found: Found, before: Tree | None, new: GitFolder, after: Tree
    ) -> Iterator[Found | Gone | Trouble | _Overlaid]:
        """Runs inside a run, which are few: each is told whenever the outer one differs."""
        inner = found.format.inner_runs(new)
        if before is not None:
            yield from (Gone(new.ref, f"{new.path}/{name}") for name in sorted(before.folders) if name not in inner)
        for name in inner:
            yield from self._walk(None, new.child(name, after.folders[name]))

    def _walk_removed(self, old: GitFolder) -> Iterator[Gone | _Overlaid]:
        yield Gone(old.ref, old.path)
        if "metadata" in old.path.split("/"):
            yield from self._removed_overlays(old)

    def _removed_overlays(self, old: GitFolder) -> Iterator[_Overlaid]:
        if (run := run_of_overlay(old.path)) is not None:
            yield _Overlaid(run)
        for name, oid in sorted(old.tree().folders.items() if old.path.count("/") < DEEPEST else ()):
            yield from self._removed_overlays(old.child(name, oid))

    def _found(self, folder: GitFolder) -> Found | None:
        form = recognise(folder)
        if form is None:
            return None
        overlay = form.overlay(folder.path)
        over = folder.elsewhere(overlay) if overlay else None
        fingerprint = folder.oid.hex() + (f"+{over.oid.hex()}" if over else "")
        return Found(folder.ref, folder.path, fingerprint, folder, form, {})

    def _commit(self, sha: str) -> pygit2.Commit:
        self._objects.require(bytes.fromhex(sha))
        commit = self._repository[sha]
        assert isinstance(commit, pygit2.Commit)
        return commit

    def _root(self, ref: str, commit: pygit2.Commit) -> GitFolder:
        return GitFolder(self._objects, commit.tree_id.raw, "", ref, commit.tree_id.raw)


def _until_error(added: Iterator[Added], history: History) -> Iterator[Added]:
    """What can be told of a history; why it ended early is noted in it."""
    try:
        yield from added
    except (SourceError, Unreadable, OSError, KeyError, pygit2.GitError) as error:
        history.error = str(error)


def history_id(commit: str, boundary: frozenset[str]) -> str:
    """What the history of a commit depends on: itself, and where a shallow clone ends."""
    return f"{commit} {hashlib.sha1(repr(sorted(boundary)).encode()).hexdigest() if boundary else ''}".strip()


def open_repository(path: Path) -> pygit2.Repository:
    """The repository at a path, bare or with a work tree. Raises SourceError that says what to do."""
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
        raise SourceError(f"{path} keeps its refs as a reftable, which cannot be read yet; use a clone with files")
    if "not owned" in why:
        raise SourceError(f"{path} belongs to another user; allow it: git config --global --add safe.directory {path}")
    if "not found" in why.lower():
        raise SourceError(f"{path} is no git repository")
    raise SourceError(f"{path} cannot be opened: {error_line(why)}")


def _tips(repository: pygit2.Repository, patterns: Sequence[str], objects: Objects) -> Iterator[tuple[str, str | None]]:
    for ref in followed(repository, patterns):
        try:
            reference = repository.references[ref]
            if reference.type == pygit2.enums.ReferenceType.DIRECT:
                objects.require(bytes.fromhex(str(reference.target)))
                yield ref, str(reference.peel(pygit2.Commit).id)
        except pygit2.InvalidSpecError:
            continue  # a tag of a file or tree
        except (KeyError, ValueError, pygit2.GitError):
            yield ref, None


def _files(found: Found) -> Iterator[bytes]:
    """The object ids of the files that a run's rows depend on, its overlay included."""
    folder = found.folder
    assert isinstance(folder, GitFolder)
    paths = (folder.blob_id(path) for path in found.format.inputs(folder))
    yield from (blob for blob in paths if blob is not None)
    overlay = found.format.overlay(folder.path)
    over = folder.elsewhere(overlay) if overlay else None
    if over is not None:
        yield from over.tree().files.values()


def shallow_boundary(repository: pygit2.Repository) -> frozenset[str]:
    """The commits where a shallow clone ends; empty for a whole one."""
    if not repository.is_shallow:
        return frozenset()
    for place in (Path(repository.path), Path(repository.path).parent.parent):
        if (place / "shallow").is_file():
            return frozenset((place / "shallow").read_text().split())
    return frozenset()
