"""What a partial clone lacks: the files that rows are read from, in an object store of ours.

AgentV clones with `--filter=blob:none`, so that every file is missing until somebody asks for it, one by one. The
clone is not ours and is never written: what rows need is fetched together, from the clone's own remote and with its
own settings, into a folder of the cache that git and libgit2 take for one more place of the clone's objects.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2

from indexer.formats import READER
from indexer.sources.gitcommand import FETCH, run_git
from indexer.sources.objects import common_folder


def cache_folder() -> Path:
    """Where repositories of ours are kept: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "indexer"


def promisor(repository: pygit2.Repository) -> str | None:
    """The remote from which a partial clone gets what it lacks; None for a whole clone."""
    with suppress(pygit2.GitError, ValueError):  # remotes are not needed, so they may be set up wrongly
        for remote in repository.remotes:
            if remote.name and f"remote.{remote.name}.promisor" in repository.config:
                return remote.name
    return None


class LackingObjects:
    """The store for one partial clone."""

    def __init__(self, repository: pygit2.Repository, remote: str):
        self._place = common_folder(repository)
        self._cwd = Path(repository.workdir or self._place)  # from where a relative URL leads
        self._remote = remote
        self.folder = cache_folder() / f"{hashlib.sha256(os.fsencode(self._place.resolve())).hexdigest()[:20]}.objects"
        self.objects = self.folder / "objects"

    def fetched(self) -> Mapping[str, str]:
        """By ref, the commit up to which every file that rows are read from is here."""
        try:
            reader, tips = json.loads((self.folder / "tips.json").read_text())
            return dict(tips) if reader == READER else {}
        except (OSError, ValueError, TypeError):
            return {}

    def note(self, tips: Mapping[str, str], existing: Collection[str]) -> None:
        """The files of these commits, by ref, are here; of other refs it stays known as long as they exist."""
        others = {ref: commit for ref, commit in self.fetched().items() if ref in existing}
        new = self.folder / "tips.json.new"
        new.write_text(json.dumps([READER, {**others, **tips}]))
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
