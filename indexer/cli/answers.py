"""Prints the answers to questions."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from indexer import render
from indexer.cli import console
from indexer.queries.leaderboard import TIMES
from indexer.queries.values import test_name

Row = Mapping[str, Any]
_SPARKLINE = 40  # executions
_MOST_ACROSS = 8  # columns of a matrix


def rows(found: Sequence[Row], _stale_after: int) -> None:
    """Any list: a column for each name."""
    if not found:
        print("nothing matches")
        return
    names = list(found[0])
    console.table(
        [name.upper().replace("_", " ") for name in names], [[_plain(row[name]) for name in names] for row in found]
    )


def _plain(value: Any) -> Any:
    return (
        f"{value:.3g}" if isinstance(value, float) else ", ".join(map(str, value)) if isinstance(value, list) else value
    )


def _compare(found: Row, stale_after: int) -> None:
    sides = [_side(found[name], stale_after) for name in ("a", "b")]
    console.table(["", "A", "B"], [[name, *(side[name] for side in sides)] for name in sides[0]])
    shared = len(found["shared"])
    counts = [sum(row[side]["passed"] + row[side]["failed"] for row in found["tests"]) for side in ("a", "b")]
    print(f"\n{_counted(shared, 'shared test')} with {_counted(counts[0], 'verdict')} in A and {counts[1]:,} in B")
    console.table(
        ["B AGAINST A", "DIFFERENCE", "95 %", "P", "VERDICT"],
        [
            ["passed of the verdicts", *_effect(found, points=True)],
            ["errored of the executions", *_effect(found["errors"], points=True)],
            *([["score", *_effect(found["score"], points=False)]] if found["score"]["verdict"] else []),
        ],
        right=["DIFFERENCE", "95 %", "P"],
    )
    _compare_tests(found["tests"])
    for name in ("only_a", "only_b"):
        if found[name]:
            named = [" ".join(filter(None, (_test(test), test.get("target")))) for test in found[name][:5]]
            some = ", ".join(named) + (", …" if len(found[name]) > 5 else "")
            _note(f"{_counted(len(found[name]), 'test')} only in {name[-1].upper()}: {some}")


def _compare_tests(tests: Sequence[Row]) -> None:
    changed = [row for row in tests if row["verdict"] in ("worse", "better")]
    flipped = [row for row in tests if row not in changed and row["difference"]]
    for heading, some in (("CHANGED", changed), ("NOT SIGNIFICANT", flipped[:20])):
        if some:
            print()
            console.table(
                [heading, "TARGET", "A", "B", "DIFFERENCE", "Q"],
                [
                    [
                        _test(row),
                        row.get("target"),
                        _verdicts(row["a"]),
                        _verdicts(row["b"]),
                        render.points(row["difference"]),
                        _p(row["q_value"]),
                    ]
                    for row in some
                ],
                right=["A", "B", "DIFFERENCE", "Q"],
            )
    if len(flipped) > 20:
        print(f"{len(flipped) - 20:,} more differ, not significantly; --json has all")
    if not changed and tests:
        print("\nno single test is shown to have changed")


def _side(run: Row, stale_after: int) -> Row:
    named = run.get("run_id") or " ".join(f"{name}={_plain(value)}" for name, value in run["filters"].items())
    tokens = [
        f"{run[name]:,.0f}"
        for name in ("input_tokens_per_execution", "output_tokens_per_execution")
        if run[name] is not None
    ]
    return {
        "side": named,
        "target": run.get("target"),
        "status": "" if "status" not in run else "stopped?" if render.silence(run) > stale_after else run["status"],
        "runs": run["runs"],
        "passed": f"{run['passed']}/{run['verdicts']} {render.percent(run['quality_rate'])}",
        "95 %": render.interval(run["interval"]),
        "score": render.score(run["score"]),
        "errored": f"{run['errored']}/{run['executions']}" if run["errored"] else "0",
        "cost each": render.dollars(run["cost_per_execution"]),
        "tokens each": " + ".join(tokens),
        "took each": render.duration(run["duration_s"]),
    }


def _effect(found: Row, *, points: bool) -> list[str]:
    if found["difference"] is None:
        return ["", "", "", found["verdict"]]
    if points:
        return [render.points(found["difference"]), _between(found["interval"]), _p(found["p_value"]), found["verdict"]]
    bounds = found["interval"]
    span = f"{render.signed(bounds[0])} to {render.signed(bounds[1])}" if bounds else ""
    return [render.signed(found["difference"]), span, _p(found["p_value"]), found["verdict"]]


def _history(found: Row, _stale_after: int) -> None:
    print(render.visible(f"test {_test(found)}") + "\n")
    if not found["targets"]:
        print("no execution in runs that ended matches")
        return
    console.table(
        ["TARGET", "PASSED", "RATE", "95 %", "ERRORED", "DISAGREE", "OLDEST TO NEWEST", "LAST"],
        [
            [
                t["target"], f"{t['passed']}/{t['verdicts']}", render.percent(t["quality_rate"]),
                render.interval(t["interval"]), t["errored"] or "", _disagreement(t),
                render.sparkline(t["outcomes"][_SPARKLINE - 1 :: -1]), render.age(t["outcomes"][0]["timestamp"]),
            ]
            for t in found["targets"]
        ],
        right=["PASSED", "RATE", "95 %", "ERRORED", "DISAGREE", "LAST"],
        dispensable=["95 %", "LAST", "ERRORED", "DISAGREE"],
    )  # fmt: skip
    for target in found["targets"]:
        name = target["target"] or "(no target)"
        if change := target["change"]:
            points, since = f"{-100 * change['difference']:.0f}", change["since"]["run_id"]
            fell = f"fell by {points} points at about {since} (p = {_p(change['p_value'])})"
            _note(f"{name} {fell}; the run before: {change['last_good']['run_id']}")
        drawn = len(target["outcomes"][:_SPARKLINE])
        if drawn < target["executions"]:
            _note(f"{name}: counts are of all {target['executions']:,} executions, the newest {drawn} are drawn")


def _drift(found: Row, _stale_after: int) -> None:
    looked = f"{_counted(found['looked_at'], 'group and measure', 'groups and measures')} looked at"
    if not found["looked_at"]:
        print("nothing to look at: no target has enough runs that ended and match")
        return
    if not found["groups"]:
        fall = found["detectable_fall"]
        would = f"a fall of about {100 * fall:.0f} points would have been seen" if fall else None
        print(f"no significant fall; {looked}; {would or 'too few for any fall to be significant'}")
        return
    console.table(
        ["TARGET", "TEST", "MEASURE", "BEFORE", "SINCE THEN", "DIFFERENCE", "Q", "SINCE"],
        [
            [
                r["target"], _test(r), render.MEASURES[r["measure"]],
                render.level(r, "before"), render.level(r, "recent"),
                render.points(r["difference"]) if r["measure"] != "score" else f"{r['difference']:+.3f}",
                _p(r["q_value"]), r["since"]["run_id"],
            ]
            for r in found["groups"]
        ],
        right=["BEFORE", "SINCE THEN", "DIFFERENCE", "Q"],
        dispensable=["MEASURE", "Q", "DIFFERENCE"],
    )  # fmt: skip
    sides = found["groups"][0]["compare"]
    _note(f"{looked}." + (f" Both sides of the first: {_command(sides)}" if sides else ""))


def _command(sides: Row) -> str:
    """The command that compares what `drift` found."""
    words = ["indexer", "compare"]
    for option, value in sides.items():
        if isinstance(value, dict):
            words += [part for name, text in value.items() for part in (f"--{option}", f"{name}={text}")]
        else:
            texts = value if isinstance(value, list) else [value]
            words += [part for text in texts for part in (f"--{option.replace('_', '-')}", str(text))]
    return shlex.join(words)


def _leaderboard(found: Sequence[Row], _stale_after: int) -> None:
    if not found:
        print("no runs that ended match")
        return
    dimensions = [name for name in found[-1] if found[-1][name] is None and name not in _MEASURED]
    if len(dimensions) == 2 and dimensions != ["experiment", "target"]:
        for across, down in (dimensions[::-1], dimensions):
            if len({row[across] for row in found[:-1]}) <= _MOST_ACROSS:
                _matrix(found, down=down, across=across)
                return
    headings = [name.upper() for name in dimensions]
    body = [[*(_named(row, name) for name in dimensions), *_board(row)] for row in found]
    at_k = f"PASS@{found[-1]['k']}"
    numbers = ["RUNS", "PASSED", "RATE", "95 %", at_k, "SCORE", "ERRORED", "COST", "COST/PASS", "TOKENS", "TOOK"]
    console.table([*headings, *numbers], body, right=numbers, dispensable=_LESS_ASKED)


_LESS_ASKED = ("TOKENS", "TOOK", "95 %", "COST/PASS", "SCORE", "ERRORED")
"""Columns of a board, dropped first if there is no room."""
_MEASURED = (
    "quality_rate",
    "interval",
    "score",
    "cost_usd",
    "cost_per_passed",
    "input_tokens",
    "output_tokens",
    "duration_s",
    "pass_at_k",
)


def _board(row: Row) -> list[Any]:
    tokens = [row[name] for name in ("input_tokens", "output_tokens") if row[name] is not None]
    return [
        row["runs"], f"{row['passed']}/{row['passed'] + row['failed']}", render.percent(row["quality_rate"]),
        render.interval(row["interval"]),
        render.percent(row["pass_at_k"]), render.score(row["score"]), row["errored"] or "",
        render.dollars(row["cost_usd"]), render.dollars(row["cost_per_passed"]),
        f"{sum(tokens):,}" if tokens else "", render.duration(row["duration_s"]),
    ]  # fmt: skip


def _matrix(found: Sequence[Row], *, down: str, across: str) -> None:
    columns = sorted({row[across] or "-" for row in found[:-1]})
    cells = {(row[down], row[across] or "-"): _cell(row) for row in found[:-1]}
    lines = sorted({row[down] or "" for row in found[:-1]}, reverse=down in TIMES)
    console.table(
        [down.upper(), *columns],
        [[line or "-", *(cells.get((line or None, column), "") for column in columns)] for line in lines],
        right=columns,
    )
    _note(f"total: {_cell(found[-1])}" + ("; + counts what errored" if found[-1]["errored"] else ""))


def _cell(row: Row) -> str:
    """A rate with its number of verdicts, and errors, which are not verdicts."""
    verdicts = row["passed"] + row["failed"]
    rate = f"{render.percent(row['quality_rate'])} of {verdicts}" if verdicts else ""
    return f"{rate} +{row['errored']}".strip() if row["errored"] else rate


def _named(row: Row, name: str) -> str:
    return "total" if row.get("total") and row[name] is None else str(row[name] or "-")


def _flaky(found: Sequence[Row], _stale_after: int) -> None:
    if not found:
        print("no test is shown to be flaky")
        return
    console.table(
        ["TEST", "TARGET", "DISAGREE", "PASSED", "LAST"],
        [
            [
                _test(r),
                r["target"],
                f"{r['disagreement']:.0%}",
                f"{r['passed']}/{r['verdicts']}",
                render.age(r["last_run"]),
            ]
            for r in found
        ],
        right=["DISAGREE", "PASSED", "LAST"],
    )


def _failures(found: Sequence[Row], _stale_after: int) -> None:
    if not found:
        print("no failures match")
        return
    console.table(
        ["ERROR", "TEST", "TARGET", "TRIALS", "RUNS", "LAST", "NEWEST RUN"],
        [
            [
                r["error_type"] or r["status"],
                _test(r),
                r["target"],
                r["trials"],
                r["run_count"],
                render.age(r["last_run"]),
                r["runs"][0],
            ]
            for r in found
        ],
        right=["TRIALS", "RUNS", "LAST"],
        dispensable=["NEWEST RUN", "LAST"],
    )


def _note(text: str) -> None:
    print(f"\n{render.visible(text)}")


def _test(row: Row) -> str:
    test = row.get("test_id")
    return row.get("suite") or "" if test is None else test_name(row.get("suite"), test)


def _verdicts(side: Row) -> str:
    errors = f" +{side['errored']} errored" if side["errored"] else ""
    return f"{side['passed']}/{side['passed'] + side['failed']}{errors}"


def _disagreement(target: Row) -> str:
    if target["disagreement"] is None:
        return ""
    return f"{target['disagreement']:.0%}{' flaky' if target['flaky'] else ''}"


def _between(bounds: Sequence[float]) -> str:
    return f"{render.points(bounds[0])} to {render.points(bounds[1])}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


PRINTED: dict[str, Callable[[Any, int], None]] = {
    "compare": _compare,
    "history": _history,
    "drift": _drift,
    "leaderboard": _leaderboard,
    "flaky": _flaky,
    "failures": _failures,
}
"""How each answer is printed; any other list is a table of its columns. The number is `stale_after`, in seconds."""
