"""Commands that answer what runs have to say together: what differs, what fell, what fails."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from indexer import render
from indexer.commands.app import Config, Db, Experiment, Json, Since, Target, Until, app
from indexer.index.reader import open_index
from indexer.project import find_project

Limit = Annotated[int, typer.Option("--limit", help="Rows at most, 1 to 1000.")]
Row = dict[str, Any]
_SPARKLINE = 40  # verdicts


@app.command(epilog="Example: indexer compare tag:baseline latest; indexer compare gpt claude --experiment nightly")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A RUN; with --experiment a target.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    config: Config = None,
    db: Db = None,
    target: Annotated[str | None, typer.Option(help="Only the trials of this target.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="A and B are targets: compare the newest run of each in this experiment.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare two runs: totals, the tests that flipped, and whether that is more than noise."""
    project = find_project(config, db)
    with open_index(project.db) as index:
        found = index.compare(a, b, target=target, experiment=experiment)
    if json:
        render.document(found)
    else:
        _print_comparison(found, project.stale_after)


@app.command(epilog="Example: indexer history suite/test-1 --since 30d")
def history(
    test: Annotated[str, typer.Argument(metavar="TEST", help="A test, or suite/test where several suites have it.")],
    config: Config = None,
    db: Db = None,
    experiment: Experiment = None,
    target: Target = None,
    since: Since = None,
    until: Until = None,
    suite: Annotated[str | None, typer.Option(help="The test's suite, empty for none.")] = None,
    limit: Annotated[int, typer.Option(help="The newest verdicts for each target, 1 to 1000.")] = 50,
    scores: Annotated[bool, typer.Option("--scores", help="Each verdict with the scores of its graders.")] = False,
    json: Json = False,
) -> None:
    """Show one test over time for each target: how often it passed, when, and whether it is flaky."""
    part = {"experiment": experiment, "target": target, "since": since, "until": until}
    with open_index(find_project(config, db).db) as index:
        found = index.history(test, suite=suite, limit=limit, **part)
    if json:
        render.document(found)
    else:
        _print_history(found, scores)


@app.command(epilog="Example: indexer drift --window 14d")
def drift(
    config: Config = None,
    db: Db = None,
    experiment: Experiment = None,
    target: Target = None,
    window: Annotated[
        str, typer.Option(help="Runs, or a span of time, that are compared with as many or as much before.")
    ] = "10",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Show what fell most lately: targets and tests whose pass rate is lower than in the window before."""
    with open_index(find_project(config, db).db) as index:
        found = index.drift(window=window, experiment=experiment, target=target, limit=limit)
    if json:
        render.document(found)
        return
    for name, rows in found.items():
        if not rows:
            print(f"no {name} fell")
            continue
        render.table(
            ["EXPERIMENT", "TARGET", "TEST", "BEFORE", "LATELY", "FELL", ""],
            [[r["experiment"], r["target"], _test(r), _rate(r["before"]), _rate(r["recent"]), _fell(r), _noise(r)]
             for r in rows],
            right=["BEFORE", "LATELY", "FELL"],
        )  # fmt: skip
        print()


@app.command(epilog="Example: indexer leaderboard --since 30d --k 3")
def leaderboard(
    config: Config = None,
    db: Db = None,
    experiment: Experiment = None,
    target: Target = None,
    since: Since = None,
    until: Until = None,
    k: Annotated[int, typer.Option(help="Estimate how often at least one of so many executions passes.")] = 1,
    json: Json = False,
) -> None:
    """Show how experiments and targets did in the runs that ended, the best target first."""
    with open_index(find_project(config, db).db) as index:
        board = index.leaderboard(k=k, experiment=experiment, target=target, since=since, until=until)
    if _told(board, "no runs that ended match", json=json):
        return
    render.table(
        ["EXPERIMENT", "TARGET", "RUNS", "TESTS", "RATE", "95 %", f"PASS@{k}", "QUALITY", "COST/PASS"],
        [
            [
                r["experiment"], r["target"], r["runs"], r["tests"], render.percent(r["pass_rate"]),
                render.interval(r["interval"]), render.percent(r["pass_at_k"]), render.score(r["quality_score"]),
                render.dollars(r["cost_per_passed"]),
            ]
            for r in board
        ],
        right=["RUNS", "TESTS", "RATE", "95 %", f"PASS@{k}", "QUALITY", "COST/PASS"],
    )  # fmt: skip


@app.command(epilog="Example: indexer failures --since 7d")
def failures(
    config: Config = None,
    db: Db = None,
    experiment: Experiment = None,
    target: Target = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Show which tests fail most often, with which error, for which target."""
    with open_index(find_project(config, db).db) as index:
        rows = index.failures(limit=limit, experiment=experiment, target=target, since=since, until=until)
    if _told(rows, "no failures match", json=json):
        return
    render.table(
        ["ERROR", "TEST", "TARGET", "TRIALS", "RUNS", "LAST"],
        [
            [r["error_type"] or r["status"], _test(r), r["target"], r["trials"], r["runs"], render.age(r["last_run"])]
            for r in rows
        ],
        right=["TRIALS", "RUNS", "LAST"],
    )


def _told(rows: Sequence[Row], nothing: str, *, json: bool) -> bool:
    """Print a list as JSON, or that there is none; whether there is nothing left to print."""
    if json:
        for row in rows:
            render.document(row)
    elif not rows:
        print(nothing)
    return json or not rows


def _print_comparison(found: Row, stale_after: int) -> None:
    sides = [_side(found[name], stale_after) for name in ("a", "b")]
    render.table(["", "A", "B"], [[name, *(side[name] for side in sides)] for name in sides[0]])
    verdict = "more than noise" if found["significant"] else "within noise"
    flips = (
        f"{len(found['worse']):,} got worse, {len(found['better']):,} better: {verdict} (p = {found['p_value']:.3g})"
    )
    print(f"\n{found['shared']:,} shared tests" + (f": {flips}" if found["shared"] else ""))
    for name in ("only_a", "only_b"):
        if found[name]:
            print(f"{found[name]:,} tests only in {name[-1].upper()}")
    for name in ("worse", "better"):
        if found[name]:
            print()
            rows = [[_test(flip), _executions(flip["a"]), _executions(flip["b"])] for flip in found[name]]
            render.table([f"GOT {name.upper()}", "A", "B"], rows, right=["A", "B"])


def _side(run: Row, stale_after: int) -> Row:
    tokens = [f"{run[name]:,}" for name in ("input_tokens", "output_tokens") if run[name] is not None]
    return {
        "run": run["run_id"],
        "target": run["target"],
        "status": render.status(run, stale_after),
        "passed": f"{render.passed(run)} {render.percent(run['pass_rate'])}",
        "95 %": render.interval(run["interval"]),
        "score": render.score(run["avg_score"]),
        "quality": render.score(run["quality_score"]),
        "errored": run["errored"],
        "cost": render.dollars(run["cost_usd"]),
        "tokens": " + ".join(tokens),
        "a trial": render.duration(run["duration_s"]),
    }


def _print_history(found: Row, scores: bool) -> None:
    print(render.visible(f"test {_test(found)}") + "\n")
    if not found["targets"]:
        print("no verdict in runs that ended matches")
        return
    render.table(
        ["TARGET", "PASSED", "RATE", "95 %", "", "OLDEST TO NEWEST", "LAST"],
        [
            [
                t["target"], f"{t['passed']}/{t['executions']}", render.percent(t["pass_rate"]),
                render.interval(t["interval"]), "flaky" if t["flaky"] else "",
                render.sparkline(t["outcomes"][_SPARKLINE - 1 :: -1]), render.age(t["outcomes"][0]["timestamp"]),
            ]
            for t in found["targets"]
        ],
        right=["PASSED", "RATE", "95 %", "LAST"],
        dispensable=["95 %", "LAST"],
    )  # fmt: skip
    if scores:
        print()
        render.table(
            ["BEGAN", "RUN", "TARGET", "STATUS", "SCORE", "GRADERS"],
            [
                [o["timestamp"], o["run_id"], t["target"], o["status"], render.score(o["score"]), _graders(o["scores"])]
                for t in found["targets"]
                for o in t["outcomes"]
            ],
            right=["SCORE"],
        )


def _graders(scores: Sequence[Row]) -> str:
    return ", ".join(f"{score['name']} {render.score(score['score']) or '-'}" for score in scores)


def _test(row: Row) -> str:
    return "/".join(filter(None, (row.get("suite"), row.get("test_id"))))


def _executions(side: Row) -> str:
    return f"{side['passed']}/{side['executions']} {render.score(side['score'])}"


def _rate(window: Row) -> str:
    return f"{render.percent(window['pass_rate'])} of {window['executions']}"


def _fell(row: Row) -> str:
    return f"{100 * (row['before']['pass_rate'] - row['recent']['pass_rate']):.0f} points"


def _noise(row: Row) -> str:
    return "within noise" if row["gap"] <= 0 else ""
