"""Which refs of a repository a source follows.

`agentv/results/v1` in the settings stands for the branch and its remote-tracking branches, `refs/…` for a ref by its
full name, `HEAD` for the branch that is checked out, and `*` matches any text.
"""

import os
from collections.abc import Iterator, Sequence

import pygit2

from indexer.formats import DRAFTS
from indexer.sources.objects import common_folder

HEAD = "HEAD"


def matches(pattern: str, ref: str) -> bool:
    """Whether a name or pattern of the settings stands for a full ref name."""
    if not pattern.startswith("refs/"):
        kind, _, name = ref.removeprefix("refs/").partition("/")
        if kind not in ("heads", "remotes"):
            return False
        ref = name if kind == "heads" else name.partition("/")[2]
    first, *others = pattern.split("*")
    if not others or not ref.startswith(first):
        return ref == pattern
    *middle, last = others
    at = len(first)
    for part in middle:
        found = ref.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(ref) >= at + len(last) and ref.endswith(last)


def is_draft(ref: str) -> bool:
    """Whether a ref holds a run in progress."""
    return any(matches(name, ref) for name in DRAFTS)


def followed(repository: pygit2.Repository, patterns: Sequence[str]) -> Iterator[str]:
    """Full names of the refs that match, sorted; `HEAD` itself only if it is detached."""
    names = ref_names(repository)
    wanted = {ref for ref in names if any(matches(pattern, ref) for pattern in patterns)}
    if HEAD in patterns and (head := checked_out(repository)) is not None:
        wanted.add(head)
    yield from (ref for ref in sorted(wanted) if ref.isprintable())


def checked_out(repository: pygit2.Repository) -> str | None:
    """The branch that HEAD is on, `HEAD` if it is detached; None before the first commit, or if it is corrupt."""
    try:
        head = repository.references[HEAD]
        if head.type == pygit2.enums.ReferenceType.DIRECT:
            return HEAD
        branch = str(head.target)
        return branch if branch in repository.references else None
    except (KeyError, ValueError, pygit2.GitError):
        return None


def ref_names(repository: pygit2.Repository) -> set[str]:
    """Full names of all refs, also of those with a corrupt file, which libgit2 omits."""
    names = {raw.decode("utf-8", "surrogateescape") for raw in repository.raw_listall_references()}
    place = common_folder(repository)
    for folder, _, files in os.walk(place / "refs"):
        inside = os.path.relpath(folder, place)
        names.update(f"{inside}/{name}" for name in files if not name.endswith(".lock"))
    return names


def short_name(ref: str) -> str:
    """A ref as the settings may name it."""
    return ref.removeprefix("refs/heads/")


def refspec(pattern: str) -> str:
    """The refspec by which `git fetch origin` fetches the refs of a pattern."""
    if pattern.startswith("refs/"):
        return f"+{pattern}:{pattern}"
    return f"+refs/heads/{pattern}:refs/remotes/origin/{pattern}"


def is_refspec(pattern: str) -> bool:
    """Whether a pattern can be written as a refspec."""
    return pattern != HEAD and pattern.count("*") <= 1
