"""Commands that list what the index holds."""

import csv
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from indexer import render
from indexer.cli import console
from indexer.cli.app import Config, Db, Json, Run, app, declared, opened, told_unknown
from indexer.errors import QueryError
from indexer.freshness import freshness, newer_sources
from indexer.project import find_project
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.index import Index
from indexer.queries.pages import SORTS
from indexer.queries.runs import PUBLIC
from indexer.queries.types import RunDetails, RunRow, TrialRow


@app.command(epilog="Example: indexer status")
def status(config: Config = None, db: Db = None, json: Json = False) -> None:
    """Show the sources, when they changed last, and what could not be read."""
    project = find_project(config, db)
    with opened(project) as index, index.snapshot():
        sources, problems, fresh = index.sources(), index.problems(), freshness(index)
    if json:
        console.document({"db": str(project.db), **fresh, "sources": sources, "problems": problems})
        return
    print(f"index {project.db}")
    print(render.visible(render.freshness(fresh)) + "\n")
    console.table(
        ["SOURCE", "KIND", "RUNS", "CHANGED", "LAG", "PLACE"],
        [
            [
                s["name"],
                s["kind"],
                s["runs"],
                render.age(s["changed_at"]),
                render.lag(s["looked_at"]),
                s["place"],
            ]
            for s in sources
        ],
        right=["RUNS"],
    )
    for source in sources:
        if source["tip"]:
            print(f"\n{render.visible(source['name'])} is read up to {render.visible(source['tip'])}")
        if source["error"]:
            how_long = render.lag(source["failing_since"])
            error = render.visible(source["error"])
            print(f"\n{render.visible(source['name'])} has been failing for {how_long}: {error}")
        if source["note"]:
            print(f"\n{render.visible(source['name'])}: {render.visible(source['note'])}")
    if problems:
        print(f"\n{len(problems)} not read:")
        for problem in problems:
            where = ": ".join(filter(None, (problem["source"], problem["ref"], problem["path"])))
            print(render.visible(f"  {where}: {problem['message']} ({problem['kind']})"))


@app.command(epilog="Example: indexer runs --experiment 'with_*' --since 7d --sort -pass_rate")
@declared(DECLARED)
def runs(
    *,
    filters: Filters,
    config: Config = None,
    db: Db = None,
    limit: Annotated[int, typer.Option(help="Runs on a page, 1 to 1000.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after a page, with the same sort and filters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    sort: Annotated[str, typer.Option(help=f"{', '.join(SORTS)}; - in front for descending.")] = "-timestamp",
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """List runs, newest first, 50 at a time. A filter matches any value of a run; * and ? are wildcards."""
    if json and as_csv:
        raise QueryError("--json and --csv: choose one")
    project = find_project(config, db)
    with opened(project) as index, told_unknown(index, filters):
        pages = _Pages(index, every, filters, limit=1000 if every else limit, cursor=cursor, sort=sort)
        if json:
            for run in pages:
                console.document(run)
        elif as_csv:
            _print_csv(iter(pages))
        else:
            _print_runs(iter(pages), project.stale_after)
        if not pages.count:
            print("no runs match" if filters else "no runs", file=sys.stderr)
        if pages.next_cursor:
            print(f"more, with the same options: --cursor {pages.next_cursor}", file=sys.stderr)
        _tell_if_old(index)


@app.command(epilog="Example: indexer show latest; indexer show latest --file index.jsonl")
def show(
    run: Run,
    config: Config = None,
    db: Db = None,
    path: Annotated[
        str | None, typer.Option("--file", metavar="PATH", help="Print one of its files, up to 8 MiB.")
    ] = None,
    json: Json = False,
) -> None:
    """Show one run: summary, targets, failing trials with reasons, places, commits."""
    project = find_project(config, db)
    with opened(project) as index, index.snapshot():
        found = index.run(run)
        trials = list(_failing(index, found))
        problems = [problem for problem in index.problems() if problem["run_key"] == found["key"]]
    if path is not None:
        from indexer import files

        sys.stdout.buffer.write(files.content(project, found, path))
    elif json:
        console.document({**found, "failing": trials})
    else:
        _print_run(found, trials, project.stale_after)
        for problem in problems:
            print(render.visible(f"\nnot read: {problem['path']}: {problem['message']} ({problem['kind']})"))


def _tell_if_old(index: Index) -> None:
    """Say so when nobody keeps the index current and its sources look newer."""
    fresh = freshness(index)
    if fresh["writer"] is None and (newer := newer_sources(index)):
        sources = ", ".join(newer)
        print(
            f"indexer: {render.freshness(fresh)}; newer: {render.visible(sources)}: indexer sync",
            file=sys.stderr,
        )


class _Pages:
    """The runs of one page or of all; `count` and `next_cursor` are known when they were gone through."""

    def __init__(self, index: Index, every: bool, filters: Filters, *, limit: int, cursor: str | None, sort: str):
        self._index, self._every, self._filters = index, every, filters
        self._limit, self._cursor, self._sort = limit, cursor, sort
        self.count = 0
        self.next_cursor: str | None = None

    def __iter__(self) -> Iterator[RunRow]:
        while True:
            page = self._index.runs(limit=self._limit, cursor=self._cursor, sort=self._sort, **self._filters)
            self.count += len(page)
            yield from page
            if not page.next_cursor or not self._every:
                self.next_cursor = page.next_cursor
                return
            self._cursor = page.next_cursor


def _print_csv(runs: Iterator[RunRow]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(PUBLIC)
    for run in runs:
        values = dict(run)
        writer.writerow(", ".join(v) if isinstance(v := values[name], list) else v for name in PUBLIC)


def _print_runs(runs: Iterator[RunRow], stale_after: int) -> None:
    console.table(
        ["RUN", "TARGET", "STATUS", "PASSED", "RATE", "SCORE", "COST"],
        (
            [
                run["run_id"], run["target"], render.status(run, stale_after), render.passed(run),
                render.percent(run["pass_rate"]), render.score(run["avg_score"]), render.dollars(run["cost_usd"]),
            ]
            for run in runs
        ),
        right=["PASSED", "RATE", "SCORE", "COST"],
        dispensable=["SCORE", "COST"],
    )  # fmt: skip


def _failing(index: Index, run: RunDetails) -> Iterator[TrialRow]:
    """The trials that did not pass, and those that passed beside an exception."""
    for status in ("errored", "failed"):
        yield from index.each_trial(run["key"], status=status)
    if run["exceptions"] > run["errored"]:
        yield from (trial for trial in index.each_trial(run["key"], status="passed") if trial["error_type"])


def _facts(run: RunDetails, stale_after: int) -> dict[str, object]:
    """What is said of a run, by name; what is None or empty is not shown."""
    return {
        "run": run["run_id"],
        "key": run["key"],
        "experiment": run["experiment"],
        "status": render.status(run, stale_after),
        "error": run["error"],
        "attempt": run["attempt"] if (run["attempt"] or 1) > 1 else "",
        "began": render.local(run["timestamp"]),
        "took": render.duration(run["duration_s"]),
        "passed": f"{render.passed(run)} {render.percent(run['pass_rate'])}",
        "score": render.score(run["avg_score"]),
        "errored": run["errored"] or "",
        "cancelled": run["cancelled"] or "",
        "skipped": run["skipped"] or "",
        "exceptions": run["exceptions"] or "",
        "planned": run["planned_count"] if run["planned_count"] != run["ended_count"] else "",
        "cost": render.dollars(run["cost_usd"]),
        "tags": ", ".join(run["tags"]),
        "copied from": ", ".join(run["derived_from"] or []),
        "commit": " ".join(filter(None, (run["sha"], render.local(run["added_at"]), run["author"]))),
    }


def _print_run(run: RunDetails, failing: list[TrialRow], stale_after: int) -> None:
    for name, value in _facts(run, stale_after).items():
        if value not in ("", None):
            print(f"{name:<11} {render.visible(value)}")
    print()
    console.table(
        ["TARGET", "MODEL", "SUITE", "PASSED", "RATE", "SCORE", "ERRORED", "COST"],
        [
            [
                t["target"], t["model"], t["suite"], render.passed(t), render.percent(t["pass_rate"]),
                render.score(t["avg_score"]), t["errored"], render.dollars(t["cost_usd"]),
            ]
            for t in run["targets"]
        ],
        right=["PASSED", "RATE", "SCORE", "ERRORED", "COST"],
    )  # fmt: skip
    if failing:
        print()
        several = len({target["target"] for target in run["targets"]}) > 1
        rows = [
            [t["trial"], t["target"] if several else "", t["status"], render.score(t["score"]), _reason(t)]
            for t in failing
        ]
        console.table(["TO LOOK AT", "TARGET", "STATUS", "SCORE", "REASON"], rows, right=["SCORE"])
    print()
    places = [[p["source"], p["path"], p["ref"], p["status"]] for p in run["places"]]
    console.table(["SOURCE", "PATH", "REF", "STATUS"], places)
    for commit in run["commits"]:
        parts = filter(None, (render.local(commit["committed_at"]), commit["repo"], commit["subject"]))
        print(render.visible(f"named by {commit['url'] or commit['sha']}"))
        print(render.visible("  " + ", ".join(parts)))


def _reason(trial: TrialRow) -> str:
    """Why a trial did not pass: its error, else the graders that say so, else what they gave."""
    if trial["error"] or trial["error_type"]:
        return ": ".join(filter(None, (trial["error_type"], trial["error"])))
    low = [score["name"] for score in trial["scores"] if score["passed"] == 0]
    if low:
        return f"failed: {', '.join(low)}"
    return ", ".join(f"{score['name']} {score['score']:g}" for score in trial["scores"] if score["score"] is not None)
