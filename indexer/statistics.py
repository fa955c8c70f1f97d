"""The formulas behind comparisons and boards, each with its source. They judge outcomes and scores only.

Two sides are compared test by test: a test is a stratum with `a` of `m` executions passed on one side and `b` of `n` on
the other. Nothing here says that two sides are equal: an interval tells which differences may have been missed.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: two-sided 95 %."""
SIGNIFICANT = 0.05
"""A p-value, or among many a q-value, below this is called a change."""
LARGEST_SUPPORT = 2000
"""The largest support of a sum of counts for which its distribution is computed; beyond, it is taken as normal."""
MOST_ARRANGEMENTS = 100_000
"""The most permutations of all scores between the sides that are enumerated; beyond, see `permutation_p`."""

_FEW, _PATTERNS = 4, 256
"""Beyond MOST_ARRANGEMENTS: the most scores of one test that are still enumerated, and their most patterns in all."""
LIKELY = 0.2
"""A normal p-value above this is not refined, since that is slow: no p this large is ever called a change."""

Interval = tuple[float, float]


class Table(NamedTuple):
    """One test on two sides: `a` of `m` on the first, `b` of `n` on the second."""

    a: int
    m: int
    b: int
    n: int


class Effect(NamedTuple):
    """How much the second side is above the first, with its 95 % interval and p-value; None where nothing is known."""

    difference: float | None
    interval: Interval | None
    p_value: float | None


UNKNOWN = Effect(None, None, None)


def wilson(passed: int, executions: int) -> Interval | None:
    """The 95 % score interval of a rate; None without executions.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212,
    without continuity correction. https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval
    """
    if executions == 0:
        return None
    rate, square = passed / executions, Z * Z
    middle = rate + square / (2 * executions)
    half = Z * math.sqrt(rate * (1 - rate) / executions + square / (4 * executions * executions))
    low, high = ((middle + side * half) / (1 + square / executions) for side in (-1, 1))
    return 0.0 if passed == 0 else low, 1.0 if passed == executions else high


def rates(tables: Sequence[Table]) -> Effect:
    """The difference of two rates over tests, and whether it is more than chance."""
    known = [table for table in tables if table.m and table.n]
    if not known:
        return UNKNOWN
    difference, interval = risk_difference(known)
    return Effect(difference, interval, exact_p(known))


def exact_p(tables: Iterable[Table]) -> float:
    """The p-value of "no difference": the executions of each test are exchangeable between the sides.

    Twice the smaller tail of the sum of the second side's counts, a sum of hypergeometric variables: the exact
    Cochran-Mantel-Haenszel test (Agresti, "Categorical Data Analysis", 3rd ed., section 7.3.5). With one execution each
    it is McNemar's exact test; with a single test it is twice Fisher's one-sided p. Tests that all passed or all failed
    tell nothing. Beyond LARGEST_SUPPORT the sum is taken as normal, with a continuity correction.
    """
    telling = [table for table in tables if 0 < table.a + table.b < table.m + table.n]
    observed = sum(table.b - max(0, table.a + table.b - table.m) for table in telling)
    kinds = Counter((table.m, table.n, table.a + table.b) for table in telling)
    if sum((min(n, k) - max(0, k - m) + 1) * times for (m, n, k), times in kinds.items()) > LARGEST_SUPPORT:
        return normal_p(telling)
    distribution = [1.0]
    for (m, n, k), times in kinds.items():
        distribution = _convolved(distribution, _power(_hypergeometric(m, n, k), times))
    below, above = math.fsum(distribution[: observed + 1]), math.fsum(distribution[observed:])
    return min(1.0, 2 * min(below, above))


def normal_p(tables: Iterable[Table]) -> float:
    """Like `exact_p`, with a normal approximation: hypergeometric mean and variance, and a continuity correction."""
    off, variance = 0.0, 0.0
    for a, m, b, n in tables:
        size, passed = m + n, a + b
        off += b - n * passed / size
        if size > 1:
            variance += m * n * passed * (size - passed) / (size * size * (size - 1))
    if variance <= 0:
        return 1.0
    return min(1.0, math.erfc(max(0.0, abs(off) - 0.5) / math.sqrt(2 * variance)))


def risk_difference(tables: Sequence[Table]) -> tuple[float, Interval]:
    """The Mantel-Haenszel difference of two rates over tests, second minus first, with its 95 % score interval.

    Klingenberg, "A new and improved confidence interval for the Mantel-Haenszel risk difference", Statistics in
    Medicine 33 (2014), 2968-2983, with Sato's variance, after adding one pseudo-test whose two executions disagree.
    Each test needs executions on both sides.
    """
    weights = difference = p = q = 0.0
    for a, m, b, n in tables:
        size = m + n
        weights += m * n / size
        difference += (b * m - a * n) / size  # (b/n - a/m) times the weight
        p += (n * n * a - m * m * b + m * n * (m - n) / 2) / (size * size)
        q += (b * (m - a) + a * (n - b)) / (2 * size)
    total, shrunk, q = weights + 0.5, difference / (weights + 0.5), q + 0.25
    middle = shrunk + Z * Z * p / (2 * total * total)
    half = math.sqrt(max(0.0, middle * middle - shrunk * shrunk + Z * Z * q / (total * total)))
    return difference / weights, (max(-1.0, middle - half), min(1.0, middle + half))


def scores(strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Effect:
    """The difference of mean scores over tests, each with the scores of both sides, and whether it is more than chance.

    The interval is Student's t over the tests with weights mn/(m+n); None for a single test, or if all differ alike.
    """
    known = [(a, b) for a, b in strata if a and b]
    if not known:
        return UNKNOWN
    try:
        difference, interval = _mean_difference(known)
        return Effect(difference, interval, permutation_p(known))
    except (OverflowError, ValueError):  # sums overflow
        return UNKNOWN


def _mean_difference(known: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, Interval | None]:
    weights = [len(a) * len(b) / (len(a) + len(b)) for a, b in known]
    gaps = [math.fsum(b) / len(b) - math.fsum(a) / len(a) for a, b in known]
    total = math.fsum(weights)
    difference = math.fsum(gap * weight for gap, weight in zip(gaps, weights, strict=True)) / total
    spread = math.fsum(weight * (gap - difference) ** 2 for gap, weight in zip(gaps, weights, strict=True))
    if len(known) < 2 or not 0 < spread < math.inf:  # if all tests differ equally, their spread is unknown
        return difference, None
    half = student_t(len(known) - 1) * math.sqrt(spread / ((len(known) - 1) * total))
    return difference, (difference - half, difference + half)


def permutation_p(strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """The p-value of "no difference": twice the smaller tail of the second side's sum under permutation.

    Scores are permuted within a test (a stratified permutation test; Good, "Permutation, Parametric and Bootstrap Tests
    of Hypotheses", section 3.7). Exact up to MOST_ARRANGEMENTS ways. Beyond, the scores that carry most of the variance
    are still enumerated, and only the rest of the sum is taken as normal with its permutation variance: one
    outlier among many scores proves nothing. Raises OverflowError, ValueError if sums overflow.
    """
    telling = [(a, b) for a, b in strata if min(*a, *b) < max(*a, *b)]
    ways = math.prod(math.comb(len(a) + len(b), len(b)) for a, b in telling)
    off = math.fsum(math.fsum(b) - len(b) * math.fsum([*a, *b]) / (len(a) + len(b)) for a, b in telling)
    if ways <= MOST_ARRANGEMENTS:
        return _two_tails(off, [1.0 / ways] * ways, _every_sum(telling), 0.0)
    likely = _two_tails(off, [1.0], [0.0], math.fsum(map(_dealt_variance, telling)))
    return likely if likely > LIKELY else _two_tails(off, *_mostly_dealt(telling))


def _every_sum(strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    """The second side's sum minus its mean, for each permutation of the scores of all tests."""
    sums = [0.0]
    for a, b in strata:
        pooled = [*a, *b]
        fewer, sign = min((len(b), 1), (len(a), -1))  # what one side gains, the other one loses
        expected = fewer * math.fsum(pooled) / len(pooled)
        sides = [sign * (math.fsum(some) - expected) for some in combinations(pooled, fewer)]
        sums = [one + other for one in sums for other in sides]
    return sums


def _mostly_dealt(
    strata: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[list[float], list[float], float]:
    """Chances and sums for each way to assign the most extreme scores, and the variance of the rest of the sum."""
    chances, sums, variance = [1.0], [0.0], 0.0
    for a, b in sorted(strata, key=_dealt_variance, reverse=True):
        pooled, taken = [*a, *b], len(b)
        mean = math.fsum(pooled) / len(pooled)
        extreme = sorted(pooled, key=lambda value: -abs(value - mean))
        most = _FEW if len(sums) << _FEW <= _PATTERNS else 0
        dealt = extreme[: min(most, len(pooled) - 2)]
        rest = [value - mean for value in extreme[len(dealt) :]]
        between = math.fsum(rest) / len(rest)
        spread = math.fsum((value - between) ** 2 for value in rest) / (len(rest) - 1)
        options: list[tuple[float, float, float]] = []
        for pattern in range(1 << len(dealt)):
            chosen = [value - mean for at, value in enumerate(dealt) if pattern >> at & 1]
            left = taken - len(chosen)
            if 0 <= left <= len(rest):
                chance = math.comb(len(rest), left) / math.comb(len(pooled), taken)
                options.append(
                    (chance, math.fsum(chosen) + left * between, left * (len(rest) - left) / len(rest) * spread)
                )
        variance += math.fsum(chance * own for chance, _, own in options)
        chances, sums = (
            [one * chance for one in chances for chance, _, _ in options],
            [one + other for one in sums for _, other, _ in options],
        )
    return chances, sums, variance


def _two_tails(off: float, chances: Sequence[float], sums: Sequence[float], variance: float) -> float:
    """Twice the smaller tail of a distribution over these sums, plus a normal part of this variance."""
    if variance > 0:
        scale = math.sqrt(2 * variance)
        below = math.fsum(
            chance * math.erfc((each - off) / scale) / 2 for chance, each in zip(chances, sums, strict=True)
        )
        return min(1.0, 2 * min(below, 1 - below))
    nearly = 1e-9 * max((abs(each) for each in sums), default=0.0)  # floating-point sums depend on their order
    pairs = list(zip(chances, sums, strict=True))
    below = math.fsum(chance for chance, each in pairs if each <= off + nearly)
    above = math.fsum(chance for chance, each in pairs if each >= off - nearly)
    return min(1.0, 2 * min(below, above))


def q_values(p_values: Sequence[float]) -> list[float]:
    """The smallest false discovery rate at which each of many would be called a change.

    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995), 289-300.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    found, least = [1.0] * len(p_values), 1.0
    for rank, at in zip(range(len(p_values), 0, -1), order, strict=True):
        least = min(least, p_values[at] * len(p_values) / rank)
        found[at] = least
    return found


def disagreement(outcomes: Iterable[tuple[int, int]]) -> float | None:
    """The chance that two executions under equal conditions differ, from (executions, passed) for each condition.

    None where no condition was executed twice.
    """
    pairs = differing = 0
    for executions, passed in outcomes:
        pairs += executions * (executions - 1) // 2
        differing += passed * (executions - passed)
    return differing / pairs if pairs else None


def pass_at_k(executions: int, passed: int, k: int) -> float | None:
    """The unbiased estimate that at least one of k executions passes; None for fewer than k executions.

    1 - C(n - c, k) / C(n, k): Chen et al., "Evaluating large language models trained on code" (2021),
    https://arxiv.org/abs/2107.03374, section 2.1.
    """
    if executions < k:
        return None
    return 1 - math.comb(executions - passed, k) / math.comb(executions, k)


def student_t(freedom: int) -> float:
    """The 97.5th percentile of Student's t distribution, by bisection, to 1e-12."""
    low, high = 0.0, 13.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _t_below(middle, freedom) > 0.975 else (middle, high)
    return high


def _t_below(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    term, total = 1.0, 0.0
    if freedom % 2 == 0:
        for step in range(1, freedom, 2):
            total += term
            term *= square * step / (step + 1)
        return 0.5 + sine * total / 2
    for step in range(2, freedom, 2):
        total += term
        term *= square * step / (step + 1)
    return 0.5 + (angle + sine * math.cos(angle) * total) / math.pi


def _hypergeometric(m: int, n: int, k: int) -> list[float]:
    """How likely each count on the second side is, when k of m + n passed and all are exchangeable."""
    ways = [math.comb(n, b) * math.comb(m, k - b) for b in range(max(0, k - m), min(n, k) + 1)]
    total = math.comb(m + n, k)
    return [way / total for way in ways]


def _convolved(one: list[float], other: list[float]) -> list[float]:
    if len(one) < len(other):
        one, other = other, one
    found = [0.0] * (len(one) + len(other) - 1)
    for at, weight in enumerate(other):
        for place, value in enumerate(one, at):
            found[place] += weight * value
    return found


def _power(distribution: list[float], times: int) -> list[float]:
    """The distribution of the sum of `times` independent variables."""
    found = [1.0]
    while times:
        if times & 1:
            found = _convolved(found, distribution)
        times >>= 1
        if times:
            distribution = _convolved(distribution, distribution)
    return found


def _dealt_variance(stratum: tuple[Sequence[float], Sequence[float]]) -> float:
    """The variance of the second side's sum when the scores of a test are permuted."""
    a, b = stratum
    pooled = [*a, *b]
    mean = math.fsum(pooled) / len(pooled)
    spread = math.fsum((value - mean) ** 2 for value in pooled) / (len(pooled) - 1)
    return len(a) * len(b) / len(pooled) * spread
