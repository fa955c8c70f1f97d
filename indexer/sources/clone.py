"""Runs in a remote repository, through our own bare clone in the user's cache folder.

The clone holds commits and trees, and only those blobs that rows are read from: they are fetched together, before the
refs move, so that readers of the clone find every file. A server that cannot filter sends all blobs, which works as
well. Only this clone is ever fetched into.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import pygit2
from pydantic import Field, model_validator

from indexer.errors import SourceError
from indexer.formats import REFS, VERSIONS_TEXT
from indexer.masking import error_line, masked
from indexer.protocols import Unreadable
from indexer.records import span_seconds, utc_now
from indexer.sources import Source
from indexer.sources.git import GitSource, lacking_blobs
from indexer.sources.gitcommand import FETCH, run_git
from indexer.sources.partial import LackingObjects, cache_folder
from indexer.sources.refs import HEAD, matches
from indexer.sources.repository import Repository, open_repository
from indexer.sources.settings import Name, Pause, Place, Strict, placed

_INCOMING = "refs/incoming/"


class CloneSource(GitSource):
    """The runs in some refs of a repository at a URL. Only `fetch` updates the clone."""

    is_yours = False

    def __init__(
        self,
        name: str,
        url: str,
        refs: Sequence[str] = REFS,
        wip: bool = True,
        pause: float | None = None,
    ):
        # sources that follow different refs of one repository have separate clones
        identity = "\0".join((url, *([] if tuple(refs) == REFS and wip else [*refs, str(wip)])))
        folder = cache_folder() / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.git"
        super().__init__(name, folder, refs, wip)
        self.place = masked(url.partition("?")[0])
        self._url = url
        self.pause = pause

    def open(self) -> None:
        if self.error is None and not self.folder.exists():
            raise SourceError(f"{self.place} has not been fetched yet")
        super().open()

    def _lacking_objects(self, git: pygit2.Repository) -> LackingObjects | None:
        return None  # the clone itself has the blobs that rows are read from

    def signs(self) -> list[str]:
        return []  # nobody but `fetch` moves its refs

    def fetch(self) -> bool:
        """Update the clone; returns whether there may be news. A failure is kept for `open`, which raises it."""
        began = utc_now()
        try:
            with self._alone():
                moved = self._fetch()
        except (SourceError, OSError, ValueError, pygit2.GitError, KeyError, Unreadable) as error:
            self.error = f"{self.place} cannot be fetched: {error_line(str(error).replace(self._url, self.place))}"
            raise SourceError(self.error) from None
        self.error, self.fetched = None, began
        return moved

    def _fetch(self) -> bool:
        wanted, head = self._remote_refs()
        repository = open_repository(self.folder)
        held = (ref for ref in repository.references if ref.startswith("refs/") and not ref.startswith(_INCOMING))
        mine = {ref: str(repository.references[ref].target) for ref in held}
        marker = self.folder / "indexer-versions"  # those for which all files are here: others may share the clone
        versions = set(marker.read_text().splitlines()) if marker.exists() else set()
        known = mine if VERSIONS_TEXT in versions else {}
        if wanted == known:
            return False
        incoming = {ref: ref.replace("refs/", _INCOMING, 1) for ref, oid in wanted.items() if known.get(ref) != oid}
        self._remove_refs(ref for ref in repository.references if ref.startswith(_INCOMING))
        self._ask([f"+{ref}:{place}" for ref, place in incoming.items()])
        arrived = {ref: str(repository.references[place].target) for ref, place in incoming.items()}
        reading = Repository(repository)
        blobs = {blob for ref in incoming for blob in lacking_blobs(reading, known.get(ref), arrived[ref])}
        self._ask([blob.hex() for blob in sorted(blobs)])
        self._remove_refs(ref for ref in mine if ref not in wanted)
        self._git(["update-ref", "--stdin"], [f"update {ref} {commit}" for ref, commit in arrived.items()])
        if head is not None:
            self._git(["symbolic-ref", HEAD, head])
        self._remove_refs(incoming.values())
        marker.write_text("\n".join({VERSIONS_TEXT, *(versions if wanted == mine else ())}))
        self._git(["gc", "--auto", "--quiet"])
        return True

    def _remove_refs(self, refs: Iterable[str]) -> None:
        self._git(["update-ref", "--stdin"], [f"delete {ref}" for ref in refs])

    def _remote_refs(self) -> tuple[dict[str, str], str | None]:
        """The refs to follow with their targets, and HEAD's branch if HEAD is followed."""
        listed = [line.partition("\t") for line in self._git(["ls-remote", "--symref", "origin"]).splitlines()]
        on = [oid.removeprefix("ref: ") for oid, _, ref in listed if ref == HEAD and oid.startswith("ref: ")]
        head = next(iter(on), None) if HEAD in self._refs else None
        refs = {ref: oid for oid, _, ref in listed if ref.startswith("refs/") and not ref.endswith("^{}")}
        return {ref: oid for ref, oid in refs.items() if self._follows(ref) or ref == head}, head

    def _follows(self, ref: str) -> bool:
        return any(matches(pattern, ref) for pattern in self._followed)

    def _ask(self, things: Collection[str]) -> None:
        """Fetch refs or objects in one round trip."""
        if things:
            self._git([*FETCH, "origin"], things)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process fetches; make the clone if there is none."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process that fetches it fetches for this one too
            if not self.folder.exists():
                self._make()
            yield

    def _make(self) -> None:
        """Make an empty clone, under a temporary name until complete; its configuration may hold a password."""
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
        return run_git(arguments, cwd or self.folder, lines)


class GitSettings(Strict):
    """Refs of an existing clone, bare or not, or of a remote repository that we clone."""

    name: Name
    kind: Literal["git"]
    path: Place | None = None
    url: Annotated[str, Field(min_length=1, pattern=r"^[^-\s][^\n]*$")] | None = None
    fetch_every: Pause = "30s"
    refs: tuple[Annotated[str, Field(min_length=1)], ...] = Field(REFS, min_length=1)
    wip: bool = True

    @model_validator(mode="after")
    def _one_place(self) -> "GitSettings":
        if (self.path is None) == (self.url is None):
            raise ValueError("name either path or url")
        return self

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        if self.url is not None:
            pause = None if self.fetch_every == "0" else span_seconds(self.fetch_every)
            return CloneSource(self.name, self.url, self.refs, self.wip, pause)
        assert self.path is not None
        return GitSource(self.name, placed(root, self.path), self.refs, self.wip)
