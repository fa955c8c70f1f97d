"""What a shared index must show, computed from the machines' indexes alone, by section 4 of the contract.

Of the places of a run over all machines the best tells its row: greatest rank, latest trial end, ended before not,
more ended trials, greatest edition, git before folder, source order, path; then the machine's name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.shared.machines import opened

Row = dict[str, Any]
APART = ("id", "rev", "tags", "sha", "added_at", "author")
"""Columns that are told over all places, or are no one's."""


def expected(indexes: Mapping[str, Path]) -> dict[str, Row]:
    """By key: `machine`, the run's own columns, `tags` and `sha`, and its `trials` by name."""
    places: dict[str, list[Row]] = {}
    runs: dict[tuple[str, str], Row] = {}
    for machine, path in indexes.items():
        with opened(path) as database:
            order = {name: at for at, (name,) in enumerate(database.execute("SELECT name FROM sources ORDER BY id"))}
            kinds = dict(database.execute("SELECT name, kind FROM sources").fetchall())
            for run in database.execute("SELECT * FROM runs"):
                trials = database.execute("SELECT * FROM trials WHERE run_pk = ?", (run["id"],)).fetchall()
                runs[machine, run["key"]] = dict(run) | {
                    "trials": {trial["trial"]: trial["status"] for trial in trials}
                }
            query = (
                "SELECT p.*, a.sha AS first, a.seconds, coalesce(r.wip, 0) AS wip FROM places p "
                "LEFT JOIN _added a ON a.source = p.source AND a.ref = p.ref AND a.path = p.path "
                "LEFT JOIN _refs r ON r.source = p.source AND r.ref = p.ref"
            )
            for place in database.execute(query):
                mine = {"machine": machine, "git": kinds[place["source"]] == "git", "at": order[place["source"]]}
                places.setdefault(place["run_key"], []).append(dict(place) | mine)
    return {key: _shown(key, each, runs) for key, each in places.items()}


def _shown(key: str, places: list[Row], runs: Mapping[tuple[str, str], Row]) -> Row:
    best = places[0]
    for other in places[1:]:
        if _better(other, best):
            best = other
    run = runs[best["machine"], key]
    decided = [place for place in places if place["tags"] is not None]
    if decided:
        newest = max(place["tags_at"] or "" for place in decided)
        (tags, *_) = [place["tags"] for place in _in_order(decided) if (place["tags_at"] or "") == newest]
    else:
        tags = best["authored_tags"]
    known = [place for place in places if place["first"] is not None]
    if any(place["ref"] and not place["wip"] for place in places):
        known = [place for place in known if not place["wip"]]
    sha = min(((place["seconds"], place["first"]) for place in known), default=(0, None))[1]
    own = {name: value for name, value in run.items() if name not in APART}
    return own | {"machine": best["machine"], "tags": sorted(set(json.loads(tags))), "sha": sha}


def _better(one: Row, other: Row) -> bool:
    for name in ("rank", "last_activity", "ended", "ended_count", "edition", "git"):
        mine, theirs = (
            place[name] or ("" if name in ("rank", "last_activity", "edition") else 0) for place in (one, other)
        )
        if mine != theirs:
            return str(mine) > str(theirs) if isinstance(mine, str) else int(mine) > int(theirs)
    for name in ("at", "path", "ref", "machine"):
        if (one[name] or "") != (other[name] or ""):
            return bool((one[name] or "") < (other[name] or "")) if name != "at" else bool(one["at"] < other["at"])
    return False


def _in_order(places: list[Row]) -> list[Row]:
    found: list[Row] = []
    for place in places:
        at = next((at for at, each in enumerate(found) if _better(place, each)), len(found))
        found.insert(at, place)
    return found
