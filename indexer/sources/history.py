"""Which commit first brought a run's folder to a ref.

Of all commits reachable from the ref whose tree has the folder while no parent's tree has it, the
earliest by commit time, then id. One `git rev-list | git diff-tree` pass lists, for every commit, the
files and folders that none of its parents has (for a merge: all of its parents, `-c`). A commit counts for
a folder when it adds the folder itself and one of the formats' anchor files in it. An anchor that came
later than its folder is looked up on its own afterwards, which real tools never cause.

`--diff-filter=A` would be shorter, but drops entries of merges (git 2.39).

The git command is used because it diffs a tree of 20,000 runs a hundred times faster than libgit2 does;
plumbing is, because no user's configuration changes its output. Rename detection would fetch blobs. Git
works on a processor of its own while the runs are read: it writes to a file that nobody has to empty.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import IO

import pygit2

from indexer.changes import Added
from indexer.errors import SourceError
from indexer.formats import ANCHORS
from indexer.formats.masking import error_line, masked

IDLE_LIMIT = 60.0
"""Seconds without output after which a git command counts as hanging."""

_DIFF_TREE = ["diff-tree", "--stdin", "--root", "-r", "-t", "-c", "-z", "--no-renames", "--name-status"]
_DELTA_CACHE = "core.deltaBaseCacheLimit=48m"  # half of git's own; less makes the listing slower
# a commit, a path that no parent has, or any other path
_RECORD = re.compile(rb"([0-9a-f]{40})\0|A+\0([^\0]+)\0|[^\0]{1,20}\0[^\0]+\0")
_ANCHORS = {name.encode() for name in ANCHORS}
_CHUNK = 1 << 20
_PATHS = 500
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds


def git_environment() -> dict[str, str]:
    """The environment for git: no prompts, no lazy fetches, no replaced objects, no hooks of the caller's git."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_GRAFT_FILE": os.devnull,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }


class AddedFolders:
    """Every (commit, folder) that counts among `revisions`, which are arguments of `git rev-list`, the tip first.

    Git starts at once; iterating waits for it and raises SourceError if it fails or hangs. `boundary` are the
    commits where a shallow clone ends. To be closed.
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


class _Listing:
    """A running `git rev-list ARGUMENTS | git diff-tree`."""

    def __init__(self, repository: pygit2.Repository, arguments: Sequence[str | bytes]):
        with ExitStack() as stack:
            self._output = stack.enter_context(tempfile.TemporaryFile())
            self._complaints = stack.enter_context(tempfile.TemporaryFile())

            def start(
                command: Sequence[str | bytes], stdin: IO[bytes] | None, stdout: IO[bytes] | int
            ) -> subprocess.Popen[bytes]:
                git = ["git", f"--git-dir={repository.path}", "-c", _DELTA_CACHE, *command]
                process = subprocess.Popen(
                    git, stdin=stdin, stdout=stdout, stderr=self._complaints, env=git_environment()
                )
                stack.callback(_end, process)
                return process

            revisions = start(["rev-list", *arguments], None, subprocess.PIPE)
            self._processes = [start(_DIFF_TREE, revisions.stdout, self._output), revisions]
            self._running = stack.pop_all()

    def close(self) -> None:
        self._running.close()

    def commits(self) -> Iterator[tuple[str, dict[str, bytes], set[bytes]]]:
        """For each commit that adds any: its id, the run folders whose anchors it adds, and all paths it adds."""
        sha, anchored, added = "", dict[str, bytes](), set[bytes]()
        for commit, path in self._records():
            if commit:
                if added:
                    yield sha, _outermost(anchored), added
                sha, anchored, added = commit.decode(), {}, set()
            elif path:
                added.add(path)
                name = path[path.rfind(b"/") + 1 :]
                if name in _ANCHORS and (folder := ANCHORS[name.decode()].run_folder(_text(path))):
                    anchored[folder] = b"/".join(path.split(b"/")[: folder.count("/") + 1])
        if added:
            yield sha, _outermost(anchored), added

    def _records(self) -> Iterator[tuple[bytes, bytes]]:
        """Commits and the paths they add, in the order of git."""
        rest = b""
        for chunk in self._chunks():
            rest += chunk
            end = 0
            for match in _RECORD.finditer(rest):
                end = match.end()
                yield match[1], match[2]
            rest = rest[end:]

    def _chunks(self) -> Iterator[bytes]:
        """What git writes, as it comes. Raises SourceError when nothing comes for IDLE_LIMIT seconds."""
        offset, idle, pause = 0, 0.0, _SHORTEST_PAUSE
        while True:
            ended = all(process.poll() is not None for process in self._processes)
            if chunk := os.pread(self._output.fileno(), _CHUNK, offset):
                offset, idle, pause = offset + len(chunk), 0.0, _SHORTEST_PAUSE
                yield chunk
            elif ended:
                break
            elif idle > IDLE_LIMIT:
                raise SourceError(f"git did not answer for {IDLE_LIMIT:.0f} s while the history was read")
            else:
                time.sleep(pause)
                idle += pause
                pause = min(2 * pause, _LONGEST_PAUSE)
        if any(process.returncode for process in self._processes):
            self._complaints.seek(0)
            said = self._complaints.read(10_000).decode("utf-8", "replace").strip()
            why = error_line(said.splitlines()[-1]) if said else "it was ended"
            raise SourceError(f"git cannot read the history: {why}")


def _text(path: bytes) -> str:
    """A path as the trees of a repository are read: bytes that are no UTF-8 are written as `\\xNN`."""
    return path.decode("utf-8", "backslashreplace")


def _outermost(folders: dict[str, bytes]) -> dict[str, bytes]:
    """Without folders below another one: what lies in a run is none."""
    if len(folders) == 1:
        return folders
    return {f: raw for f, raw in folders.items() if not any(f[:at] in folders for at, c in enumerate(f) if c == "/")}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def signed(commit: pygit2.Commit) -> tuple[int, str]:
    """Commit time in seconds since 1970, and the author's name."""
    return commit.commit_time, masked(commit.author.raw_name.decode("utf-8", "replace"))
