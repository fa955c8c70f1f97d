"""Runs in a repository that is elsewhere: its own bare clone in the user's cache folder.

The clone holds commits and trees, and of the files only those that rows are read from: they are asked for all
together, before the refs move, so that whoever reads the clone finds every file. A server that cannot leave out
files sends all of them, which works as well. Only this clone is ever fetched into.
"""

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pygit2

from indexer.changes import Found
from indexer.errors import SourceError
from indexer.formats.masking import error_line
from indexer.protocols import Unreadable
from indexer.sources.git import DEFAULT_REFS, WIP_REFS, GitSource, matches
from indexer.sources.objects import GitFolder

TIMEOUT = 300.0
"""Seconds that a git command may take to talk to the remote."""

_INCOMING = "refs/incoming/"


def cache_folder() -> Path:
    """Where clones are kept: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "indexer"


class CloneSource(GitSource):
    """The runs in some refs of a repository at a URL. `fetch` brings the clone up to date, nothing else does."""

    def __init__(self, name: str, url: str, refs: Sequence[str] = DEFAULT_REFS, wip: bool = True):
        folder = cache_folder() / f"{hashlib.sha256(url.encode()).hexdigest()[:20]}.git"
        super().__init__(name, folder, refs, wip)
        self.place = error_line(url) or url
        self._url, self._wanted = url, (*refs, *(WIP_REFS if wip else ()))
        self._error: str | None = None

    def open(self) -> None:
        if self._error is not None:
            raise SourceError(self._error)
        super().open()

    def fetch(self) -> bool:
        """Bring the clone up to date; whether a ref moved. A failure is kept for `open`, which raises it."""
        try:
            with self._alone():
                moved = self._fetch()
        except (SourceError, OSError, pygit2.GitError, KeyError, Unreadable) as error:
            self._error = f"{self.place} cannot be fetched: {error_line(str(error))}"
            raise SourceError(self._error) from None
        self._error = None
        return moved

    def _fetch(self) -> bool:
        wanted = self._remote_refs()
        repository = pygit2.Repository(str(self.folder))
        mine = {ref: str(repository.references[ref].target) for ref in repository.references if self._follows(ref)}
        if wanted == mine:
            return False
        incoming = {ref: ref.replace("refs/", _INCOMING, 1) for ref, oid in wanted.items() if mine.get(ref) != oid}
        self._ask([f"+{ref}:{place}" for ref, place in incoming.items()])
        arrived = {ref: str(repository.references[place].target) for ref, place in incoming.items()}
        reader = GitSource(self.name, self.folder)  # another thread may be reading with this one
        reader.open()
        blobs = {blob for ref in incoming for blob in _missing(reader, mine.get(ref), arrived[ref])}
        self._ask([blob.hex() for blob in sorted(blobs)])
        gone = [f"delete {ref}" for ref in mine if ref not in wanted]
        moves = [f"update {ref} {commit}" for ref, commit in arrived.items()]
        self._git(["update-ref", "--stdin"], [*gone, *moves, *(f"delete {place}" for place in incoming.values())])
        return True

    def _remote_refs(self) -> dict[str, str]:
        listed = self._git(["ls-remote", "--refs", "origin"]).splitlines()
        refs = {ref: oid for oid, _, ref in (line.partition("\t") for line in listed)}
        return {ref: oid for ref, oid in refs.items() if self._follows(ref)}

    def _follows(self, ref: str) -> bool:
        return any(matches(pattern, ref) for pattern in self._wanted)

    def _ask(self, things: Collection[str]) -> None:
        """Fetch refs or objects in one round trip."""
        if things:
            quiet = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"]
            self._git(["fetch", *quiet, "--filter=blob:none", "--stdin", "origin"], things)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time fetch; make the clone if there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "indexer.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "HEAD").exists():
                self._git(["init", "--quiet", "--bare", "."])
                for name, value in {"url": self._url, "promisor": "true", "partialclonefilter": "blob:none"}.items():
                    self._git(["config", f"remote.origin.{name}", value])
            yield

    def _git(self, arguments: Sequence[str], lines: Collection[str] = ()) -> str:
        """The output of a git command in the clone. Raises SourceError."""
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self.folder,
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                env=_environment(),
                timeout=TIMEOUT,
                text=True,
                errors="surrogateescape",
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SourceError(f"git {arguments[0]} took more than {TIMEOUT:.0f} s") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise SourceError(
                next((line for line in said if line.startswith(("fatal", "ERROR"))), said[-1] if said else "git failed")
            )
        return done.stdout


def _missing(reader: GitSource, old: str | None, new: str) -> Iterator[bytes]:
    """The files of run folders in a commit that are not here, where it differs from another commit."""
    for found in reader.found_between(old, new):
        for blob in _files(found):
            if not reader.has(blob):
                yield blob


def _files(found: Found) -> Iterator[bytes]:
    """The object ids of the files that a run's rows depend on, its overlay included."""
    folder = found.folder
    assert isinstance(folder, GitFolder)
    for path in found.format.inputs(folder):
        yield from _blob(folder, path)
    overlay = found.format.overlay(folder.path)
    over = folder.elsewhere(overlay) if overlay else None
    if over is not None:
        yield from over.tree().files.values()


def _blob(folder: GitFolder, path: str) -> Iterator[bytes]:
    parent, _, name = path.rpartition("/")
    where = folder.find(parent)
    if where is not None and name in where.tree().files:
        yield where.tree().files[name]


def _environment() -> Mapping[str, str]:
    """The user's own, with the credential helpers; nobody is asked for a password."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    }
    return {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes"} | kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
