"""How old an index is, and whether its sources look newer: for readers of an index without a watcher."""

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexer.queries.index import Index

Row = dict[str, Any]
_MOST = 1000  # files checked below one sign


def freshness(index: Index) -> Row:
    """`as_of`, when the index last equalled all its sources (UTC text, None if unknown), and its `writer`."""
    looked = [source["looked_at"] for source in index.sources()]
    known = [time for time in looked if time is not None]
    return {"as_of": min(known) if known and len(known) == len(looked) else None, "writer": index.writer()}


def newer_sources(index: Index) -> list[str]:
    """Names of the sources in which a ref's file or a root folder changed since the index was brought up to date.

    Nothing deeper is checked, so the index may be stale even if the list is empty.
    """
    with index.snapshot():
        signs = {row["name"]: json.loads(row["signs"]) for row in index.select("SELECT name, signs FROM sources")}
        looked = {source["name"]: source["looked_at"] for source in index.sources()}
    return [name for name, when in looked.items() if when and _is_newer(signs[name], when, index.path.parent)]


def _is_newer(signs: Iterable[str], looked_at: str, results: Path) -> bool:
    """Whether anything changed after a time. The index's own folder does not count: readers change it too."""
    looked = datetime.fromisoformat(looked_at)
    paths = (path for sign in signs for path in _below(sign) if os.path.realpath(path) != os.path.realpath(results))
    return any(time > looked for path in paths if (time := _changed(path)) is not None)


def _below(sign: str) -> Iterator[Path]:
    if not sign.endswith("/"):
        yield Path(sign)
        return
    left = _MOST
    for inside, _, names in os.walk(sign):
        yield from (Path(inside, name) for name in names[:left])
        left -= len(names)
        if left <= 0:
            return


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError):
        return None
