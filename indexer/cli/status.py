"""The command that shows the state of the index."""

from typing import Any

from indexer import render
from indexer.cli import console
from indexer.cli.app import Config, Db, Json, app, opened
from indexer.freshness import freshness
from indexer.project import find_project
from indexer.queries.types import ProblemRow, RunRow, SourceRow

_LIVE = 20
"""The most live runs that are named; the rest are counted."""


@app.command(epilog="Example: indexer status")
def status(config: Config = None, db: Db = None, json: Json = False) -> None:
    """Show the sources, what runs now, and what could not be read."""
    project = find_project(config, db)
    with opened(project) as index, index.snapshot():
        sources, problems, fresh = index.sources(), index.problems(), freshness(index)
        unfinished = list(index.each_run(status=["queued", "running"]))
        unnamed, place = index.unnamed(), index.place
    live = [run for run in unfinished if render.is_live(run, project.stale_after)]
    if json:
        counts = {"live": [run["key"] for run in live], "stopped": len(unfinished) - len(live)}
        console.document({"db": place, **fresh, **counts, "sources": sources, "problems": problems, "unnamed": unnamed})
        return
    print(render.visible(f"index {place}"))
    print(render.visible(render.freshness(fresh)) + "\n")
    _print_published(fresh["writer"])
    _print_sources(sources)
    _print_live(live, len(unfinished) - len(live), project.stale_after)
    for source, count in unnamed.items():
        print(render.visible(f"\n{source}: {count:,} trailers of commits name no run of this index"))
    _print_problems(problems)


def _print_published(writer: dict[str, Any] | None) -> None:
    """How far a watcher has sent the index to a shared one, and why no further."""
    if writer is not None and (published := writer.get("published")):
        how_far = f"published {render.age(published['at'])}" if published["at"] else "not published yet"
        error = f": {published['error']}" if published["error"] else ""
        print(render.visible(f"{how_far}{error}") + "\n")


def _print_sources(sources: list[SourceRow]) -> None:
    console.table(
        ["SOURCE", "KIND", "RUNS", "CHANGED", "LAG", "PLACE"],
        [
            [_named(s), s["kind"], s["runs"], render.age(s["changed_at"]), render.lag(s["looked_at"]), s["place"]]
            for s in sources
        ],
        right=["RUNS"],
    )
    for source in sources:
        name = render.visible(_named(source))
        if source["tip"]:
            print(f"\n{name} is read up to {render.visible(source['tip'])}")
        if source["error"]:
            how_long, error = render.lag(source["failing_since"]), render.visible(source["error"])
            print(f"\n{name} has been failing for {how_long}: {error}")
        if source["note"]:
            print(f"\n{name}: {render.visible(source['note'])}")


def _named(source: SourceRow) -> str:
    """Its name, with the machine that it is on in a shared index."""
    return ":".join(filter(None, (source.get("machine"), source["name"])))


def _print_live(live: list[RunRow], stopped: int, stale_after: int) -> None:
    if live:
        print()
        rows = [
            [run["run_id"], render.progress(run), render.passed(run), render.lag(run["updated_at"]), run["source"]]
            for run in live[:_LIVE]
        ]
        console.table(["RUNNING", "PROGRESS", "PASSED", "SILENT", "SOURCE"], rows, right=["PASSED", "SILENT"])
    if len(live) > _LIVE:
        print(f"{len(live) - _LIVE:,} more are running")
    if stopped:
        print(
            f"\n{stopped:,} unfinished {'run has' if stopped == 1 else 'runs have'} been silent for "
            f"{render.duration(stale_after)} or longer: indexer runs --status running --status queued"
        )


def _print_problems(problems: list[ProblemRow]) -> None:
    if problems:
        print(f"\n{len(problems)} not read:")
    for problem in problems:
        where = ": ".join(filter(None, (problem["source"], problem["ref"], problem["path"])))
        print(render.visible(f"  {where}: {problem['message']} ({problem['kind']})"))
