"""Supplies the blobs that a partial clone lacks and rows need, from our own object store.

AgentV clones with `--filter=blob:none`, so every blob is missing until it is asked for, one by one. The clone is not
ours and is never written: the blobs that rows need are fetched together, from the clone's own remote with its own
settings, into a cache folder that git and libgit2 use as an alternate.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2

from indexer.formats import VERSIONS_TEXT
from indexer.sources.gitcommand import FETCH, run_git
from indexer.sources.objects import common_folder


def cache_folder() -> Path:
    """Where our own repositories are kept: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "indexer"


def promisor(repository: pygit2.Repository) -> str | None:
    """The promisor remote of a partial clone; None for a full clone."""
    with suppress(pygit2.GitError, ValueError):  # remotes are optional, so misconfigured ones are ignored
        for remote in repository.remotes:
            if remote.name and f"remote.{remote.name}.promisor" in repository.config:
                return remote.name
    return None


class LackingObjects:
    """The store for one partial clone."""

    def __init__(self, repository: pygit2.Repository, remote: str):
        self._place = common_folder(repository)
        self._cwd = Path(repository.workdir or self._place)  # the base of relative URLs
        self._remote = remote
        self.folder = cache_folder() / f"{hashlib.sha256(os.fsencode(self._place.resolve())).hexdigest()[:20]}.objects"
        self.objects = self.folder / "objects"

    def fetched(self) -> Mapping[str, str]:
        """By ref, the commit up to which all blobs that rows are read from are here."""
        try:
            versions, tips = json.loads((self.folder / "tips.json").read_text())
            return dict(tips) if versions == VERSIONS_TEXT else {}
        except (OSError, ValueError, TypeError):
            return {}

    def note(self, tips: Mapping[str, str], existing: Collection[str]) -> None:
        """Note that the blobs of these commits, by ref, are here; notes on other refs stay while the refs exist."""
        others = {ref: commit for ref, commit in self.fetched().items() if ref in existing}
        new = self.folder / "tips.json.new"
        new.write_text(json.dumps([VERSIONS_TEXT, {**others, **tips}]))
        new.replace(self.folder / "tips.json")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process fetches."""
        self.objects.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def fetch(self, blobs: Collection[bytes]) -> None:
        """Fetch files by their object ids, in one round trip. Raises SourceError."""
        if not blobs:
            return
        quiet = ["fetch.negotiationAlgorithm=noop", "fetch.prune=false", f"remote.{self._remote}.prune=false"]
        options = [part for setting in quiet for part in ("-c", setting)]
        # a filter would be written into the clone's configuration
        run_git(
            [*options, *(part for part in FETCH if "filter" not in part), "--no-recurse-submodules", self._remote],
            self._cwd,
            [blob.hex() for blob in sorted(blobs)],
            {
                "GIT_DIR": str(self._place.resolve()),
                "GIT_OBJECT_DIRECTORY": str(self.objects),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": json.dumps(
                    str(self._place.resolve() / "objects"), ensure_ascii=False
                ),
                "GIT_OPTIONAL_LOCKS": "0",
            },
        )
