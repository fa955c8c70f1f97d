"""One run: its targets, its trials, those that did not pass first, and its files."""

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import IndexerError
from indexer.queries.names import STALE_AFTER
from indexer.queries.types import RunRow
from indexer.web import charts
from indexer.web.api import arguments, required, run_by_key
from indexer.web.reading import PROJECTS

TRIALS = 100
"""Trials on a page."""

Row = dict[str, Any]
_GROUP = ("target", "agent", "model", "suite")
_RUNNING = f"""
SELECT {", ".join(_GROUP)}, count(*) AS running FROM trials
WHERE run_pk = (SELECT id FROM runs WHERE key = :key) AND status = 'running' GROUP BY {", ".join(_GROUP)}
"""


def run_rows(index: Index, runs: Sequence[RunRow], datasette: Datasette) -> Row:
    """Runs with the trends that their rows show."""
    rates = index.trends({run["experiment"] for run in runs})
    trends = {group: charts.trend(each) for group, each in rates.items()}
    settings = datasette.plugin_config("indexer") or {}
    return {"runs": runs, "trends": trends, "stale_after": settings.get("stale_after", STALE_AFTER)}


def run_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What the page of a run shows, by its key."""
    values = arguments(request, ("key", "cursor", "status"))
    (key,) = required(values, "key")
    run = run_by_key(index, key)
    shown = [trial for status in ("errored", "failed") for trial in index.trials(key, status=status).trials]
    shown.sort(key=lambda trial: trial["score"] or 0.0)  # the worst first; what errored has no score
    page = index.trials(key, limit=TRIALS, **values)
    more = page.next_cursor and f"/run?{urlencode({'key': key} | values | {'cursor': page.next_cursor})}"
    going = run["status"] in ("queued", "running")
    counted = index.select(_RUNNING, key=key) if going else []
    running = {tuple(row[name] for name in _GROUP): row["running"] for row in counted}
    groups = cast("list[Row]", run["targets"])
    targets = [row | {"running": running.get(tuple(row[name] for name in _GROUP), 0)} for row in groups]
    project = PROJECTS.get(datasette)
    names, unreadable = [], ""
    if project is not None:
        try:
            names = files.names(project, run)
        except IndexerError as error:
            unreadable = str(error)
    return run_rows(index, [run], datasette) | {
        "run": {**run, "targets": targets},
        "going": going,
        "failing": shown,
        "hidden": run["errored"] + run["failed"] - len(shown),
        "trials": page.trials,
        "next": more,
        "files": names,
        "unreadable": unreadable,
    }
