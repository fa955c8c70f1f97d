"""Commits of a code repository that name a run in a trailer of their message (git-interpret-trailers(1)).

Formats declare the trailers of their tools. Besides these, Entire marks a commit with `Entire-Checkpoint: <id>`, and
`Eval-Run: <key or run id>` names a run of any tool. A squash merge keeps its commits' trailers in the middle of its
text, so such lines count there too. There, a name with spaces (except in its experiment) does not: it is prose.

All local and remote-tracking branches count. Only commits since the tips of the last pass are read; if one of those
tips is no longer reachable from any branch, everything is read again.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import pygit2
from pydantic import AfterValidator

from indexer.changes import Advance, Change, Indexed, Missing, NamedCommit, Naming, Tip, Trouble
from indexer.errors import SourceError
from indexer.formats import TRAILERS
from indexer.masking import error_line, masked_name
from indexer.sources import Source
from indexer.sources.git import GitSource
from indexer.sources.gitcommand import Listing
from indexer.sources.partial import LackingObjects
from indexer.sources.settings import Place, Strict, placed

BRANCHES = ("refs/heads/*", "refs/remotes/*")
LONGEST_NAME = 500
"""Characters of a trailer's value: longer ones name no run."""

# how `run_commits` names the run; git ignores the case of trailers
_TRAILERS: dict[str, Callable[[str], str]] = {
    **TRAILERS,
    "Entire-Checkpoint": lambda name: f"entire:{name}",
    "Eval-Run": lambda name: name,
}
_FIELDS = ["%H", "%ct", "%s", "%B", *(f"%(trailers:key={key},valueonly,unfold,separator=%x0A)" for key in _TRAILERS)]
_AMID_TEXT = {key: re.compile(rf"^[ \t]*{key}:[ \t]*((?:.*::)?\S+)[ \t\r]*$", re.I | re.M) for key in _TRAILERS}
_LOG = [
    "log", "--stdin", "--basic-regexp", "--regexp-ignore-case", *(f"--grep=^[[:space:]]*{key}:" for key in _TRAILERS),
    "--no-mailmap", "--no-notes", "--no-show-signature", "--no-color", "--encoding=UTF-8",
    f"--format=tformat:{'%x00'.join(_FIELDS)}%x00",
]  # fmt: skip
_SECONDS = re.compile(r"-?[0-9]{1,18}")


class CommitSource(GitSource):
    """The commits of one repository that name runs. `web_url` is the page of a commit, with `{sha}` for its id."""

    kind = "repo"
    holds_runs = False
    pause = None

    def __init__(self, name: str, path: Path, web_url: str | None = None):
        super().__init__(name, path, BRANCHES, wip=False)
        self.web_url = web_url

    def nothing_found(self) -> None:
        return None  # it holds no runs

    def fetch(self) -> bool:
        """Nothing to fetch: every clone has the commit messages."""
        return False

    def _lacking_objects(self, git: pygit2.Repository) -> LackingObjects | None:
        return None

    def _changes(self, indexed: Indexed) -> Iterator[Change]:
        known = indexed.tips()
        history_id = self._repository.history_id
        tips: dict[str, Tip] = {}
        broken: dict[str, Tip] = {}
        for ref, commit in self._repository.tips(BRANCHES):
            if commit is not None:
                tips[ref] = Tip(commit, "", history_id(commit), wip=False)
                continue
            yield Trouble(None, ref, "missing-object", "the commit it names cannot be read")
            if ref in known:
                broken[ref] = known[ref]  # its rows stay until it can be read again
        if known == tips | broken:
            return
        new = {tip.commit for tip in tips.values()}
        old = {tip.commit for ref, tip in known.items() if ref not in broken}
        same_history = all(tip.history == history_id(tip.commit) for tip in known.values())
        going_on = bool(old) and same_history and self._reachable(old, new)
        if new:
            with closing(self._listing(_LOG, new, old if going_on else set())) as listing:
                yield Naming(_commits(listing.chunks()), complete=not going_on and not broken)
        else:
            yield Naming(iter(()), complete=not broken)
        yield from (Missing(ref) for ref in known.keys() - tips.keys() - broken.keys())
        yield from (Advance(ref, tip) for ref, tip in tips.items())

    def _reachable(self, old: Collection[str], new: Collection[str]) -> bool:
        """Whether all old commits still exist and are reachable from a branch."""
        try:
            with closing(self._listing(["rev-list", "--max-count=1", "--stdin"], old, new)) as listing:
                return not any(listing.chunks())
        except SourceError:
            return False

    def _listing(self, command: Sequence[str], wanted: Collection[str], known: Collection[str]) -> Listing:
        """Git's listing of the commits reachable from `wanted` (at least one) but not from `known`."""
        revisions = [*sorted(wanted), *(f"^{commit}" for commit in sorted(known))]
        try:
            return Listing(self._repository.git, command, task=f"list the commits of {self.place}", lines=revisions)
        except OSError as error:
            raise SourceError(f"git cannot be started: {error}") from None


def _commits(listed: Iterator[bytes]) -> Iterator[NamedCommit]:
    for sha, seconds, subject, message, *trailers in _records(listed):
        for (key, run), values in zip(_TRAILERS.items(), trailers, strict=True):
            for name in dict.fromkeys(map(run, filter(_is_name, _names(key, values, message)))):
                when = int(seconds) if _SECONDS.fullmatch(seconds) else None
                yield NamedCommit(name, sha, when, error_line(subject))


def _is_name(name: str) -> bool:
    return len(name) <= LONGEST_NAME and name.isprintable() and masked_name(name) == name


def _names(key: str, values: str, message: str) -> list[str]:
    """The names a message gives with one trailer: those at its end, then those in its text."""
    names = [name.strip() for name in values.split("\n")]
    at_the_end = {line for name in names for line in name.split()}
    names += [
        name
        for name in _AMID_TEXT[key].findall(message.partition("\n\n")[2])
        if name not in names and name not in at_the_end
    ]
    return [name for name in names if name]


def _records(listed: Iterator[bytes]) -> Iterator[list[str]]:
    """The fields of each commit: each ends with NUL, and a line break follows the last one."""
    record: list[str] = []
    rest = b""
    for chunk in listed:
        *ended, rest = (rest + chunk).split(b"\0")
        for field in ended:
            record.append(field.decode("utf-8", "replace").strip())
            if len(record) == len(_FIELDS):
                yield record
                record = []


def _commit_page(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s@]*\{sha\}[^\s@]*", text):
        raise ValueError("must start with http:// or https://, hold {sha} and no password")
    return text


class RepoSettings(Strict):
    """A code repository whose commits name runs."""

    path: Place
    web_url: Annotated[str, AfterValidator(_commit_page)] | None = None

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        return CommitSource(str(self.path), placed(root, self.path), self.web_url)
