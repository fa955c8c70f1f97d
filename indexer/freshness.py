"""How old an index is, and whether its sources look newer: what people see who read without a watcher."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexer.project import PARTS
from indexer.queries.index import Index
from indexer.queries.types import SourceRow
from indexer.store import lock

Row = dict[str, Any]
_MOST = 1000  # entries of a repository's refs that are looked at


def freshness(index: Index) -> Row:
    """`as_of`, up to when the index is known to equal all its sources (UTC text, None if unknown), and its `writer`."""
    looked = [source["looked_at"] for source in index.sources()]
    known = [time for time in looked if time is not None]
    return {"as_of": min(known) if known and len(known) == len(looked) else None, "writer": lock.writer(index.path)}


def newer_sources(index: Index) -> list[str]:
    """Names of the sources in which a ref's file or a root folder changed since the index was brought up to date.

    Nothing deeper is looked at, so an index without such sources may be old too.
    """
    return [source["name"] for source in index.sources() if _looks_newer(source, index.path)]


def _looks_newer(source: SourceRow, db: Path) -> bool:
    if source["looked_at"] is None:
        return False
    looked = datetime.fromisoformat(source["looked_at"])
    places = _refs(Path(source["place"])) if source["kind"] == "git" else _roots(Path(source["place"]), db)
    return any(time > looked for place in places if (time := _changed(place)) is not None)


def _roots(place: Path, db: Path) -> Iterator[Path]:
    """The folders that runs lie in; readers of an index change the one that it lies in itself."""
    yield from (each for part in PARTS if (each := place / part) != db.parent)
    if place != db.parent and not any((place / part).exists() for part in PARTS):
        yield place


def _refs(place: Path) -> Iterator[Path]:
    folder = _common_folder(place)
    yield folder / "packed-refs"
    left = _MOST
    for inside, _, names in os.walk(folder / "refs"):
        for name in names[:left]:
            yield Path(inside) / name
        left -= len(names)
        if left <= 0:
            return


def _common_folder(place: Path) -> Path:
    """Where a repository's refs are: in a linked work tree those of its main repository."""
    folder = place / ".git"
    if folder.is_dir():
        return folder
    try:
        folder = place / folder.read_text().removeprefix("gitdir:").strip()
        return folder / (folder / "commondir").read_text().strip()
    except (OSError, ValueError):
        return place


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None
