"""Which commit first added a run's folder to a ref.

Several commits may qualify: reachable from the ref, with the folder in their tree and in no parent's tree. The
earliest by commit time, then by id, counts. One `git rev-list | git diff-tree` pass lists, for every commit, the
files and folders that none of its parents has (for a merge: all of its parents, `-c`). A commit counts for
a folder when it adds the folder itself and one of the formats' anchor files in it. An anchor added
later than its folder is looked up separately afterwards; real tools never do this.

`--diff-filter=A` would be shorter, but drops entries of merges (git 2.39).

The git command is used because it diffs a tree of 20,000 runs a hundred times faster than libgit2 does.
Rename detection would fetch blobs. Git runs in parallel while the runs are read.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing

import pygit2

from indexer.changes import Added
from indexer.errors import SourceError
from indexer.formats import ANCHOR_ENDS, ANCHORS, is_run_file, run_folder
from indexer.masking import masked
from indexer.sources.gitcommand import Listing

_DIFF_TREE = ["diff-tree", "--stdin", "--root", "-r", "-t", "-c", "--always", "-z", "--no-renames", "--name-status"]
# a commit, a path that no parent has, or any other path
_RECORD = re.compile(rb"([0-9a-f]{40})\0|A+\0([^\0]+)\0|[^\0]{1,20}\0[^\0]+\0")
_ANCHORS = {name.encode() for name in ANCHORS}
_ENDS = tuple(end.encode() for end in ANCHOR_ENDS)
_PATHS = 500


class AddedFolders:
    """Every (commit, folder) that counts in `revisions`: arguments of `git rev-list`, the tip first.

    Git starts at once; iterating waits for it and raises SourceError if it fails or hangs. `boundary` are the
    commits where a shallow clone ends. Close it after use.
    """

    def __init__(self, repository: pygit2.Repository, revisions: Sequence[str], boundary: frozenset[str]):
        self._repository, self._tip, self._boundary = repository, revisions[0], boundary
        self._listing = _Listing(repository, ["--end-of-options", *revisions])

    def __iter__(self) -> Iterator[Added]:
        late: dict[str, bytes] = {}
        for sha, folders, added in self._listing.commits():
            for folder, raw in folders.items():
                if raw in added:
                    yield self._told(folder, sha)
                else:
                    late[folder] = raw
        if self._listing.seen is None:
            raise SourceError("git cannot read the history: it lists no commits")
        waiting = sorted(late.items())
        for at in range(0, len(waiting), _PATHS):
            some = waiting[at : at + _PATHS]
            arguments = ["--full-history", "--end-of-options", self._tip, "--"]
            paths = [b":(literal)" + raw for _, raw in some]
            with closing(_Listing(self._repository, [*arguments, *paths])) as listing:
                for sha, _, added in listing.commits():
                    yield from (self._told(folder, sha) for folder, raw in some if raw in added)

    def close(self) -> None:
        self._listing.close()

    def _told(self, path: str, sha: str) -> Added:
        commit = self._repository[sha]
        assert isinstance(commit, pygit2.Commit)
        return Added(path, None if sha in self._boundary else sha, *signed(commit))


class _Listing(Listing):
    """A running `git rev-list ARGUMENTS | git diff-tree`."""

    def __init__(self, repository: pygit2.Repository, arguments: Sequence[str | bytes]):
        super().__init__(repository, ["rev-list", *arguments], _DIFF_TREE, task="read the history")
        self.seen: str | None = None
        """The first commit that was listed, which is the newest."""

    def commits(self) -> Iterator[tuple[str, dict[str, bytes], set[bytes]]]:
        """For each commit that adds any: its id, the run folders whose anchors it adds, and all paths it adds."""
        sha, anchored, added = "", dict[str, bytes](), set[bytes]()
        for commit, path in self._records():
            if commit:
                self.seen = self.seen or commit.decode()
                if added:
                    yield sha, _outermost(anchored), added
                sha, anchored, added = commit.decode(), {}, set()
            elif path:
                added.add(path)
                name = path[path.rfind(b"/") + 1 :]
                if (name in _ANCHORS or name.endswith(_ENDS)) and (folder := run_folder(_text(path))):
                    anchored[folder] = b"/".join(path.split(b"/")[: folder.count("/") + 1])
                elif is_run_file(_text(name)):
                    anchored[_text(path)] = path
        if added:
            yield sha, _outermost(anchored), added

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        """Commits and the paths they add, in the order of git."""
        rest = b""
        for chunk in self.chunks():
            rest += chunk
            end = 0
            for match in _RECORD.finditer(rest):
                end = match.end()
                yield match[1], match[2]
            rest = rest[end:]


def _text(path: bytes) -> str:
    """A path as the trees of a repository are read: bytes that are not UTF-8 are written as `\\xNN`."""
    return path.decode("utf-8", "backslashreplace")


def _outermost(folders: dict[str, bytes]) -> dict[str, bytes]:
    """Drop folders below another one: a folder inside a run is not a run."""
    if len(folders) == 1:
        return folders
    return {f: raw for f, raw in folders.items() if not any(f[:at] in folders for at, c in enumerate(f) if c == "/")}


def signed(commit: pygit2.Commit) -> tuple[int, str]:
    """Commit time in seconds since 1970, and the author's name."""
    return commit.commit_time, masked(commit.author.raw_name.decode("utf-8", "replace"))
