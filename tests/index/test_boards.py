"""Boards, drift, history and comparisons against what plain Python makes of the same verdicts."""

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import fsum
from typing import Any

import pytest

from indexer import Index, open_index
from indexer.errors import QueryError, UnknownRunError, UnknownTestError
from indexer.index.drift import FEWEST
from indexer.statistics import wilson
from tests.bundles import bundle, row
from tests.worlds import World

EXPERIMENTS, TARGETS, TESTS = ("nightly", "weekly"), ("alpha", "beta"), ("t1", "t2", "t3")


@dataclass(frozen=True)
class Verdict:
    """One row of one run, as it was written."""

    run: int
    experiment: str
    target: str
    suite: str
    test: str
    status: str
    score: float
    cost: float | None


def run_name(number: int) -> str:
    return f"2026-01-{number // 20 + 5:02}T{number % 20:02}-00-00-000Z"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, list[Verdict]]]:
    """An index of 60 runs, of which the last two never ended, and the verdicts of those that did."""
    world = World(tmp_path_factory.mktemp("boards"))
    chance = random.Random(7)
    verdicts: list[Verdict] = []
    for number in range(60):
        experiment = chance.choice(EXPERIMENTS)
        mine, rows = [], []
        for target, suite, test in itertools.product(TARGETS, ("refund", "search"), TESTS):
            score = chance.choice((1.0, 1.0, 0.9, 0.4))
            status = chance.choice(("ok", "ok", "ok", "execution_error"))
            cost = chance.choice((0.125, 0.25, None))
            rows.append(row(test, score, suite=suite, target=target, cost_usd=cost, status=status))
            if status == "ok":
                rows[-1]["execution_status"] = "ok" if score >= 0.8 else "quality_failure"
            told = "errored" if status == "execution_error" else "passed" if score >= 0.8 else "failed"
            mine.append(Verdict(number, experiment, target, suite, test, told, score, cost))
        live = number >= 58
        files = bundle(rows=rows, experiment=experiment, name=run_name(number), summary={} if live else None)
        world.write({f"runs/{experiment}/{run_name(number)}/{name}": text for name, text in files.items()})
        verdicts += [] if live else mine
    world.sync()
    with open_index(world.db) as index:
        yield index, verdicts


def grouped(verdicts: list[Verdict], *names: str) -> dict[tuple[str, ...], list[Verdict]]:
    groups = defaultdict(list)
    for verdict in verdicts:
        groups[tuple(getattr(verdict, name) for name in names)].append(verdict)
    return groups


@pytest.mark.parametrize("k", [1, 2])
def test_the_leaderboard(ended: tuple[Index, list[Verdict]], k: int) -> None:
    index, verdicts = ended
    board = index.leaderboard(k=k)
    assert [(r["experiment"], r["target"]) for r in board] == sorted(
        grouped(verdicts, "experiment", "target"),
        key=lambda g: (g[0], -rate(grouped(verdicts, "experiment", "target")[g])),
    )
    for entry in board:
        mine = grouped(verdicts, "experiment", "target")[entry["experiment"], entry["target"]]
        passed = sum(v.status == "passed" for v in mine)
        judged = [v for v in mine if v.status != "errored"]
        paid = [v for v in mine if v.cost is not None]
        assert (entry["runs"], entry["tests"]) == (len({v.run for v in mine}), len(mine))
        assert (entry["trials"], entry["passed"]) == (len(mine), passed)
        assert entry["interval"] == wilson(passed, len(mine))
        assert entry["avg_score"] == pytest.approx(fsum(v.score for v in judged) / len(mine))
        assert entry["quality_score"] == pytest.approx(fsum(v.score for v in judged) / len(judged))
        assert entry["cost_usd"] == pytest.approx(fsum(v.cost or 0 for v in paid))
        assert entry["pass_at_k"] == (pytest.approx(passed / len(mine)) if k == 1 else None)


def rate(verdicts: list[Verdict]) -> Fraction:
    return Fraction(sum(v.status == "passed" for v in verdicts), len(verdicts))


def test_a_part_of_the_leaderboard(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    (entry,) = index.leaderboard(experiment="nightly", target="beta", since="2026-01-05T10:00:00Z", until="2026-01-06")
    mine = [v for v in verdicts if v.experiment == "nightly" and v.target == "beta" and 10 <= v.run < 20]
    assert (entry["runs"], entry["trials"]) == (len({v.run for v in mine}), len(mine))
    assert index.leaderboard(experiment="nope") == []


def test_failures(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    expected = {
        (suite, test, target, status): len(each)
        for (suite, test, target, status), each in grouped(verdicts, "suite", "test", "target", "status").items()
        if status != "passed"
    }
    rows = index.failures()
    assert {(r["suite"], r["test_id"], r["target"], r["status"]): r["trials"] for r in rows} == expected
    assert [r["trials"] for r in rows] == sorted((r["trials"] for r in rows), reverse=True)
    assert index.failures(limit=1) == rows[:1]
    assert sum(r["trials"] for r in index.failures(target="alpha")) == sum(
        count for (_, _, target, _), count in expected.items() if target == "alpha"
    )


@pytest.mark.parametrize("window", ["10", "1d"])
def test_drift(ended: tuple[Index, list[Verdict]], window: str) -> None:
    index, verdicts = ended
    found = index.drift(window=window, limit=1000)
    expected_targets: dict[tuple[str, ...], float] = {}
    expected_tests: dict[tuple[str, ...], float] = {}
    for group, mine in grouped(verdicts, "experiment", "target").items():
        runs = sorted({v.run for v in mine}, reverse=True)
        if window == "10":
            recent, before = set(runs[:10]), set(runs[10:20])
        else:  # twenty runs a day
            hours = {run: (run // 20) * 24 + run % 20 for run in runs}
            recent = {run for run in runs if hours[run] > hours[runs[0]] - 24}
            before = {run for run in runs if hours[runs[0]] - 48 < hours[run] <= hours[runs[0]] - 24}
        for name, each in [((), mine), *grouped(mine, "suite", "test").items()]:
            now, then = [v for v in each if v.run in recent], [v for v in each if v.run in before]
            if min(len(now), len(then)) >= FEWEST and rate(now) < rate(then):
                low = wilson(sum(v.status == "passed" for v in then), len(then))
                high = wilson(sum(v.status == "passed" for v in now), len(now))
                assert low and high
                (expected_tests if name else expected_targets)[*group, *name] = low[0] - high[1]
    tests = {(r["experiment"], r["target"], r["suite"], r["test_id"]): r["gap"] for r in found["tests"]}
    assert tests == expected_tests
    assert len(tests) > 3
    assert {(r["experiment"], r["target"]): r["gap"] for r in found["targets"]} == expected_targets
    gaps = [r["gap"] for r in found["tests"]]
    assert gaps == sorted(gaps, reverse=True)


def test_history(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    found = index.history("refund/t2", limit=10)
    assert (found["suite"], found["test_id"]) == ("refund", "t2")
    assert [t["target"] for t in found["targets"]] == list(TARGETS)
    for target in found["targets"]:
        mine = [v for v in verdicts if (v.suite, v.test, v.target) == ("refund", "t2", target["target"])][::-1][:10]
        assert [o["status"] for o in target["outcomes"]] == [v.status for v in mine]
        assert [o["run_id"] for o in target["outcomes"]] == [f"{v.experiment}::{run_name(v.run)}" for v in mine]
        assert target["passed"] == sum(v.status == "passed" for v in mine)
        assert target["flaky"] is (0 < target["passed"] < 10)
        assert [s["name"] for s in target["outcomes"][0]["scores"]] == ["contains"]
    assert not index.history("refund/t2", experiment="nope")["targets"]


def test_compare(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    runs = sorted({v.run for v in verdicts})
    flips = 0
    for a, b in itertools.pairwise(runs):
        names = [next(f"{v.experiment}::{run_name(v.run)}" for v in verdicts if v.run == run) for run in (a, b)]
        found = index.compare(*names, target="alpha")
        outcome = [
            {(v.suite, v.test): v.status == "passed" for v in verdicts if v.run == run and v.target == "alpha"}
            for run in (a, b)
        ]
        worse = [test for test in sorted(outcome[0]) if outcome[0][test] and not outcome[1][test]]
        better = [test for test in sorted(outcome[0]) if outcome[1][test] and not outcome[0][test]]
        assert [(f["suite"], f["test_id"]) for f in found["worse"]] == worse
        assert [(f["suite"], f["test_id"]) for f in found["better"]] == better
        assert (found["shared"], found["only_a"], found["only_b"]) == (6, 0, 0)
        flips += len(worse) + len(better)
    assert flips > 50


def test_repeats_count_by_majority_and_ties_do_not_pass(world: World) -> None:
    def samples(*scores: float) -> dict[str, Any]:
        return row("t1", samples=[{"score": s, "execution_status": "ok"} | verdict(s) for s in scores])

    def verdict(score: float) -> dict[str, str]:
        return {"execution_status": "ok" if score >= 0.8 else "quality_failure"}

    for day, scores in enumerate([(1.0, 1.0, 0.0), (1.0, 0.0), (1.0, 1.0, 1.0, 0.0)], 5):
        name = f"2026-01-0{day}T09-00-00-000Z"
        files = bundle("v9", [samples(*scores)], name=name)
        world.write({f"runs/with_skills/{name}/{path}": text for path, text in files.items()})
    world.sync()
    with open_index(world.db) as index:
        found = index.compare("latest~2", "latest~1")
        assert [(f["a"]["passed"], f["a"]["executions"], f["b"]["passes"]) for f in found["worse"]] == [(2, 3, False)]
        assert (found["p_value"], found["significant"]) == (1.0, False)
        assert len(index.compare("latest~1", "latest")["better"]) == 1
        # 2 of 3, 1 of 2 and 3 of 4: that at least one of two passes
        (entry,) = index.leaderboard(k=2)
        assert entry["pass_at_k"] == pytest.approx(1.0)
        (entry,) = index.leaderboard(k=1)
        assert entry["pass_at_k"] == pytest.approx((2 / 3 + 1 / 2 + 3 / 4) / 3)
        (entry,) = index.leaderboard(k=4)
        assert entry["pass_at_k"] == 1.0
        (target,) = index.history("t1")["targets"]
        assert target["flaky"]


def test_the_targets_of_an_experiment(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    found = index.compare("alpha", "beta", experiment="weekly")
    newest = max(v.run for v in verdicts if v.experiment == "weekly")
    assert found["a"]["run_id"] == found["b"]["run_id"] == f"weekly::{run_name(newest)}"
    assert [found[side]["target"] for side in "ab"] == ["alpha", "beta"]
    with pytest.raises(UnknownRunError, match="no run that ended with the target 'gamma'"):
        index.compare("alpha", "gamma", experiment="weekly")
    with pytest.raises(UnknownRunError, match="has no trial of the target 'gamma'"):
        index.compare("latest", "latest~1", target="gamma")


def test_names_of_tests(world: World) -> None:
    rows = [row("t1"), row("t1", suite="a/b"), row("c/t3", suite=None), row("only"), row("x", suite=None), row("x")]
    world.write({f"runs/e/2026-01-05T09-00-00-000Z/{name}": text for name, text in bundle(rows=rows).items()})
    world.sync()
    with open_index(world.db) as index:
        for name, expected in {
            "only": ("refund", "only"),
            "refund/t1": ("refund", "t1"),
            "a/b/t1": ("a/b", "t1"),
            "c/t3": (None, "c/t3"),
            "/x": (None, "x"),
        }.items():
            found = index.history(name)
            assert (found["suite"], found["test_id"]) == expected
        with pytest.raises(UnknownTestError, match="'t1' is not one test: 't1' of a/b, 't1' of refund; name its suite"):
            index.history("t1")
        with pytest.raises(UnknownTestError, match="'x' is not one test: 'x' of no suite, 'x' of refund"):
            index.history("x")
        assert index.history("t1", suite="a/b")["suite"] == "a/b"
        assert index.history("x", suite="")["suite"] is None
        with pytest.raises(UnknownTestError, match="no test is called 't1' in the suite 'nope'"):
            index.history("t1", suite="nope")
        for unknown in ("nope", "", "refund/", "/", "refund/nope", "'"):
            with pytest.raises(UnknownTestError, match="no test is called"):
                index.history(unknown)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda index: index.drift(window="0"), "window: '0' is neither"),
        (lambda index: index.drift(window="soon"), "window: 'soon' is neither"),
        (lambda index: index.drift(window="999999w"), "beyond all times"),
        (lambda index: index.drift(limit=0), "limit"),
        (lambda index: index.leaderboard(k=0), "k: 0 is not between"),
        (lambda index: index.leaderboard(since="2026-02-30"), "since: '2026-02-30' is no date"),
        (lambda index: index.failures(until="x"), "until: 'x' is no date"),
        (lambda index: index.failures(status="failed"), "there is no filter status"),
    ],
)
def test_impossible_questions(ended: tuple[Index, list[Verdict]], ask: Any, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        ask(ended[0])
