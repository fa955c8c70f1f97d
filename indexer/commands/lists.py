"""Commands that list what the index holds."""

import csv
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from indexer import render
from indexer.commands.app import Config, Db, Json, Run, Since, Until, app
from indexer.freshness import freshness, newer_sources
from indexer.index.reader import PUBLIC, Index, open_index
from indexer.project import find_project


@app.command(epilog="Example: indexer status")
def status(config: Config = None, db: Db = None, json: Json = False) -> None:
    """Show the sources, when they changed last, and what could not be read."""
    project = find_project(config, db)
    with open_index(project.db) as index, index.snapshot():
        sources, problems, fresh = index.sources(), index.problems(), freshness(index)
    if json:
        render.document({"db": str(project.db), **fresh, "sources": sources, "problems": problems})
        return
    print(f"index {project.db}")
    print(render.visible(render.freshness(fresh)) + "\n")
    render.table(
        ["SOURCE", "KIND", "RUNS", "CHANGED", "LAG", "PLACE"],
        [
            [s["name"], s["kind"], s["runs"], render.age(s["changed_at"]), render.lag(s["looked_at"]), s["place"]]
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


@app.command(epilog="Example: indexer runs --experiment with_skills --since 7d --sort -pass_rate")
def runs(
    config: Config = None,
    db: Db = None,
    limit: Annotated[int, typer.Option(help="Runs on a page, 1 to 1000.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after a page, with the same sort and filters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    sort: Annotated[
        str, typer.Option(help="timestamp, pass_rate, avg_score, cost_usd or duration_s; - for descending.")
    ] = "-timestamp",
    experiment: Annotated[list[str] | None, typer.Option(help="Runs of this experiment; several: of any.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Runs with this target; several: with any.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Runs with this model; several: with any.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="queued, running, completed, failed or cancelled; several: any.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Runs found in this source; several: in any.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Runs with this tag; several: with all.")] = None,
    since: Since = None,
    until: Until = None,
    min_pass_rate: Annotated[float | None, typer.Option(help="From 0 to 1.")] = None,
    commit: Annotated[str | None, typer.Option(metavar="SHA", help="Id of a commit, or a prefix.")] = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """List runs, newest first, 50 at a time."""
    project = find_project(config, db)
    filters = {
        "experiment": experiment, "target": target, "model": model, "status": status, "source": source, "tag": tag,
        "since": since, "until": until, "min_pass_rate": min_pass_rate, "commit": commit,
    }  # fmt: skip
    with open_index(project.db) as index:
        pages = _Pages(index, every, limit=1000 if every else limit, cursor=cursor, sort=sort, **filters)
        if json:
            for run in pages:
                render.document(run)
        elif as_csv:
            _print_csv(iter(pages))
        else:
            _print_runs(iter(pages), project.stale_after)
        if not pages.count:
            print("no runs match" if any(filters.values()) else "no runs", file=sys.stderr)
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
    with open_index(project.db) as index, index.snapshot():
        found = index.run(run)
        trials = list(_failing(index, found["key"]))
    if path is not None:
        from indexer import files

        sys.stdout.buffer.write(files.content(project, found, path))
    elif json:
        render.document(found | {"failing": trials})
    else:
        _print_run(found, trials, project.stale_after)


def _tell_if_old(index: Index) -> None:
    """Say so when nobody keeps the index current and its sources look newer."""
    fresh = freshness(index)
    if fresh["writer"] is None and (newer := newer_sources(index)):
        sources = ", ".join(newer)
        print(f"indexer: {render.freshness(fresh)}; newer: {render.visible(sources)}: indexer sync", file=sys.stderr)


class _Pages:
    """The runs of one page or of all; `count` and `next_cursor` are known when they were gone through."""

    def __init__(self, index: Index, every: bool, **query: Any):
        self._index, self._every, self._query = index, every, query
        self.count = 0
        self.next_cursor: str | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            page = self._index.runs(**self._query)
            self.count += len(page.runs)
            yield from page.runs
            if not page.next_cursor or not self._every:
                self.next_cursor = page.next_cursor
                return
            self._query["cursor"] = page.next_cursor


def _print_csv(runs: Iterator[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(PUBLIC)
    for run in runs:
        writer.writerow(", ".join(v) if isinstance(v := run[name], list) else v for name in PUBLIC)


def _print_runs(runs: Iterator[dict[str, Any]], stale_after: int) -> None:
    render.table(
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


def _failing(index: Index, key: str) -> Iterator[dict[str, Any]]:
    for status in ("errored", "failed"):
        cursor = None
        while True:
            page = index.trials(key, status=status, limit=1000, cursor=cursor)
            yield from page.trials
            cursor = page.next_cursor
            if cursor is None:
                break


def _print_run(run: dict[str, Any], failing: list[dict[str, Any]], stale_after: int) -> None:
    facts = {
        "run": run["run_id"],
        "key": run["key"],
        "experiment": run["experiment"],
        "status": render.status(run, stale_after),
        "error": run["error"],
        "attempt": run["attempt"] if (run["attempt"] or 1) > 1 else "",
        "began": run["timestamp"],
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
        "commit": " ".join(filter(None, (run["sha"], run["added_at"], run["author"]))),
    }
    for name, value in facts.items():
        if value not in ("", None):
            print(f"{name:<11} {render.visible(value)}")
    print()
    render.table(
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
        rows = [[t["trial"], t["status"], render.score(t["score"]), _reason(t)] for t in failing]
        render.table(["NOT PASSED", "STATUS", "SCORE", "REASON"], rows, right=["SCORE"])
    print()
    places = [[p["source"], p["path"], p["ref"], p["status"]] for p in run["places"]]
    render.table(["SOURCE", "PATH", "REF", "STATUS"], places)
    for commit in run["commits"]:
        told = filter(None, (commit["committed_at"], commit["repo"], commit["subject"]))
        print(render.visible(f"named by {commit['url'] or commit['sha']}"))
        print(render.visible("  " + ", ".join(told)))


def _reason(trial: dict[str, Any]) -> str:
    """Why a trial did not pass: its error, else the graders that gave less than full marks."""
    if trial["error"] or trial["error_type"]:
        return ": ".join(filter(None, (trial["error_type"], trial["error"])))
    low = [score["name"] for score in trial["scores"] if score["passed"] == 0]
    return f"failed: {', '.join(low)}" if low else ""
