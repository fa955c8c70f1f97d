"""The few formulas behind comparisons and boards, each with its source."""

import math
from typing import Any

_Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: two-sided 95 %."""

SIGNIFICANT = 0.05
"""A difference with a smaller p-value is more than noise."""


def wilson(passed: int, executions: int) -> tuple[float, float] | None:
    """The 95 % score interval of a rate; None without executions.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212,
    without continuity correction. https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval
    """
    if executions == 0:
        return None
    rate, square = passed / executions, _Z * _Z
    middle = rate + square / (2 * executions)
    half = _Z * math.sqrt(rate * (1 - rate) / executions + square / (4 * executions * executions))
    low, high = ((middle + side * half) / (1 + square / executions) for side in (-1, 1))
    return 0.0 if passed == 0 else low, 1.0 if passed == executions else high


def rate(passed: int, executions: int) -> dict[str, Any]:
    """Passed and all executions, the pass rate and its 95 % interval; both None without executions."""
    return {
        "passed": passed,
        "executions": executions,
        "pass_rate": passed / executions if executions else None,
        "interval": wilson(passed, executions),
    }


def mcnemar(one_way: int, other_way: int) -> float:
    """The exact two-sided p-value for pairs that differ, so many in one direction and so many in the other.

    Under the null hypothesis each direction is as likely. McNemar, Psychometrika 12 (1947), 153-157, in the
    exact binomial form. https://en.wikipedia.org/wiki/McNemar%27s_test#Variations
    """
    pairs = one_way + other_way
    all_ways = pairs * math.log(2) - math.lgamma(pairs + 1)
    tail = (
        math.exp(-math.lgamma(count + 1) - math.lgamma(pairs - count + 1) - all_ways)
        for count in range(min(one_way, other_way) + 1)
    )
    return min(1.0, 2 * math.fsum(tail))


def pass_at_k(executions: int, passed: int, k: int) -> float | None:
    """The unbiased estimate that at least one of k executions passes; None for less than k executions.

    1 - C(n - c, k) / C(n, k): Chen et al., "Evaluating large language models trained on code" (2021),
    https://arxiv.org/abs/2107.03374, section 2.1.
    """
    if executions < k:
        return None
    return 1 - math.comb(executions - passed, k) / math.comb(executions, k)
