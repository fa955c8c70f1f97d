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
from collections.abc import Callable, Iterator, Sequence

import pygit2

from indexer.errors import SourceError
from indexer.formats import ANCHORS
from indexer.sources import Added

IDLE_LIMIT = 60.0
"""Seconds without output after which a git command counts as hanging."""

_DIFF_TREE = ["diff-tree", "--stdin", "--root", "-r", "-t", "-c", "-z", "--no-renames", "--no-abbrev"]
_COMMIT = re.compile(rb"[0-9a-f]{40}")
_ADDED = re.compile(rb":+[0-7 ]*?(040000|100[0-7]{3}) [0-9a-f ]+ A+")
_CHUNK = 1 << 20


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


def added_folders(
    repository: pygit2.Repository,
    revisions: Sequence[str],
    boundary: frozenset[str],
    is_known: Callable[[str], bool] | None,
) -> Iterator[Added]:
    """Every (commit, folder) that counts among `revisions`, which are arguments of `git rev-list`.

    `boundary` are the commits where a shallow clone ends. `is_known` tells whether a folder got its commit
    before; it is given when older commits were read before. Raises SourceError if git fails or hangs.
    """
    late: set[str] = set()
    told: set[str] = set()
    for sha, folders, added in _commits(repository, ["--end-of-options", *revisions]):
        seconds, author = _signed(repository, sha)
        for folder in folders:
            if folder in added:
                yield Added(folder, None if sha in boundary else sha, seconds, author)
                late.discard(folder)  # newest first: this commit is older than the one with the late anchor
                if is_known is not None:
                    told.add(folder)
            else:
                late.add(folder)
    if is_known is not None:
        late -= {folder for folder in late - told if is_known(folder)}
    if late:
        paths = [f":(literal){folder}" for folder in sorted(late)]
        for sha, _, added in _commits(repository, ["--full-history", "--end-of-options", revisions[0], "--", *paths]):
            seconds, author = _signed(repository, sha)
            for folder in sorted(late & added):
                yield Added(folder, None if sha in boundary else sha, seconds, author)


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
    git = ["git", f"--git-dir={repository.path}"]
    environment = git_environment()
    complaints = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would stop git
    revisions = subprocess.Popen(
        [*git, "rev-list", *arguments], stdout=subprocess.PIPE, stderr=complaints, env=environment
    )
    differences = subprocess.Popen(
        [*git, *_DIFF_TREE],
        stdin=revisions.stdout,
        stdout=subprocess.PIPE,
        stderr=complaints,
        env=environment,
    )
    processes = (revisions, differences)
    assert revisions.stdout is not None and differences.stdout is not None
    revisions.stdout.close()
    try:
        rest = b""
        while chunk := _read(differences):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from whole
        for process in processes:
            if process.wait(IDLE_LIMIT) != 0:
                complaints.seek(0)
                said = complaints.read(10_000).decode("utf-8", "replace").strip()
                raise SourceError(f"git cannot read the history: {said.splitlines()[-1] if said else 'it was ended'}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
        differences.stdout.close()
        complaints.close()


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
