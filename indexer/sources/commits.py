"""Commits of a code repository that name a run in a trailer of their message (git-interpret-trailers(1)).

AgentV publishes a run with `AgentV-Run: <run id>` (`Agentv-Run` until June 2026; its studio writes `remote::<run id>`
for a run that it knows from elsewhere), Entire marks a commit with `Entire-Checkpoint: <id>`, and a run of any tool
is named by `Eval-Run: <key or run id>`. A squash merge keeps the trailers of its commits amid its text, so such lines
count there too, when what they name has no spaces behind its experiment, as talk about trailers has.

All local and remote-tracking branches count. Only commits that came since the tips of the last pass are read; when one
of those is no ancestor of any branch any more, everything is read again.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from indexer.changes import Advance, Change, Known, Missing, NamedCommit, Naming, Tip, Trouble
from indexer.errors import SourceError
from indexer.formats.masking import error_line, masked_name
from indexer.sources.git import GitSource, history_id, shallow_boundary
from indexer.sources.history import git_environment
from indexer.sources.partial import LackingObjects

BRANCHES = ("refs/heads/*", "refs/remotes/*")
TIMEOUT = 300.0
"""Seconds that git may take to list the commits."""
LONGEST_NAME = 500
"""Characters of a trailer's value: longer ones name no run."""

# what stands before the name in `run_commits`; git does not tell Agentv from AgentV
_TRAILERS = {"AgentV-Run": "agentv:", "Entire-Checkpoint": "entire:", "Eval-Run": ""}
_FIELDS = ["%H", "%ct", "%s", "%B", *(f"%(trailers:key={key},valueonly,unfold,separator=%x0A)" for key in _TRAILERS)]
_AMID_TEXT = {key: re.compile(rf"^[ \t]*{key}:[ \t]*((?:.*::)?\S+)[ \t\r]*$", re.I | re.M) for key in _TRAILERS}
_ELSEWHERE = "remote::"
_LOG = [
    "log", "--stdin", "--basic-regexp", "--regexp-ignore-case", *(f"--grep=^[[:space:]]*{key}:" for key in _TRAILERS),
    "--no-mailmap", "--no-notes", "--no-show-signature", "--no-color", "--encoding=UTF-8",
    f"--format=tformat:{'%x00'.join(_FIELDS)}%x00",
]  # fmt: skip

# what people set for themselves must not decide what is found; libgit2 has looked whose repository it is
_NO_CONFIG = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
_CONFIG = ["-c", "safe.directory=*", "-c", "trailer.separators=:", "-c", "core.commentChar=#"]
_SECONDS = re.compile(r"-?[0-9]{1,18}")


class CommitSource(GitSource):
    """The commits of one repository that name runs. `web_url` is the page of a commit, with `{sha}` for its id."""

    kind = "repo"
    pause = None

    def __init__(self, name: str, path: Path, web_url: str | None = None):
        super().__init__(name, path, BRANCHES, wip=False)
        self.web_url = web_url

    def nothing_found(self) -> None:
        return None  # it holds no runs

    def fetch(self) -> bool:
        """Nothing: messages of commits are in every clone."""
        return False

    def _lacking_objects(self) -> LackingObjects | None:
        return None

    def _changes(self, known: Known) -> Iterator[Change]:
        indexed = known.tips()
        boundary = shallow_boundary(self._repository)
        tips: dict[str, Tip] = {}
        torn: dict[str, Tip] = {}
        for ref, commit in self._tips(BRANCHES):
            if commit is not None:
                tips[ref] = Tip(commit, "", history_id(commit, boundary), wip=False)
                continue
            yield Trouble(None, ref, "missing-object", "the commit it names cannot be read")
            if ref in indexed:
                torn[ref] = indexed[ref]  # what was read of it stays until it can be read again
        if indexed == tips | torn:
            return
        new = {tip.commit for tip in tips.values()}
        old = {tip.commit for ref, tip in indexed.items() if ref not in torn}
        same_history = all(tip.history == history_id(tip.commit, boundary) for tip in indexed.values())
        going_on = bool(old) and same_history and self._reachable(old, new)
        if new:
            with self._git(_LOG, new, old if going_on else set()) as listed:
                yield Naming(_commits(listed), complete=not going_on and not torn)
        else:
            yield Naming(iter(()), complete=not torn)
        yield from (Missing(ref) for ref in indexed.keys() - tips.keys() - torn.keys())
        yield from (Advance(ref, tip) for ref, tip in tips.items())

    def _reachable(self, old: Collection[str], new: Collection[str]) -> bool:
        """Whether all old commits are there and lie on a branch."""
        try:
            with self._git(["rev-list", "--max-count=1", "--stdin"], old, new) as listed:
                return not listed.read(1)
        except SourceError:
            return False

    def _git(self, command: Sequence[str], wanted: Collection[str], known: Collection[str]) -> IO[bytes]:
        """What git prints of the commits that can be reached from `wanted`, at least one, and not from `known`."""
        revisions = [*sorted(wanted), *(f"^{commit}" for commit in sorted(known))]
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who reads it
        try:
            subprocess.run(
                ["git", f"--git-dir={self._repository.path}", *_CONFIG, *command], check=True, timeout=TIMEOUT,
                input="".join(f"{revision}\n" for revision in revisions).encode(),
                stdout=output, stderr=subprocess.PIPE, env=git_environment() | _NO_CONFIG,
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            output.close()
            said = (getattr(error, "stderr", b"") or b"").decode("utf-8", "replace").strip().splitlines()
            why = error_line(said[-1]) if said else "it did not answer"
            raise SourceError(f"git cannot list the commits of {self.place}: {why}") from None
        output.seek(0)
        return output


def _commits(listed: IO[bytes]) -> Iterator[NamedCommit]:
    for sha, seconds, subject, message, *trailers in _records(listed):
        for (key, prefix), values in zip(_TRAILERS.items(), trailers, strict=True):
            for name in _names(key, values, message):
                if name and len(name) <= LONGEST_NAME and name.isprintable() and masked_name(name) == name:
                    when = int(seconds) if _SECONDS.fullmatch(seconds) else None
                    yield NamedCommit(prefix + name, sha, when, error_line(subject))


def _names(key: str, values: str, message: str) -> dict[str, None]:
    """What a message names with one trailer: at its end, else amid its text; each once, in their order."""
    told = [name.strip() for name in values.split("\n")]
    at_the_end = {line for name in told for line in name.split()}
    told += [
        name
        for name in _AMID_TEXT[key].findall(message.partition("\n\n")[2])
        if name not in told and name not in at_the_end
    ]
    return dict.fromkeys(name.removeprefix(_ELSEWHERE) if key == "AgentV-Run" else name for name in told)


def _records(listed: IO[bytes]) -> Iterator[list[str]]:
    """The fields of each commit: each ends with NUL, and a line break follows the last one."""
    record: list[str] = []
    rest = b""
    while chunk := listed.read(1 << 20):
        *ended, rest = (rest + chunk).split(b"\0")
        for field in ended:
            record.append(field.decode("utf-8", "replace").strip())
            if len(record) == len(_FIELDS):
                yield record
                record = []
