"""Runs in a git repository: the object database only, no checkout, no index, no write.

A ref whose tip did not move costs nothing. When it moved, the old and the new tree are walked side by
side and only where their object ids differ, so one new run among 100,000 costs the trees on its path. If
the old tree is gone (a rewritten branch after `git gc`, another clone in the same place), the new tree is
walked whole and each run folder's object id is compared with the one it was indexed under: equal ids mean
nothing to read. Killed at any point, nothing is lost: how far a ref was read is stored with what was read.

Refs of runs in progress (`agentv/wip/<host>/<run>`) hold every published run besides their own. Such a
ref gives only the run it is named after, and nothing once a run folder of that name is published, which
is known before its tree is opened.
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
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
from indexer.formats import recognise, run_of_overlay
from indexer.formats.masking import error_line
from indexer.protocols import Unreadable
from indexer.sources import DEEPEST, walkable
from indexer.sources.history import AddedFolders, signed
from indexer.sources.objects import GitFolder, Objects, Tree, common_folder

DEFAULT_REFS = ("agentv/results/*", "refs/agentv/runs/*")
WIP_REFS = ("agentv/wip/*", "agentv/inflight/*")


@dataclass(frozen=True, slots=True)
class _Overlaid:
    """The files that override those of the run at `path` differ."""

    path: str


class GitSource:
    """The runs in some refs of one repository.

    `refs` are names (`agentv/results/v1` stands for the branch and its remote-tracking branches), full
    names (`refs/…`) or patterns in which `*` matches any text.
    """

    kind = "git"
    web_url: str | None = None

    def __init__(self, name: str, path: Path, refs: Sequence[str] = DEFAULT_REFS, wip: bool = True):
        self.name = name
        self.folder = path
        self.place = str(path)
        self._refs = tuple(refs)
        self._wip = wip
        self._objects: Objects
        self._repository: pygit2.Repository

    def open(self) -> None:
        self._repository = open_repository(self.folder)
        with self._one_error():
            self._objects = Objects(self._repository, _partial_clone_hint(self._repository))

    def has_runs(self) -> bool:
        """Whether any ref matches, which is how a repository is recognised as a place of results."""
        with self._one_error():
            return any(self._tips(self._refs))

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
        drafts = dict(self._tips(WIP_REFS)) if self._wip else {}
        yield from (Missing(ref) for ref in indexed if ref not in published and ref not in drafts)
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
            if ref not in published and commit is not None:
                yield from self._draft(ref, commit, indexed.get(ref), known, moved, base)

    def folder_at(self, ref: str | None, path: str) -> GitFolder | None:
        try:
            reference = self._repository.references[ref or ""]
            self._objects.require(bytes.fromhex(str(reference.target)))
            return self._root(ref or "", reference.peel(pygit2.Commit)).find(path) if path else None
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

    def found_between(self, old: str | None, new: str) -> Iterator[Found]:
        """The run folders in which a commit differs from another one, or all of it."""
        root = self._root("", self._repository[new].peel(pygit2.Commit))
        before = self._root("", self._repository[old].peel(pygit2.Commit)) if old else None
        steps = self._difference(before, root) if before else self._whole(root)
        return (step for step in steps if isinstance(step, Found))

    def has(self, blob: bytes) -> bool:
        """Whether an object is in the repository."""
        return pygit2.Oid(raw=blob) in self._repository

    def _tips(self, patterns: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        """Full names of the refs that match, sorted, with their commits' ids; None for one that cannot be read."""
        for ref in sorted(_ref_names(self._repository)):
            if not any(matches(pattern, ref) for pattern in patterns) or not ref.isprintable():
                continue
            try:
                reference = self._repository.references[ref]
                if reference.type == pygit2.enums.ReferenceType.DIRECT:
                    self._objects.require(bytes.fromhex(str(reference.target)))
                    yield ref, str(reference.peel(pygit2.Commit).id)
            except pygit2.InvalidSpecError:
                continue  # a tag of a file or tree
            except (KeyError, ValueError, pygit2.GitError):
                yield ref, None

    def _unmatched(self, published: Mapping[str, str | None]) -> Iterator[Trouble]:
        for name in self._refs:
            if "*" not in name and not any(matches(name, ref) for ref in published):
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
        if all(_is_draft(other) for other in known.refs_with(name)):
            yield from self._runs_of_draft(ref, commit, name, known, base)
        yield Swept(ref)
        yield Advance(ref, Tip(commit, "" if self._objects.failed else commit, history, wip=True))

    def _runs_of_draft(self, ref: str, commit: str, name: str, known: Known, base: bytes | None) -> Iterator[Change]:
        """The runs of this name in a ref, looked for only where it differs from what is published."""
        root = self._root(ref, self._commit(commit))
        try:
            old = GitFolder(self._objects, base, "", ref, base) if base else None
            steps = list(self._difference(old, root) if old else self._whole(root))
        except Unreadable:
            steps = list(self._whole(root))
        mine = [s for s in steps if isinstance(s, Found) and plain_name(s.path.rpartition("/")[2]) == name]
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


def matches(pattern: str, ref: str) -> bool:
    """Whether a name or pattern of the settings stands for a full ref name; `*` is any text."""
    if not pattern.startswith("refs/"):
        kind, _, name = ref.removeprefix("refs/").partition("/")
        if kind not in ("heads", "remotes"):
            return False
        ref = name if kind == "heads" else name.partition("/")[2]
    first, *others = pattern.split("*")
    if not others or not ref.startswith(first):
        return ref == pattern
    *middle, last = others
    at = len(first)
    for part in middle:
        found = ref.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(ref) >= at + len(last) and ref.endswith(last)


def _ref_names(repository: pygit2.Repository) -> set[str]:
    """Full names of all refs; libgit2 does not tell those whose file is torn."""
    names = {raw.decode("utf-8", "surrogateescape") for raw in repository.raw_listall_references()}
    place = common_folder(repository)
    for folder, _, files in os.walk(place / "refs"):
        inside = os.path.relpath(folder, place)
        names.update(f"{inside}/{name}" for name in files if not name.endswith(".lock"))
    return names


def _is_draft(ref: str) -> bool:
    return any(matches(name, ref) for name in WIP_REFS)


def shallow_boundary(repository: pygit2.Repository) -> frozenset[str]:
    """The commits where a shallow clone ends; empty for a whole one."""
    if not repository.is_shallow:
        return frozenset()
    for place in (Path(repository.path), Path(repository.path).parent.parent):
        if (place / "shallow").is_file():
            return frozenset((place / "shallow").read_text().split())
    return frozenset()


def _partial_clone_hint(repository: pygit2.Repository) -> str:
    """What to tell about a missing object in a clone made with `--filter`; empty for a whole clone."""
    with suppress(pygit2.GitError, ValueError):  # remotes are not needed, so they may be set up wrongly
        for remote in repository.remotes:
            if remote.name and f"remote.{remote.name}.promisor" in repository.config:
                url = error_line(remote.url) or ""
                return (
                    "this clone was made with --filter and lacks files; "
                    f'use url = "{url}" for this source instead of path'
                )
    return ""
