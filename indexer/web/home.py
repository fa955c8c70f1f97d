"""The home page: live runs, falls, top failures, newest runs, and whether the index is current.

Falls and failures take time at a million runs, so they are computed in the background after the index changed, and
shown with their time; a page waits for them only a moment.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from datasette.app import Datasette

from indexer import Index
from indexer.queries.filters import Filters
from indexer.records import utc_now
from indexer.web.boards import compare_address
from indexer.web.reading import readers

Row = dict[str, Any]
LIVE, NEWEST, FALLS, FAILURES, PROBLEMS = 20, 10, 10, 10, 10
"""Rows of each part."""
_PATIENCE = 0.2  # seconds that a page waits for figures
_FIGURES: "WeakKeyDictionary[Datasette, _Figures]" = WeakKeyDictionary()


@dataclass(slots=True)
class _Figures:
    """The last figures, the state of the index that they are from, and the task for new ones."""

    state: Row = field(default_factory=dict)
    told: Row | None = None
    running: "asyncio.Task[None] | None" = None


async def figures(datasette: Datasette) -> Row | None:
    """Falls and failures with the time of their computation; the old ones while new ones are computed.

    None until the first are ready.
    """
    known = _FIGURES.setdefault(datasette, _Figures())
    state = await readers(datasette).ask(_state)
    if known.state != state and (known.running is None or known.running.done()):
        known.running = asyncio.create_task(_count(datasette, known, state))
    if known.running is not None and not known.running.done():
        await asyncio.wait([known.running], timeout=_PATIENCE)
    return known.told


async def _count(datasette: Datasette, known: _Figures, state: Row) -> None:
    known.told = await readers(datasette).ask(_counted)
    known.state = state


def _state(index: Index) -> Row:
    meta = index.meta()
    return {name: meta[name] for name in ("generation", "last_rev")}


def _counted(index: Index) -> Row:
    found = index.drift(limit=FALLS)
    falls = [{**row, "address": compare_address(row["compare"])} for row in found["groups"]]
    return {"at": utc_now(), "falls": falls, "failures": index.failures(limit=FAILURES)}


def home(index: Index) -> Row:
    """What is read for each request: live and newest runs, problems and sources."""
    live = Filters(status=["running", "queued"])
    problems = index.problems()
    return {
        "live": index.runs(limit=LIVE, **live).runs,
        "newest": index.runs(limit=NEWEST).runs,
        "problems": problems[:PROBLEMS],
        "more_problems": max(0, len(problems) - PROBLEMS),
        "sources": index.sources(),
    }
