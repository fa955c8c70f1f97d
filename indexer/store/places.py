"""A run found in several places is one run: which place its row comes from, and which one decides its tags."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexer.records import unix_time


class Place(NamedTuple):
    """What ranking needs to know of one copy of a run, with its commit from `_added`."""

    source: str
    path: str
    ref: str | None
    ended: int
    ended_count: int
    last_activity: str | None
    tags: str | None
    tags_at: str | None
    authored_tags: str
    rank: str
    edition: str
    sha: str | None
    seconds: int | None
    author: str | None
    wip: int


def ranked(places: Sequence[Place], order: Mapping[str, tuple[int, int]]) -> list[Place]:
    """Sort places best first: by rank, latest trial end, ended, ended trials, edition, then the source's rank and
    position.

    `order` maps each source to its rank (git before folder) and its position in the settings.
    """
    by_name = sorted(places, key=lambda p: (order[p.source][1], p.path, p.ref or ""))
    return sorted(by_name, key=lambda p: merit(p, order[p.source][0]), reverse=True)


def merit(place: Place, source_rank: int) -> tuple[str, str, int, int, str, int]:
    """What ranks a place before others: the greatest is best."""
    return place.rank, place.last_activity or "", place.ended, place.ended_count, place.edition, source_rank


def tags(best_first: Sequence[Place]) -> list[str]:
    """The newest decision of any place, even an empty one; else the tags that the run was started with."""
    decided = [place for place in best_first if place.tags is not None]
    if not decided:
        return list(json.loads(best_first[0].authored_tags))
    newest = max(decided, key=lambda place: place.tags_at or "")
    return list(json.loads(newest.tags or "[]"))


def added(places: Sequence[Place]) -> tuple[str | None, str | None, str | None]:
    """The commit that first added the run to a ref, its time and author; WIP refs count only if no other ref has it."""
    known = [(p.wip, p.seconds, p.sha, p.author) for p in places if p.sha is not None and p.seconds is not None]
    if any(not place.wip and place.ref for place in places):
        known = [first for first in known if not first[0]]
    if not known:
        return None, None, None
    _, seconds, sha, author = min(known, key=lambda first: first[1:3])
    return sha, unix_time(seconds), author
