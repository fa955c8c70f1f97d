"""What changed in one ref of a repository since it was read last: its runs, and which commits brought them.

A ref whose tip did not move costs nothing. When it moved, the old and the new tree are walked side by side, so one new
run among 100,000 costs the trees on its path. If the old tree is gone (a rewritten branch after `git gc`, another clone
in the same place), the new tree is walked whole and each run folder's object id is compared with the one it was indexed
under: equal ids mean nothing to read.

Refs of runs in progress hold every published run besides their own. Such a ref gives only the run it is named after,
and nothing once that run was published, even if it was deleted since: a leftover ref is not a run in progress. If the
name is unique to one run, this is known before the tree is opened.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pygit2

from indexer.changes import Added, Advance, Change, Found, History, Indexed, Same, Swept, Tip, Trouble, plain_name
from indexer.errors import SourceError
from indexer.formats import is_unique
from indexer.protocols import Unreadable
from indexer.sources.history import AddedFolders, signed
from indexer.sources.objects import GitFolder
from indexer.sources.refs import is_draft
from indexer.sources.repository import Repository
from indexer.sources.treewalk import Step, difference, whole


class RefWalk:
    """The refs of one repository, compared with what is indexed of them."""

    def __init__(self, repository: Repository, indexed: Indexed):
        self._repository, self._objects, self._indexed = repository, repository.objects, indexed

    def published(self, ref: str, commit: str, tip: Tip | None) -> Iterator[Change]:
        """The changes in a ref of published runs since `tip`."""
        history = self._repository.history_id(commit)
        if tip and tip.commit == commit and tip.tree and tip.history == history:
            return
        with ExitStack() as stack:
            added = None
            if not tip or tip.history != history:
                added = self._history(ref, commit, tip.history if tip else "", history, stack)
            self._objects.failed = False
            yield from self._tree_changes(ref, commit, tip)
            tree = "" if self._objects.failed else str(self._repository.commit(commit).tree_id)
            if added:
                yield added
                if added.error:
                    yield Trouble(None, f"{ref} history", "history", added.error)
                    history = tip.history if tip else ""
        yield Advance(ref, Tip(commit, tree, history, wip=False))

    def draft(self, ref: str, commit: str, tip: Tip | None, base: bytes | None, *, moved: bool) -> Iterator[Change]:
        """The changes in a ref of a run in progress; `base` is a published tree, `moved`: a published ref moved."""
        history = self._repository.history_id(commit)
        if tip and tip.commit == commit and tip.tree and tip.history == history and not moved:
            return
        name = plain_name(ref.rpartition("/")[2])
        self._objects.failed = False
        published = {path for other, path in self._indexed.places_named(name) if not is_draft(other)}
        if not (published and is_unique(name)):
            yield from self._runs_of_draft(ref, commit, name, published, base)
        yield Swept(ref)
        yield Advance(ref, Tip(commit, "" if self._objects.failed else commit, history, wip=True))

    def _history(self, ref: str, commit: str, old: str, new: str, running: ExitStack) -> History:
        """The history of a ref since it was read last; git works on it until `running` is closed."""
        revisions = [commit]
        old_commit, _, old_boundary = old.partition(" ")
        if old_commit and old_boundary == new.partition(" ")[2] and self._repository.descends(commit, old_commit):
            revisions.append(f"^{old_commit}")
        history = History(ref, iter(()), complete=len(revisions) == 1)
        try:
            folders = AddedFolders(self._repository.git, revisions, self._repository.boundary)
            history.added = _until_error(iter(running.enter_context(closing(folders))), history)
        except OSError as error:
            history.error = f"git cannot be started: {error}"
        return history

    def _tree_changes(self, ref: str, commit: str, tip: Tip | None) -> Iterator[Change]:
        root = self._repository.root(commit, ref)
        if tip and tip.tree:
            try:
                steps = list(difference(self._repository.tree(bytes.fromhex(tip.tree), ref), root))
            except Unreadable:
                self._objects.failed = False  # the old tree is gone; the new one is read whole
            else:
                yield from self._compared(iter(steps))
                return
        yield from self._compared(whole(root))
        yield Swept(ref)

    def _compared(self, steps: Iterator[Step]) -> Iterator[Change]:
        """The steps of a walk; run folders that equal the index become `Same`."""
        for step in steps:
            if isinstance(step, Found) and self._indexed.fingerprint(step.ref, step.path) == step.fingerprint:
                yield Same(step.ref, step.path)
            else:
                yield step

    def _runs_of_draft(
        self, ref: str, commit: str, name: str, published: set[str], base: bytes | None
    ) -> Iterator[Change]:
        """The runs of this name in a ref, looked for only where it differs from what is published."""
        steps = self._steps_of_draft(self._repository.root(commit, ref), base)
        found = [s for s in steps if isinstance(s, Found) and plain_name(s.path.rpartition("/")[2]) == name]
        mine = [s for s in found if s.path not in published]
        history = History(ref, iter(()), complete=True)
        history.added = _until_error(
            (added for run in mine for added in self._added_by_draft(commit, run.path)), history
        )
        yield history
        if history.error:
            self._objects.failed = True  # so that the next pass reports it too
            yield Trouble(None, f"{ref} history", "history", history.error)
        yield from self._compared(iter(mine))
        yield from (step for step in steps if isinstance(step, Trouble))

    def _steps_of_draft(self, root: GitFolder, base: bytes | None) -> list[Step]:
        try:
            return list(difference(self._repository.tree(base, root.ref), root) if base else whole(root))
        except Unreadable:
            return list(whole(root))

    def _added_by_draft(self, sha: str, path: str) -> Iterator[Added]:
        """The commit that added a run to its own ref, along first parents: there are few checkpoints."""
        commit = self._repository.commit(sha)
        while True:
            if not any(self._has_folder(parent, path) for parent in commit.parents):
                known = None if str(commit.id) in self._repository.boundary else str(commit.id)
                yield Added(path, known, *signed(commit))
                return
            if not self._has_folder(commit.parents[0], path):
                return
            commit = commit.parents[0]

    def _has_folder(self, commit: pygit2.Commit, path: str) -> bool:
        tree = self._repository.tree(commit.tree_id.raw)
        return tree.find(path) is not None or tree.blob_id(path) is not None


def _until_error(added: Iterator[Added], history: History) -> Iterator[Added]:
    """The commits of a history up to an error, which is noted in it."""
    try:
        yield from added
    except (SourceError, Unreadable, OSError, KeyError, pygit2.GitError) as error:
        history.error = str(error)
