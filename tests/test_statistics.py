"""The formulas against published tables and against calculations of another kind."""

import itertools
import math
from collections import Counter
from fractions import Fraction
from random import Random

import numpy
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import StratifiedTable

from indexer.statistics import (
    UNKNOWN,
    Table,
    disagreement,
    exact_p,
    normal_p,
    pass_at_k,
    permutation_p,
    q_values,
    rates,
    risk_difference,
    scores,
    student_t,
    wilson,
)


@pytest.mark.parametrize(
    ("passed", "executions", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3 (score, no continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_one(passed: int, executions: int, low: float, high: float) -> None:
    assert wilson(passed, executions) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_bounds_are_where_the_score_test_just_rejects(passed: int, failed: int) -> None:
    executions = passed + failed
    bounds = wilson(passed, executions)
    if bounds is None:
        assert executions == 0
        return
    assert 0 <= bounds[0] <= passed / executions <= bounds[1] <= 1
    for bound in bounds:
        if 0 < bound < 1:
            distance = abs(passed / executions - bound) / math.sqrt(bound * (1 - bound) / executions)
            assert distance == pytest.approx(1.959963984540054)


def tables(random: Random, tests: int, most: int) -> list[Table]:
    drawn = []
    for _ in range(tests):
        m, n, rate = random.randint(1, most), random.randint(1, most), random.random()
        drawn.append(Table(passes(random, m, rate), m, passes(random, n, rate), n))
    return drawn


def passes(random: Random, executions: int, rate: float) -> int:
    return sum(random.random() < rate for _ in range(executions))


def test_one_test_is_twice_fishers_smaller_p() -> None:
    random = Random(1)
    for _ in range(5_000):
        (table,) = tables(random, 1, 40)
        a, m, b, n = table
        sides = [scipy.stats.fisher_exact([[b, n - b], [a, m - a]], side).pvalue for side in ("less", "greater")]
        assert exact_p([table]) == pytest.approx(min(1.0, 2 * min(sides)), rel=1e-9)


def test_one_execution_each_is_mcnemars_exact_test() -> None:
    random = Random(2)
    for _ in range(5_000):
        drawn = [Table(random.randint(0, 1), 1, random.randint(0, 1), 1) for _ in range(random.randint(1, 60))]
        worse, better = (sum(table.a - table.b == side for table in drawn) for side in (1, -1))
        expected = scipy.stats.binomtest(worse, worse + better).pvalue if worse + better else 1.0
        assert exact_p(drawn) == pytest.approx(expected, rel=1e-9)


def test_several_tests_count_every_way_to_deal_them() -> None:
    random = Random(3)
    for _ in range(200):
        drawn = tables(random, random.randint(1, 3), 3)
        ways: Counter[int] = Counter({0: 1})
        for a, m, b, n in drawn:
            outcomes = [True] * (a + b) + [False] * (m + n - a - b)
            dealt = Counter(sum(outcomes[at] for at in side) for side in itertools.combinations(range(m + n), n))
            ways = _together(ways, dealt)
        observed, total = sum(table.b for table in drawn), sum(ways.values())
        below = sum(count for value, count in ways.items() if value <= observed)
        above = sum(count for value, count in ways.items() if value >= observed)
        assert exact_p(drawn) == pytest.approx(min(1.0, 2 * min(below, above) / total), rel=1e-9)


def _together(one: Counter[int], other: Counter[int]) -> Counter[int]:
    found: Counter[int] = Counter()
    for (a, times), (b, more) in itertools.product(one.items(), other.items()):
        found[a + b] += times * more
    return found


def test_many_executions_are_as_cochran_mantel_haenszel() -> None:
    random = Random(4)
    for _ in range(300):
        drawn = [table for table in tables(random, 8, 30) if 0 < table.a + table.b < table.m + table.n]
        strata = StratifiedTable([numpy.array([[b, n - b], [a, m - a]]) for a, m, b, n in drawn])
        expected = strata.test_null_odds(correction=True)
        assert normal_p(drawn) == pytest.approx(expected.pvalue if expected.statistic else 1.0, abs=1e-9) or (
            abs(sum(b - n * (a + b) / (m + n) for a, m, b, n in drawn))
            < 0.5  # statsmodels does not stop at no difference
        )


def test_the_normal_form_is_near_the_exact_one() -> None:
    random = Random(5)
    for _ in range(100):
        drawn = tables(random, 60, 12)
        exact = exact_p(drawn)
        if exact < 1:
            assert normal_p(drawn) == pytest.approx(exact, rel=0.02, abs=0.002)


def test_a_difference_that_no_one_could_miss() -> None:
    assert exact_p([Table(47, 80, 29, 80)]) == pytest.approx(0.0067, abs=5e-4)
    assert rates([Table(47, 80, 29, 80)]).difference == pytest.approx(-18 / 80)
    assert rates([]) == UNKNOWN
    assert rates([Table(0, 0, 1, 2)]) == UNKNOWN
    assert exact_p([Table(5, 5, 5, 5)]) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("tests", [1, 5, 20, 200])
@pytest.mark.parametrize("executions", [(1, 1), (3, 3), (20, 20), (1, 5), (12, 3)])
@pytest.mark.parametrize("kind", ["equal", "lower", "independent"])
def test_the_interval_covers(tests: int, executions: tuple[int, int], kind: str) -> None:
    random = numpy.random.default_rng(tests * 100 + sum(executions))
    m, n = executions
    times = 2_000 if tests < 200 else 500
    covered = 0
    for _ in range(times):
        a_rates = random.uniform(0.2 if kind == "lower" else 0.0, 1.0, tests)
        b_rates = {"equal": a_rates, "lower": a_rates - 0.2, "independent": random.uniform(0, 1, tests)}[kind]
        a, b = random.binomial(m, a_rates), random.binomial(n, b_rates)
        _, (low, high) = risk_difference([Table(int(x), m, int(y), n) for x, y in zip(a, b, strict=True)])
        covered += low - 1e-9 <= float((b_rates - a_rates).mean()) <= high + 1e-9
    share, chance = covered / times, 3 * math.sqrt(0.05 * 0.95 / times)
    assert share >= 0.93 - chance
    if kind != "independent" and tests >= 20 and min(executions) >= 3:
        assert share <= 0.97 + chance


def test_scores_are_dealt_anew() -> None:
    random = Random(6)
    for _ in range(200):
        strata = [
            (
                [random.random() for _ in range(random.randint(1, 3))],
                [random.random() for _ in range(random.randint(1, 3))],
            )
            for _ in range(random.randint(1, 2))
        ]
        observed = sum(sum(b) for _, b in strata)
        sums = [0.0]
        for a, b in strata:
            pooled = a + b
            sums = [
                s + sum(pooled[at] for at in side)
                for s in sums
                for side in itertools.combinations(range(len(pooled)), len(b))
            ]
        below, above = (numpy.mean([sign * (s - observed) <= 1e-12 for s in sums]) for sign in (1, -1))
        assert permutation_p(strata) == pytest.approx(min(1.0, 2 * min(below, above)))


def test_many_scores_are_normal_with_the_permutation_variance() -> None:
    random = Random(7)
    a, b = [random.gauss(0.9, 0.1) for _ in range(40)], [random.gauss(0.85, 0.1) for _ in range(40)]
    test = scipy.stats.permutation_test((b, a), lambda x, y: numpy.mean(x) - numpy.mean(y), n_resamples=20_000, rng=1)
    assert permutation_p([(a, b)]) == pytest.approx(test.pvalue, abs=0.01)


def test_one_outlier_among_many_scores_proves_nothing() -> None:
    # of 86 scores the one that is far off is among the five newest: twice 5/86
    assert permutation_p([([0.9] * 80 + [0.8], [0.0, 0.9, 0.9, 0.9, 0.9])]) == pytest.approx(2 * 5 / 86, rel=1e-6)
    random = Random(8)
    strata = [([random.uniform(0.9, 0.94) for _ in range(39)], [random.uniform(0.9, 0.94)]) for _ in range(10)]
    strata[0][1][0] = 0.1
    dealt = []
    for _ in range(20_000):
        picked = [random.choice([*a, *b]) for a, b in strata]  # one score of each test is the newest
        dealt.append(sum(picked) <= sum(b[0] for _, b in strata) + 1e-12)
    assert permutation_p(strata) == pytest.approx(2 * sum(dealt) / len(dealt), abs=0.002)


def test_sums_beyond_all_numbers_are_unknown() -> None:
    assert scores([([1e308, 1e308], [1e308, 1e308, 0.0])]) == UNKNOWN
    assert scores([([0.0], [1e200]), ([1e200], [0.0, 3.0])]) == UNKNOWN
    assert scores([([0.5, 0.5], [0.5]), ([0.5], [0.5])]).interval is None  # no spread is no certainty


def test_what_the_normal_form_calls_likely_is_never_proved() -> None:
    random = Random(9)
    for _ in range(5_000):
        drawn = tables(random, random.randint(1, 4), random.choice((3, 10, 30)))
        assert normal_p(drawn) <= 0.2 or exact_p(drawn) > 0.05


def test_scores_have_a_weighted_interval() -> None:
    # with one execution each all weights are equal: the paired t interval
    pairs = [(0.2, 0.5), (0.4, 0.3), (0.9, 1.0), (0.1, 0.6), (0.5, 0.5)]
    found = scores([([a], [b]) for a, b in pairs])
    expected = scipy.stats.ttest_rel([b for _, b in pairs], [a for a, _ in pairs]).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert scores([([0.2], [0.5])]).interval is None
    assert scores([([0.5], [])]) == UNKNOWN


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 30, 301])
def test_student_t(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_q_values_are_benjaminis_and_hochbergs(p_values: list[float]) -> None:
    assert q_values(p_values) == pytest.approx(scipy.stats.false_discovery_control(p_values, method="bh").tolist())


def test_disagreement_is_the_chance_that_two_differ() -> None:
    assert disagreement([(2, 1), (1, 1)]) == 1.0
    assert disagreement([(4, 2), (3, 3)]) == pytest.approx(4 / 9)
    assert disagreement([(1, 0), (1, 1)]) is None


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 5))
def test_pass_at_k_is_the_share_of_samples_with_a_pass(executions: int, passed: int, k: int) -> None:
    passed = min(passed, executions)
    outcomes = [True] * passed + [False] * (executions - passed)
    samples = list(itertools.combinations(outcomes, k))
    expected = Fraction(sum(map(any, samples)), len(samples)) if samples else None
    assert pass_at_k(executions, passed, k) == (None if expected is None else pytest.approx(float(expected)))
