"""Boards, drift, history and comparisons against what plain Python makes of the same verdicts."""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from math import comb, fsum
from typing import Any

import pytest
import scipy.stats

from indexer import Filters, Index, open_index
from indexer.errors import QueryError, UnknownRunError, UnknownTestError
from indexer.statistics import Table, exact_p, risk_difference, wilson
from tests.bundles import at, bundle, row
from tests.jobs import job, trial
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

    @property
    def path(self) -> str:
        return f"{self.suite}/{self.test}"

    @property
    def run_id(self) -> str:
        return f"{self.experiment}::{run_name(self.run)}"

    @property
    def began(self) -> datetime:
        return datetime(2026, 1, 5 + self.run // 20, self.run % 20, tzinfo=UTC)

    @property
    def day(self) -> str:
        return str(self.began.date())


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


def counts(verdicts: list[Verdict]) -> dict[str, int]:
    return {status: sum(v.status == status for v in verdicts) for status in ("passed", "failed", "errored")}


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("by", "across", "names"),
    [
        (None, None, ("experiment", "target")),
        ("target", None, ("target",)),
        ("dataset", "target", ("suite", "target")),
        ("test", "experiment", ("path", "experiment")),
        ("day", None, ("day",)),
    ],
)
def test_the_leaderboard(
    ended: tuple[Index, list[Verdict]], k: int, by: str | None, across: str | None, names: tuple[str, ...]
) -> None:
    index, verdicts = ended
    *board, total = index.leaderboard(by=by, across=across, k=k)
    dimensions = [name for name in (by or "experiment", across if by else "target") if name]
    expected = grouped(verdicts, *names)
    assert {tuple(each[name] for name in dimensions) for each in board} == set(expected)
    for entry in (*board, total):
        mine = verdicts if "total" in entry else expected[tuple(entry[name] for name in dimensions)]
        count, judged = counts(mine), [v for v in mine if v.status != "errored"]
        paid = [v for v in mine if v.cost is not None]
        assert (entry["runs"], entry["tests"]) == (len({v.run for v in mine}), count_tests(mine))
        assert {name: entry[name] for name in count} == count
        assert entry["executions"] == len(mine)
        assert entry["quality_rate"] == pytest.approx(count["passed"] / len(judged))
        assert entry["interval"] == wilson(count["passed"], len(judged))
        assert entry["score"] == pytest.approx(fsum(v.score for v in judged) / len(judged))
        assert entry["cost_usd"] == pytest.approx(fsum(v.cost or 0 for v in paid))
        assert entry["cost_per_passed"] == pytest.approx(entry["cost_usd"] / counts(paid)["passed"])
        assert entry["pass_at_k"] == (pytest.approx(count["passed"] / len(mine)) if k == 1 else None)
    assert total["total"] is True
    order = [each["quality_rate"] for each in board]
    assert by == "day" or across or not by or order == sorted(order, reverse=True)
    days = [each["day"] for each in board] if by == "day" else []
    assert days == sorted(days, reverse=True)


def count_tests(verdicts: list[Verdict]) -> int:
    """Tests once a run and target."""
    return len({(v.run, v.path, v.target) for v in verdicts})


def test_a_run_with_two_values_of_a_tag_counts_once(world: World) -> None:
    for number, tags in enumerate((["team=a", "team=b"], ["team=a"], [])):
        name = run_name(number)
        files = bundle(rows=[row("t1"), row("t2", 0.0)], experiment="e", name=name, tags={"tags": tags})
        world.write({f"runs/e/{name}/{path}": text for path, text in files.items()})
    world.sync()
    with open_index(world.db) as index:
        *board, total = index.leaderboard(by="tag:team")
        assert {entry["tag:team"]: (entry["runs"], entry["executions"]) for entry in board} == {
            "a": (2, 4),
            "b": (1, 2),
        }
        assert (total["runs"], total["executions"], total["passed"]) == (2, 4, 2)


def test_a_part_of_the_leaderboard(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    part = Filters(experiment="nightly", target="b*", since="2026-01-05T10:00:00Z", until="2026-01-06")
    entry, _ = index.leaderboard(**part)
    mine = [v for v in verdicts if v.experiment == "nightly" and v.target == "beta" and 10 <= v.run < 20]
    assert (entry["runs"], entry["executions"]) == (len({v.run for v in mine}), len(mine))
    assert index.leaderboard(experiment="nope") == []
    entry, _ = index.leaderboard(by="target", test="refund/t1", target="alpha")
    assert entry["executions"] == sum(v.path == "refund/t1" and v.target == "alpha" for v in verdicts)


def test_days_are_those_of_the_zone(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    with open_index(index.path, zone=timezone(timedelta(hours=-6))) as elsewhere:
        days = {row["day"]: row["executions"] for row in elsewhere.leaderboard(by="day")[:-1]}
        expected = Counter(str(v.began.astimezone(timezone(timedelta(hours=-6))).date()) for v in verdicts)
        assert days == expected
        weeks = {row["week"]: row["executions"] for row in elsewhere.leaderboard(by="week")[:-1]}
        assert weeks == Counter(
            f"2026-W{v.began.astimezone(timezone(timedelta(hours=-6))).isocalendar().week:02}" for v in verdicts
        )
        since = elsewhere.leaderboard(by="day", since=date(2026, 1, 6))
        assert min(row["day"] for row in since[:-1]) == "2026-01-06"


def test_failures(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    groups = grouped([v for v in verdicts if v.status != "passed"], "suite", "test", "target", "status")
    rows = index.failures()
    assert {(r["suite"], r["test_id"], r["target"], r["status"]): r["trials"] for r in rows} == {
        group: len(each) for group, each in groups.items()
    }
    for r in rows:
        mine = groups[r["suite"], r["test_id"], r["target"], r["status"]]
        newest = sorted({v.run for v in mine}, reverse=True)[:3]
        assert r["runs"] == [next(v.run_id for v in mine if v.run == run) for run in newest]
        assert r["run_count"] == len({v.run for v in mine})
    assert [r["trials"] for r in rows] == sorted((r["trials"] for r in rows), reverse=True)
    for limit in range(1, len(rows) + 1):  # from kept counts, and by a walk over what a filter lets through
        assert index.failures(limit=limit) == rows[:limit] == index.failures(since="2000-01-01", limit=limit)
    assert sum(r["trials"] for r in index.failures(target="alpha")) == sum(
        len(each) for (_, _, target, _), each in groups.items() if target == "alpha"
    )
    assert index.failures(since="2026-01-06") == index.failures(since="2026-01-06", experiment="*")


def test_drift_looks_at_every_split(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    found = index.drift(by="test", every=True, limit=1000)
    rows: dict[tuple[str, ...], Any] = {
        (r["target"], r["suite"], r["test_id"]): r for r in found["groups"] if r["measure"] == "quality_rate"
    }
    for group, mine in grouped(verdicts, "target", "suite", "test").items():
        runs = sorted({v.run for v in mine}, reverse=True)[:40]
        ps: dict[int, float] = {}
        for newer in (1, 2, 3, 5, 8, 13, 21):
            recent = counts([v for v in mine if v.run in runs[:newer]])
            before = counts([v for v in mine if v.run in runs[newer:]])
            if min(recent["passed"] + recent["failed"], before["passed"] + before["failed"]) >= 5:
                table = [[recent["passed"], recent["failed"]], [before["passed"], before["failed"]]]
                less, more = (scipy.stats.fisher_exact(table, side).pvalue for side in ("less", "greater"))
                is_worse = recent["passed"] * before["failed"] < before["passed"] * recent["failed"]
                ps[newer] = min(1.0, 2 * min(less, more)) if is_worse else 1.0
        expected = min(1.0, min(ps.values()) * len(ps))
        told = rows[group]
        if min(ps.values()) < 0.15:  # a larger one is taken as normal
            assert told["p_value"] == pytest.approx(expected)
            newer = min(ps, key=lambda split: ps[split])
            assert told["since"]["run_id"] == next(v.run_id for v in mine if v.run == runs[newer - 1])
            assert told["last_good"]["run_id"] == next(v.run_id for v in mine if v.run == runs[newer])
        else:
            assert told["p_value"] > 0.1
    assert found["looked_at"] == len(found["groups"])
    p_values = [each["p_value"] for each in found["groups"]]
    corrected = scipy.stats.false_discovery_control(p_values, method="bh").tolist()
    assert [each["q_value"] for each in found["groups"]] == pytest.approx(corrected)
    assert index.drift()["groups"] == []  # all of it is chance


def test_history(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    found = index.history("refund/t2", limit=10)
    assert (found["suite"], found["test_id"]) == ("refund", "t2")
    assert [t["target"] for t in found["targets"]] == list(TARGETS)
    for target in found["targets"]:
        every = [v for v in verdicts if (v.path, v.target) == ("refund/t2", target["target"])][::-1]
        mine = every[:10]
        assert [o["status"] for o in target["outcomes"]] == [v.status for v in mine]
        assert [o["run_id"] for o in target["outcomes"]] == [v.run_id for v in mine]
        count = counts(every)
        assert (target["passed"], target["verdicts"]) == (count["passed"], count["passed"] + count["failed"])
        assert (target["errored"], target["executions"], target["more"]) == (count["errored"], len(every), True)
        assert target["disagreement"] is None  # agent version and code are unknown, and no run repeats
        assert target["flaky"] is False
        assert [s["name"] for s in target["outcomes"][0]["scores"]] == ["contains"]
    assert not index.history("refund/t2", limit=1000)["targets"][0]["more"]
    assert not index.history("refund/t2", experiment="nope")["targets"]


def test_compare_runs(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    for a, b in itertools.pairwise(sorted({v.run for v in verdicts})[:20]):
        sides = [[v for v in verdicts if v.run == run] for run in (a, b)]
        found = index.compare(sides[0][0].run_id, sides[1][0].run_id)
        assert (len(found["shared"]), found["only_a"], found["only_b"]) == (12, [], [])
        pairs = list(zip(*(sorted(side, key=lambda v: (v.path, v.target)) for side in sides), strict=True))
        judged = [pair for pair in pairs if all(v.status != "errored" for v in pair)]
        worse = sum(x.status == "passed" and y.status == "failed" for x, y in judged)
        better = sum(x.status == "failed" and y.status == "passed" for x, y in judged)
        p = scipy.stats.binomtest(worse, worse + better).pvalue if worse + better else 1.0
        assert found["p_value"] == pytest.approx(p)
        assert found["difference"] == pytest.approx((better - worse) / len(judged))
        assert found["interval"][0] <= found["difference"] <= found["interval"][1]
        lost = [sum(v.status == "errored" for v in side) for side in sides]
        assert found["errors"]["difference"] == pytest.approx((lost[1] - lost[0]) / 12)
        gaps = [y.score - x.score for x, y in judged]
        assert found["score"]["difference"] == pytest.approx(fsum(gaps) / len(gaps))
        for side, name in zip(sides, "ab", strict=True):
            assert found[name]["errored"] == counts(side)["errored"]
            costs = [v.cost for v in side if v.cost is not None]
            assert found["cost"][name] == pytest.approx(fsum(costs) / len(costs))


def test_compare_groups(ended: tuple[Index, list[Verdict]]) -> None:
    index, verdicts = ended
    found = index.compare({"target": "alpha"}, {"target": "b*"}, experiment="weekly")
    mine = [v for v in verdicts if v.experiment == "weekly"]
    tables = []
    for each in grouped(mine, "path").values():
        sides = [counts([v for v in each if v.target == target]) for target in TARGETS]
        tables.append(Table(*(n for side in sides for n in (side["passed"], side["passed"] + side["failed"]))))
    assert (found["difference"], found["p_value"]) == pytest.approx((risk_difference(tables)[0], exact_p(tables)))
    assert [found[side]["runs"] for side in "ab"] == [len({v.run for v in mine})] * 2
    assert found["verdict"] == "no difference shown"
    assert all("target" not in row for row in found["tests"])  # the sides share none
    with pytest.raises(QueryError, match="the same trials are on both sides"):
        index.compare({"target": "alpha"}, {"experiment": "weekly"})
    with pytest.raises(QueryError, match="would be everything"):
        index.compare({}, {"target": "beta"})
    with pytest.raises(UnknownRunError, match="no execution in runs that ended matches target='gamma'"):
        index.compare({"target": "alpha"}, {"target": "gamma"})


def runs_of(world: World, number: int, rows: list[dict[str, Any]], experiment: str = "e") -> None:
    name = run_name(number)
    for path, text in bundle("v9", rows, experiment=experiment, name=name).items():
        world.write({f"runs/{experiment}/{name}/{path}": text})


def executions(test: str, passed: int, failed: int, errored: int = 0, **fields: Any) -> dict[str, Any]:
    told = [(1.0, "ok")] * passed + [(0.0, "quality_failure")] * failed + [(0.0, "execution_error")] * errored
    samples = [{"score": score, "execution_status": status} for score, status in told]
    return row(test, samples=samples, **fields)


def test_repeats_are_all_counted(world: World) -> None:
    runs_of(world, 0, [executions("t1", 47, 33)])
    runs_of(world, 1, [executions("t1", 29, 51)])
    runs_of(world, 2, [executions("t1", 14, 0, 36)])
    runs_of(world, 3, [executions("t9", 3, 0)])
    world.sync()
    with open_index(world.db) as index:
        found = index.compare("latest~3", "latest~2")
        one_sided = scipy.stats.fisher_exact([[29, 51], [47, 33]], "less").pvalue
        assert found["p_value"] == pytest.approx(2 * one_sided) == pytest.approx(0.007, abs=5e-4)
        assert (found["verdict"], found["tests"][0]["verdict"]) == ("worse", "worse")
        lost = index.compare("latest~2", "latest~1")  # its environment failed, it got no worse
        assert (lost["verdict"], lost["errors"]["verdict"]) == ("better", "more")
        other = index.compare("latest~1", "latest")
        assert (other["verdict"], other["p_value"], other["difference"]) == ("no shared tests", None, None)
        assert other["only_b"] == [{"suite": "refund", "test_id": "t9", "target": "mock-alpha"}]
        *_, total = index.leaderboard(k=2)
        assert total["pass_at_k"] is not None
        (target,) = index.history("t1", limit=1000)["targets"]
        expected = (47 * 33 + 29 * 51) / (80 * 79 / 2 * 2 + 14 * 13 / 2)
        assert (target["disagreement"], target["flaky"]) == (pytest.approx(expected), True)
        (flaky,) = index.flaky()
        assert flaky["disagreement"] == pytest.approx(expected)
        assert world.column("SELECT disagreement FROM flaky_tests") == [pytest.approx(expected)]
        assert index.flaky(since="2026-02-01") == []


def test_pass_at_k_is_the_mean_of_its_estimate_over_tests(world: World) -> None:
    """1 - C(failed, k) / C(executions, k) for each test with that many executions (arXiv 2107.03374)."""
    runs_of(world, 0, [executions("t1", 2, 3), executions("t2", 1, 2, 1), executions("t3", 1, 1)])
    runs_of(world, 1, [executions("t1", 4, 1, target="beta")])
    world.sync()
    with open_index(world.db) as index:
        *boards, total = index.leaderboard(by="target", k=3)
    of_each = {"mock-alpha": [(5, 2), (4, 1)], "beta": [(5, 4)]}
    estimates = {
        target: [1 - comb(executed - passed, 3) / comb(executed, 3) for executed, passed in tests]
        for target, tests in of_each.items()
    }
    assert {each["target"]: each["pass_at_k"] for each in boards} == {
        target: pytest.approx(fsum(each) / len(each)) for target, each in estimates.items()
    }
    everywhere = [each for some in estimates.values() for each in some]
    assert total["pass_at_k"] == pytest.approx(fsum(everywhere) / 3)


def test_differences_that_are_not_significant_are_listed_by_size(world: World) -> None:
    runs_of(world, 0, [executions("t1", 2, 2), executions("t2", 3, 1), executions("t3", 1, 3), executions("t4", 2, 2)])
    runs_of(world, 1, [executions("t1", 3, 1), executions("t2", 0, 4), executions("t3", 3, 1), executions("t4", 2, 2)])
    world.sync()
    with open_index(world.db) as index:
        tests = index.compare("latest~1", "latest")["tests"]
    assert [(each["test_id"], each["verdict"]) for each in tests] == [
        (test, "no difference shown") for test in ("t2", "t3", "t1", "t4")
    ]


def test_the_fall_that_would_be_seen_follows_from_the_median_interval(world: World) -> None:
    """(z of the corrected level + z of 80 % power) standard errors; half a 95 % interval has z of 0.975 of them."""
    for number in range(12):
        runs_of(world, number, [executions(f"t{test}", 8 + (test + number) % 2, 2) for test in range(3)])
    world.sync()
    with open_index(world.db) as index:
        found = index.drift(every=True)
    rates = [each["interval"] for each in found["groups"] if each["measure"] != "score" and each["interval"]]
    halves = sorted((high - low) / 2 for low, high in rates)
    z = scipy.stats.norm.ppf
    level = 0.05 / (found["looked_at"] * 7)  # seven splits
    errors = halves[len(halves) // 2] / z(0.975)
    assert found["detectable_fall"] == pytest.approx(errors * (z(1 - level / 2) + z(0.8)))


def test_many_tests_of_one_pattern(world: World) -> None:
    runs_of(world, 0, [row(f"t{number}", float(number % 3 > 0)) for number in range(1200)])
    world.sync()
    with open_index(world.db) as index:
        assert len(index.runs(test="t*")) == 1
        assert index.leaderboard(by="target", test="t*")[-1]["executions"] == 1200
        assert index.leaderboard(by="target", test=[f"t{number}" for number in range(1100)])[-1]["executions"] == 1100
        assert len(index.failures(limit=1000, test="t1*")) == len(
            [n for n in range(1200) if str(n)[0] == "1" and n % 3 == 0]
        )
        with pytest.raises(QueryError, match="at most 100 values"):
            index.runs(tag=[f"t{number}" for number in range(101)])


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.runs(test="\ud800"),
        lambda index: index.runs(since=5),
        lambda index: index.drift(window=40),
        lambda index: index.flaky(limit="5"),
        lambda index: index.flaky(limit=5.5),
        lambda index: index.leaderboard(by=["model"]),
        lambda index: index.compare(["a"], None),
        lambda index: index.history(None),
        lambda index: index.ask("nope"),
        lambda index: index.run("\ud800"),
    ],
)
def test_values_of_a_wrong_kind_are_errors_of_the_query(ended: tuple[Index, list[Verdict]], ask: Any) -> None:
    with pytest.raises(QueryError):
        ask(ended[0])


def test_numbers_beyond_all_others_cost_only_what_they_are_in(world: World) -> None:
    huge = row("t1", cost_usd=1e308, token_usage={"input": 2**62, "output": 1})
    for number in range(3):
        runs_of(world, number, [huge, executions("t2", 3, 3)])
    world.sync()
    world.execute("UPDATE trials SET score = 1e308 WHERE test_id = 't1'")
    world.execute("UPDATE runs SET timestamp = '0001-01-01T00:00:00.000Z' WHERE id = 1")
    world.execute("UPDATE run_targets SET timestamp = '0001-01-01T00:00:00.000Z' WHERE run_pk = 1")
    with open_index(world.db, zone=timezone(timedelta(hours=-6))) as index:
        *_, total = index.leaderboard(by="day")
        assert (total["executions"], total["cost_usd"]) == (21, None)
        index.drift(every=True)
        index.compare("latest~1", "latest")
        index.leaderboard(by="test")


def test_one_targets_fall_is_not_hidden_by_anothers_rise(world: World) -> None:
    runs_of(world, 0, [executions("t1", 9, 0, target="codex"), executions("t1", 0, 9, target="other")])
    runs_of(world, 1, [executions("t1", 0, 9, target="codex"), executions("t1", 9, 0, target="other")])
    world.sync()
    with open_index(world.db) as index:
        found = index.compare("latest~1", "latest")
        assert found["verdict"] == "no difference shown"
        assert {row["target"]: row["verdict"] for row in found["tests"]} == {"codex": "worse", "other": "better"}


def test_drift_names_a_planted_fall_first_and_since_when(world: World) -> None:
    chance = random.Random(3)
    for number in range(24):
        rows = []
        for target, test in itertools.product(("alpha", "beta", "gamma"), range(8)):
            likely = 0.05 if (target, test) == ("beta", 5) and number >= 17 else 0.9
            passed = sum(chance.random() < likely for _ in range(2))
            rows.append(executions(f"t{test}", passed, 2 - passed, target=target))
        runs_of(world, number, rows, experiment=f"job-{number}")  # each an experiment of its own
    world.sync()
    with open_index(world.db) as index:
        found = index.drift()
        first = found["groups"][0]
        assert (first["target"], first["test_id"], first["measure"]) == ("beta", "t5", "quality_rate")
        names = [run_name(number) for number in range(24)]
        began = names.index(first["since"]["run_id"].rpartition("::")[2])
        assert abs(began - 17) <= 1
        assert first["last_good"]["run_id"].endswith(names[began - 1])
        assert first["recent"]["quality_rate"] < 0.4 < first["before"]["quality_rate"]
        assert found["looked_at"] > 24
        for narrowed in (Filters(), Filters(since="2020-01-01")):  # by the index, and by a walk
            (change,) = [
                t["change"]
                for t in index.ask("history", test="refund/t5", limit=3, **narrowed)["targets"]
                if t["change"]
            ]
            assert change["since"] == first["since"]
            assert change["p_value"] == pytest.approx(first["p_value"])
            mine, all_ = (index.drift(every=True, **wanted)["groups"] for wanted in (narrowed, Filters()))
            plain = [[row | {"compare": None} for row in groups] for groups in (mine, all_)]
            assert plain[0] == plain[1]
            assert all(row["compare"] == other["compare"] | narrowed for row, other in zip(mine, all_, strict=True))
        compared = index.compare(**first["compare"])  # both sides of what fell, and nothing else
        for side, counted in (("a", first["before"]), ("b", first["recent"])):
            assert compared[side]["quality_rate"] == pytest.approx(counted["quality_rate"])
            assert compared[side]["passed"] + compared[side]["failed"] == counted["executions"]
        assert compared["verdict"] == "worse"
        ago = index.drift(window="10", target=["beta", "gamma"], every=True)["groups"][0]["compare"]
        assert index.compare(**ago)["a"]["runs"] + index.compare(**ago)["b"]["runs"] == 10
        assert index.drift(target="alpha")["groups"] == []


@pytest.mark.parametrize(("window", "runs"), [("2h", 3), ("1d", 21), ("99999w", 24), ("4", 4)])
def test_a_window_ends_with_the_newest_run(world: World, window: str, runs: int) -> None:
    for number in range(24):  # 20 in a day, one an hour
        runs_of(world, number, [executions("t1", 3, 3)])
    world.sync()
    with open_index(world.db) as index:
        groups = index.drift(window=window, every=True)["groups"]
        assert groups
        for row in groups:
            sides = index.compare(**row["compare"])
            assert sides["a"]["runs"] + sides["b"]["runs"] == runs


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
            "refund/only/mock-alpha/1": ("refund", "only"),  # as lists of trials print it
        }.items():
            found = index.history(name)
            assert (found["suite"], found["test_id"]) == expected
        with pytest.raises(UnknownTestError, match=r"'t1' is not one test: a/b/t1, refund/t1$"):
            index.history("t1")
        with pytest.raises(UnknownTestError, match=r"'x' is not one test: /x, refund/x$"):
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
        (lambda index: index.drift(by="colour"), "by: 'colour' is none of target, dataset, test"),
        (lambda index: index.drift(limit=0), "limit"),
        (lambda index: index.leaderboard(k=0), "k: 0 is not between"),
        (lambda index: index.leaderboard(since="2026-02-30"), "since: '2026-02-30' is not a date"),
        (lambda index: index.failures(until="x"), "until: 'x' is not a date"),
        (lambda index: index.failures(status="broken"), "status: 'broken' is none of"),
        (lambda index: index.failures(colour="red"), "unknown filter: colour"),
        (lambda index: index.leaderboard(by="colour"), "'colour' is not a dimension"),
        (lambda index: index.leaderboard(by="day", across="day"), "across"),
    ],
)
def test_impossible_questions(ended: tuple[Index, list[Verdict]], ask: Any, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        ask(ended[0])


@pytest.mark.parametrize(("verdicts", "is_flaky"), [(4, False), (5, True)])
def test_a_flaky_test_has_five_verdicts(world: World, verdicts: int, is_flaky: bool) -> None:
    """As the contract says, in the question, the history and the view alike."""
    trials = {f"fizz__{number:07}": trial("fizz", float(number > 0)) for number in range(verdicts)}
    world.write(at("jobs/one", job(trials)))
    world.sync()
    with open_index(world.db) as index:
        assert [row["verdicts"] for row in index.flaky()] == [verdicts] * is_flaky
        assert [target["flaky"] for target in index.history("fizz")["targets"]] == [is_flaky]
    assert world.column("SELECT verdicts FROM flaky_tests") == [verdicts] * is_flaky
