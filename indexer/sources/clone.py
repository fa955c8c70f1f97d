"""Runs in a repository that is elsewhere: its own bare clone in the user's cache folder.

The clone holds commits and trees, and of the files only those that rows are read from: they are asked for all
together, before the refs move, so that whoever reads the clone finds every file. A server that cannot leave out
files sends all of them, which works as well. Only this clone is ever fetched into.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pygit2

from indexer.changes import Found
from indexer.errors import SourceError
from indexer.formats import READER
from indexer.formats.masking import error_line, masked
from indexer.protocols import Unreadable
from indexer.records import utc_text
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
        self.place = masked(url.partition("?")[0])
        self._url, self._wanted = url, (*refs, *(WIP_REFS if wip else ()))
        self.error: str | None = None
        self.fetched: str | None = None  # when it was last seen that the clone has everything, UTC text

    def open(self) -> None:
        if self.error is not None:
            raise SourceError(self.error)
        if not self.folder.exists():
            raise SourceError(f"{self.place} has not been fetched yet")
        super().open()

    def fetch(self) -> bool:
        """Bring the clone up to date; whether a ref moved. A failure is kept for `open`, which raises it."""
        began = datetime.now(UTC)
        try:
            with self._alone():
                moved = self._fetch()
        except (SourceError, OSError, ValueError, pygit2.GitError, KeyError, Unreadable) as error:
            self.error = f"{self.place} cannot be fetched: {error_line(str(error).replace(self._url, self.place))}"
            raise SourceError(self.error) from None
        self.error, self.fetched = None, utc_text(began)
        return moved

    def _fetch(self) -> bool:
        wanted = self._remote_refs()
        repository = pygit2.Repository(str(self.folder))
        mine = {ref: str(repository.references[ref].target) for ref in repository.references if self._follows(ref)}
        marker = self.folder / "indexer-reader"  # which files are needed depends on who reads them
        known = mine if marker.exists() and marker.read_text() == str(READER) else {}
        if wanted == known:
            return False
        incoming = {ref: ref.replace("refs/", _INCOMING, 1) for ref, oid in wanted.items() if known.get(ref) != oid}
        self._remove_refs(ref for ref in repository.references if ref.startswith(_INCOMING))
        self._ask([f"+{ref}:{place}" for ref, place in incoming.items()])
        arrived = {ref: str(repository.references[place].target) for ref, place in incoming.items()}
        reader = GitSource(self.name, self.folder)  # another thread may be reading with this one
        reader.open()
        blobs = {blob for ref in incoming for blob in _missing(reader, known.get(ref), arrived[ref])}
        self._ask([blob.hex() for blob in sorted(blobs)])
        self._remove_refs(ref for ref in mine if ref not in wanted)
        self._git(["update-ref", "--stdin"], [f"update {ref} {commit}" for ref, commit in arrived.items()])
        self._remove_refs(incoming.values())
        marker.write_text(str(READER))
        self._git(["gc", "--auto", "--quiet"])
        return True

    def _remove_refs(self, refs: Iterable[str]) -> None:
        self._git(["update-ref", "--stdin"], [f"delete {ref}" for ref in refs])

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
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SourceError("another process is fetching it") from None
            if not self.folder.exists():
                self._make()
            yield

    def _make(self) -> None:
        """An empty clone, beside its place until it is complete; its configuration may hold a password."""
        new = self.folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._git(["init", "--quiet", "--bare", "."], cwd=new)
        config = pygit2.Config(str(new / "config"))  # other users see the arguments of a command
        for name, value in {"url": self._url, "promisor": "true", "partialclonefilter": "blob:none"}.items():
            config[f"remote.origin.{name}"] = value
        new.rename(self.folder)

    def _git(self, arguments: Sequence[str], lines: Collection[str] = (), cwd: Path | None = None) -> str:
        """The output of a git command in the clone. Raises SourceError."""
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=cwd or self.folder,
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                env=_environment(),
                start_new_session=True,  # no terminal that ssh could ask on
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


_LOCAL = {
    "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_SHALLOW_FILE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG",
    "GIT_IMPLICIT_WORK_TREE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS", "GIT_INTERNAL_SUPER_PREFIX",
}  # fmt: skip
"""Variables that would lead git into another repository (`git rev-parse --local-env-vars`)."""


def _environment() -> Mapping[str, str]:
    """The user's own, with the credential helpers; nobody is asked for a password."""
    kept = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
