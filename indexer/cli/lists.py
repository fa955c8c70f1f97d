"""Commands that list runs and trials."""

import sys
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

import typer

from indexer import render
from indexer.cli import console
from indexer.cli.app import Config, Db, Json, app, complete_run, declared, opened, told_unknown
from indexer.cli.paging import Pages, show, tell_if_old
from indexer.project import find_project
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.index import Index
from indexer.queries.pages import SORTS
from indexer.queries.runs import PUBLIC
from indexer.queries.trials import COLUMNS
from indexer.queries.types import RunRow, TrialRow

Limit = Annotated[int, typer.Option(help="Rows on a page, 1 to 1000.")]
Cursor = Annotated[str | None, typer.Option(help="Continue after an earlier page, with the same filters.")]
Every = Annotated[bool, typer.Option("--all", help="All pages.")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated values.")]


@app.command(epilog="Example: indexer runs --experiment 'with_*' --since 7d --sort -pass_rate")
@declared(DECLARED)
def runs(
    *,
    filters: Filters,
    config: Config = None,
    db: Db = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: Every = False,
    sort: Annotated[str, typer.Option(help=f"{', '.join(SORTS)}; - in front for descending.")] = "-timestamp",
    json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List runs, newest first, 50 at a time. A filter matches any value of a run; * and ? are wildcards."""
    project = find_project(config, db)
    with opened(project) as index, told_unknown(index, filters):
        pages = Pages(partial(index.runs, sort=sort, **filters), limit, cursor, every=every)
        table = partial(_print_runs, index=index)
        show(pages, "runs", PUBLIC, table, json=json, as_csv=as_csv, filtered=bool(filters))
        tell_if_old(index)


@app.command(epilog="Example: indexer trials --error 'did not answer' --since 7d; indexer trials latest")
@declared(DECLARED)
def trials(
    *,
    filters: Filters,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Only the trials of this run.", autocompletion=complete_run)
    ] = None,
    trial_status: Annotated[
        list[str] | None,
        typer.Option(
            help="Trials with this status: passed, failed, errored, skipped, running or cancelled; several: any."
        ),
    ] = None,
    error_type: Annotated[list[str] | None, typer.Option(help="Trials with this type of error; several: any.")] = None,
    error: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Trials with this piece of text in an error or a reason.")
    ] = None,
    config: Config = None,
    db: Db = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: Every = False,
    json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List executions of tests, of one run or over all runs, newest run first."""
    asked: dict[str, Any] = {"trial_status": trial_status or None, "error_type": error_type or None, "error": error}
    with opened(find_project(config, db)) as index, told_unknown(index, filters):
        pages = Pages(partial(index.trials, run, **asked, **filters), limit, cursor, every=every)
        table = partial(print_trials, of_one_run=run is not None)
        filtered = bool(filters) or any(asked.values())
        show(pages, "trials", COLUMNS, table, json=json, as_csv=as_csv, filtered=filtered)
        if not pages.count:
            _tell_what_there_is(index, filters, error_type)
        tell_if_old(index)


def _tell_what_there_is(index: Index, filters: Filters, error_type: list[str] | None) -> None:
    """Hint at what may have been meant, if no trial matches."""
    if "status" in filters:
        print("indexer: --status filters runs; for trials: --trial-status", file=sys.stderr)
    if error_type:
        known = ", ".join(index.error_types()[:8])
        print(f"indexer: known error types: {render.visible(known or 'none')}", file=sys.stderr)


def _print_runs(found: Iterable[RunRow], index: Index) -> None:
    shown = list(found)
    datasets = index.datasets([run["key"] for run in shown])
    wide = ["TARGET", "DATASET", "EXPERIMENT", "TOOK", "TAGS"]
    console.table(
        ["RUN", "AGO", "STATUS", "PASSED", "RATE", "SCORE", "COST", "SOURCE", *wide],
        (
            [
                run["run_id"], render.lag(run["timestamp"]), render.status(run, index.stale_after), render.passed(run),
                render.percent(run["pass_rate"]), render.score(run["avg_score"]), render.dollars(run["cost_usd"]),
                run["source"], run["target"], datasets.get(run["key"]), run["experiment"],
                render.duration(run["duration_s"]), ", ".join(run["tags"]),
            ]
            for run in shown
        ),
        right=["AGO", "PASSED", "RATE", "SCORE", "COST", "TOOK"],
        wide=wide,
        dispensable=["SOURCE", "SCORE", "COST"],
    )  # fmt: skip


def print_trials(found: Iterable[TrialRow], *, of_one_run: bool) -> None:
    """Print a table of trials; without the run's name if of one run."""
    wide = ["AGO", "COST", "TOOK"]
    of_run = [] if of_one_run else ["OF RUN"]  # it repeats in lines, so truncating it cannot keep it distinct
    console.table(
        [*of_run, "TRIAL", "TARGET", "STATUS", "SCORE", "REASON", *wide],
        (
            [
                *([] if of_one_run else [trial["run_id"]]), trial["trial"], trial["target"], trial["status"],
                render.score(trial["score"]), render.reason(trial), render.lag(trial["timestamp"]),
                render.dollars(trial["cost_usd"]), render.duration(trial["duration_s"]),
            ]
            for trial in found
        ),
        right=["SCORE", "AGO", "COST", "TOOK"],
        wide=wide,
        dispensable=["SCORE"],
    )  # fmt: skip
