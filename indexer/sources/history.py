"""Which commit first brought a run's folder to a ref.

Of all commits reachable from the ref whose tree has the folder while no parent's tree has it, the
earliest by commit time, then id. One `git rev-list | git diff-tree` pass lists, for every commit, the
files and folders that none of its parents has (for a merge: all of its parents, `-c`). A commit counts for
a folder when it adds the folder itself and one of the formats' anchor files in it. An anchor that came
later than its folder is looked up on its own afterwards, which real tools never cause.

`--diff-filter=A` would be shorter, but drops entries of merges (git 2.39).

The git command is used because it diffs a tree of 20,000 runs a hundred times faster than libgit2 does;
plumbing is, because no user's configuration changes its output. Rename detection would fetch blobs.
"""

import os
import re
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO

import pygit2

from indexer.changes import Added
from indexer.errors import SourceError
from indexer.formats import ANCHORS

IDLE_LIMIT = 60.0
"""Seconds without output after which a git command counts as hanging."""

_DIFF_TREE = ["diff-tree", "--stdin", "--root", "-r", "-t", "-c", "-z", "--no-renames", "--no-abbrev"]
_COMMIT = re.compile(rb"[0-9a-f]{40}")
_ADDED = re.compile(rb":+[0-7 ]*?(040000|100[0-7]{3}) [0-9a-f ]+ A+")
_CHUNK = 1 << 20
_PATHS = 500


def git_environment() -> dict[str, str]:
    """The environment for git: no prompts, no lazy fetches, no replaced objects, no hooks of the caller's git."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }


def added_folders(repository: pygit2.Repository, revisions: Sequence[str], boundary: frozenset[str]) -> Iterator[Added]:
    """Every (commit, folder) that counts among `revisions`, which are arguments of `git rev-list`, the tip first.

    `boundary` are the commits where a shallow clone ends. Raises SourceError if git fails or hangs.
    """

    def told(path: str, sha: str) -> Added:
        seconds, author = _signed(repository, sha)
        return Added(path, None if sha in boundary else sha, seconds, author)

    late: set[str] = set()
    for sha, folders, added in _commits(repository, ["--end-of-options", *revisions]):
        late |= folders - added
        yield from (told(folder, sha) for folder in folders & added)
    waiting = sorted(late)
    for at in range(0, len(waiting), _PATHS):
        some = waiting[at : at + _PATHS]
        paths = [f":(literal){path}" for path in some]
        for sha, _, added in _commits(repository, ["--full-history", "--end-of-options", revisions[0], "--", *paths]):
            yield from (told(folder, sha) for folder in added.intersection(some))


def _commits(repository: pygit2.Repository, arguments: list[str]) -> Iterator[tuple[str, set[str], set[str]]]:
    """For each commit that adds any: its id, the folders of the anchors it adds, and the folders it adds."""
    sha, anchored, added = "", set[str](), set[str]()
    records = _records(repository, arguments)
    for record in records:
        if _COMMIT.fullmatch(record):
            if anchored or added:
                yield sha, _outermost(anchored), added
            sha, anchored, added = record.decode(), set(), set()
            continue
        kind = _ADDED.fullmatch(record)
        raw = next(records, b"")
        if kind is None:
            continue
        path = raw.decode("utf-8", "backslashreplace")
        if kind[1] == b"040000":
            added.add(path)
        elif (form := ANCHORS.get(path.rpartition("/")[2])) and (folder := form.run_folder(path)):
            anchored.add(folder)
    if anchored or added:
        yield sha, _outermost(anchored), added


def _outermost(folders: set[str]) -> set[str]:
    """Without folders below another one: what lies in a run is none."""
    return {f for f in folders if not any(f[:at] in folders for at, c in enumerate(f) if c == "/")}


def _records(repository: pygit2.Repository, arguments: list[str]) -> Iterator[bytes]:
    """The NUL-terminated records of `git rev-list ARGUMENTS | git diff-tree`."""
    with ExitStack() as stack:
        complaints = stack.enter_context(tempfile.TemporaryFile())  # a pipe that nobody reads would stop git

        def start(command: list[str], stdin: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
            git = ["git", f"--git-dir={repository.path}", *command]
            process = subprocess.Popen(
                git, stdin=stdin, stdout=subprocess.PIPE, stderr=complaints, env=git_environment()
            )
            stack.callback(_end, process)
            return process

        revisions = start(["rev-list", *arguments])
        differences = start(_DIFF_TREE, revisions.stdout)
        rest = b""
        while chunk := _read(differences):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from whole
        if any(process.wait(IDLE_LIMIT) for process in (differences, revisions)):
            complaints.seek(0)
            said = complaints.read(10_000).decode("utf-8", "replace").strip()
            raise SourceError(f"git cannot read the history: {said.splitlines()[-1] if said else 'it was ended'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _read(process: subprocess.Popen[bytes]) -> bytes:
    """The next chunk of output; empty at the end. Raises SourceError when none comes for IDLE_LIMIT seconds."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], IDLE_LIMIT)[0]:
        raise SourceError(f"git did not answer for {IDLE_LIMIT:.0f} s while the history was read")
    return os.read(process.stdout.fileno(), _CHUNK)


def _signed(repository: pygit2.Repository, sha: str) -> tuple[int, str]:
    """Commit time in seconds since 1970, and the author's name."""
    commit = repository[sha]
    assert isinstance(commit, pygit2.Commit)
    return commit.commit_time, commit.author.raw_name.decode("utf-8", "replace")
