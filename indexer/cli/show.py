"""The command that shows one run, or one trial of it, and their files."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from indexer import render
from indexer.cli import console
from indexer.cli.app import Config, Db, Json, Run, app, opened
from indexer.cli.lists import print_trials
from indexer.errors import IndexerError, QueryError
from indexer.project import Project, find_project
from indexer.queries.index import Index
from indexer.queries.types import ProblemRow, RunDetails, TrialRow

_FILES = 30
"""The most files of a trial that are named; the rest are counted."""


@app.command(
    epilog="Example: indexer show latest; indexer show latest fix-git --file verifier/test-stdout.txt --tail 20"
)
def show(
    run: Run,
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="A trial's name, a prefix, or a test with one trial.")
    ] = None,
    config: Config = None,
    db: Db = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="PATH", help="Print a file of the run or trial, up to 8 MiB; of a larger one --tail."
        ),
    ] = None,
    tail: Annotated[int | None, typer.Option(min=1, help="Only the last lines of the file.")] = None,
    path: Annotated[bool, typer.Option("--path", help="Print the folder of the run or trial.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All trials, including those that passed.")] = False,
    json: Json = False,
) -> None:
    """Show one run: summary, targets, failing trials with reasons, places; or one trial: graders, error, files."""
    if tail is not None and file is None:
        raise QueryError("--tail: needs a --file")
    if sum((path, file is not None, json)) > 1:
        raise QueryError("--path, --file and --json: choose one")
    project = find_project(config, db)
    with opened(project) as index, index.snapshot():
        found = index.run(run)
        one = None if trial is None else index.trial(found["key"], trial)
        trials = (
            [] if one or file or path else list(index.each_trial(found["key"]) if every else _failing(index, found))
        )
        problems = [problem for problem in index.problems() if problem["run_key"] == found["key"]]
    if path:
        from indexer import files

        print(files.place(project, found, one))
    elif file is not None:
        from indexer import files

        if tail is None:
            sys.stdout.buffer.write(files.content(project, found, file, one))
        else:
            _print_last(*files.ending(project, found, file, one), tail)
    elif one is not None:
        _show_trial(project, found, one, json=json)
    elif json:
        console.document({**found, "trials" if every else "failing": trials})
    else:
        _print_run(found, trials, problems, project.stale_after)


def _print_last(data: bytes, is_whole: bool, count: int) -> None:
    """Print the last lines of a file; of a file that is too large, only its end is known."""
    lines = data.splitlines(keepends=True)
    is_cut = not is_whole and len(lines) == 1
    if not is_whole and not is_cut:
        del lines[0]  # its beginning is missing
    sys.stdout.buffer.write(b"".join(lines[-count:]))
    if is_cut:
        print("the beginning of this line cannot be shown: the file is too large", file=sys.stderr)
    elif not is_whole and len(lines) < count:
        print(f"only the last {len(lines)} lines can be shown: the file is too large", file=sys.stderr)


def _failing(index: Index, run: RunDetails) -> Iterator[TrialRow]:
    """The trials that are running, errored or failed, and those that passed with an exception."""
    for status in ("running", "errored", "failed"):
        yield from index.each_trial(run["key"], trial_status=status)
    if run["exceptions"] > run["errored"]:
        yield from (trial for trial in index.each_trial(run["key"], trial_status="passed") if trial["error_type"])


def _print_facts(facts: dict[str, object]) -> None:
    """Print known facts, by name."""
    for name, value in facts.items():
        if value not in ("", None):
            print(f"{name:<11} {render.visible(value)}")


def _facts(run: RunDetails, stale_after: int) -> dict[str, object]:
    silent = render.silence(run)
    status = render.status(run, stale_after)
    return {
        "run": run["run_id"],
        "key": run["key"],
        "experiment": run["experiment"],
        "status": f"{status} (silent {render.duration(silent)})" if silent > stale_after else status,
        "error": run["error"],
        "attempt": run["attempt"] if (run["attempt"] or 1) > 1 else "",
        "began": f"{render.local(run['timestamp'])} ({render.age(run['timestamp'])})",
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
        "code": run["code_sha"],
        "host": run["host"],
        "folder": ": ".join(filter(None, (run["source"], run["ref"], run["path"]))),
        "commit": " ".join(filter(None, (run["sha"], render.local(run["added_at"]), run["author"]))),
    }


def _print_run(run: RunDetails, trials: list[TrialRow], problems: list[ProblemRow], stale_after: int) -> None:
    _print_facts(_facts(run, stale_after))
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
        dispensable=["ERRORED", "COST"],
    )  # fmt: skip
    if trials:
        print()
        print_trials(trials, of_one_run=True)
    shown = sum(trial["status"] == "passed" for trial in trials)
    if run["passed"] > shown:
        print(f"\n{run['passed'] - shown:,} passed: --all lists them")
    if len(run["places"]) > 1:
        print()
        places = [[p["source"], p["path"], p["ref"], p["status"]] for p in run["places"]]
        console.table(["SOURCE", "PATH", "REF", "STATUS"], places)
    for commit in run["commits"]:
        parts = filter(None, (render.local(commit["committed_at"]), commit["repo"], commit["subject"]))
        print(render.visible(f"\nnamed by {commit['url'] or commit['sha']}"))
        print(render.visible("  " + ", ".join(parts)))
    for problem in problems:
        print(render.visible(f"\nnot read: {problem['path']}: {problem['message']} ({problem['kind']})"))


def _facts_of_trial(trial: TrialRow) -> dict[str, object]:
    tokens = {"in": trial["input_tokens"], "cached": trial["cached_tokens"], "out": trial["output_tokens"]}
    test = "/".join(filter(None, (trial["suite"], trial["test_id"])))
    agent = " ".join(filter(None, (trial["agent"], trial["agent_version"])))
    model = "/".join(filter(None, (trial["provider"], trial["model"])))
    return {
        "trial": trial["trial"],
        "run": trial["run_id"],
        "test": test,
        "target": trial["target"],
        "agent": agent if agent != trial["target"] else "",
        "model": model if model != trial["target"] else "",
        "effort": trial["reasoning_effort"],
        "attempt": trial["attempt"] if (trial["attempt"] or 1) > 1 else "",
        "status": trial["status"],
        "score": render.score(trial["score"]),
        "began": render.local(trial["started_at"]),
        "took": render.duration(trial["duration_s"]),
        "tokens": ", ".join(f"{count:,} {name}" for name, count in tokens.items() if count is not None),
        "cost": render.dollars(trial["cost_usd"]),
        "turns": trial["turns"],
        "tool calls": trial["tool_calls"],
        "exit code": trial["exit_code"],
        "folder": trial["folder"],
    }


def _show_trial(project: Project, run: RunDetails, trial: TrialRow, *, json: bool) -> None:
    from indexer import files

    error = trial["error"]
    try:
        error = files.whole_error(project, run, trial)
        found, why = files.of_trial(project, run, trial), ""
    except IndexerError as unreadable:  # the index still has what it read
        found, why = [], str(unreadable)
    if json:
        listed = [{"path": file.path, "size": file.size} for file in found]
        console.document({**trial, "error": error, "files": listed})
        return
    _print_facts(_facts_of_trial(trial))
    if trial["scores"]:
        print()
        rows = [
            [s["name"], s["type"], render.score(s["score"]), _VERDICTS.get(s["passed"]), s["reason"]]
            for s in trial["scores"]
        ]
        console.table(["GRADER", "TYPE", "SCORE", "VERDICT", "REASON"], rows, right=["SCORE"])
    if trial["error_type"] or error:
        print(f"\n{render.visible(trial['error_type'] or 'error')}")
        for line in (error or "").splitlines():
            print(f"  {render.visible(line)}")
    if found:
        print()
        console.table(
            ["FILE", "SIZE"], [[file.path, render.size(file.size)] for file in found[:_FILES]], right=["SIZE"]
        )
    if len(found) > _FILES:
        print(f"{len(found) - _FILES:,} more files in its folder: --path")
    if why:
        print(f"indexer: {render.visible(why)}", file=sys.stderr)


_VERDICTS: dict[int | None, str] = {1: "passed", 0: "failed"}
