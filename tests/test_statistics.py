"""The formulas against published tables and against calculations of another kind."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.statistics import mcnemar, pass_at_k, wilson


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


@pytest.mark.parametrize(
    ("one_way", "other_way", "p"),
    # as scipy tells them: binomtest with the smaller count of all pairs and 0.5
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (10, 2, 0.03857421875), (121, 59, 4.43e-06)],
)
def test_mcnemar(one_way: int, other_way: int, p: float) -> None:
    assert mcnemar(one_way, other_way) == pytest.approx(p, rel=0.02)
    assert mcnemar(other_way, one_way) == mcnemar(one_way, other_way)


@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_counts_all_ways_that_are_no_likelier(one_way: int, other_way: int) -> None:
    pairs = one_way + other_way
    least = min(one_way, other_way)
    sides = [sum(flips) for flips in itertools.product((0, 1), repeat=pairs)] if pairs < 13 else []
    if sides:
        extreme = sum(side <= least or side >= pairs - least for side in sides)
        assert mcnemar(one_way, other_way) == pytest.approx(min(1.0, extreme / len(sides)))


def test_mcnemar_of_many_pairs() -> None:
    assert mcnemar(100_000, 100_000) == 1.0
    assert mcnemar(5_000, 0) == 0.0


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 5))
def test_pass_at_k_is_the_share_of_samples_with_a_pass(executions: int, passed: int, k: int) -> None:
    passed = min(passed, executions)
    outcomes = [True] * passed + [False] * (executions - passed)
    samples = list(itertools.combinations(outcomes, k))
    expected = Fraction(sum(map(any, samples)), len(samples)) if samples else None
    assert pass_at_k(executions, passed, k) == (None if expected is None else pytest.approx(float(expected)))
