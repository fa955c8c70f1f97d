"""Two sides, test by test: what differs by more than chance, what may differ only by chance, what only one side has.

A side is a run, or a group of trials of runs that ended. If the sides share targets, tests are compared per target,
so that one target's rise does not hide another's fall; if they share none (two models), targets are ignored. Only
tests that both sides judged are compared; errors and scores are compared separately.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from indexer.derive import finite
from indexer.errors import QueryError, UnknownRunError
from indexer.queries.executions import COUNTED, Tally, effect, mean, quality, tallied, varies, whole
from indexer.queries.filters import DECLARED, Filters, number
from indexer.queries.names import resolve
from indexer.queries.question import Parameter, Question, Reader
from indexer.queries.select import Row, dicts
from indexer.queries.selection import select
from indexer.statistics import SIGNIFICANT, Effect, q_values

_RUN = ("run_id", "key", "experiment", "target", "status", "timestamp", "updated_at")
_SUMS = f"""
SELECT count(DISTINCT r.id) AS runs, total(t.cost_usd) AS cost,
       count(t.cost_usd) AS costs, avg(t.cost_usd) AS mean_cost,
       CASE WHEN count(t.input_tokens) > 0 THEN total(t.input_tokens) END AS input_tokens,
       CASE WHEN count(t.output_tokens) > 0 THEN total(t.output_tokens) END AS output_tokens,
       avg(t.input_tokens) AS mean_input, avg(t.output_tokens) AS mean_output, avg(t.duration_s) AS duration_s
FROM runs r CROSS JOIN trials t ON t.run_pk = r.id WHERE t.status IN {COUNTED}"""
_NOTHING = {"difference": None, "interval": None, "p_value": None}

Name = str | Filters
"""A side: a RUN name, or the filters of a group."""
_Key = tuple[str | None, str | None, str | None]
"""(suite, test_id, target); the target is None where the sides share none."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A condition on `runs r` and `trials t` that starts with AND, its values, and the run or the filters."""

    where: str
    values: list[Any]
    facts: Row


def compare(database: sqlite3.Connection, common: Filters, reader: Reader, *, a: Name, b: Name) -> Row:
    """Compare two sides under common filters: facts, measures with verdicts, and each test.

    Raises UnknownRunError, and QueryError where a trial is on both sides.
    """
    sides = [_side(database, common, name, reader) for name in (a, b)]
    _require_apart(database, *sides)
    tests = [tallied(database, "t.suite, t.test_id, t.target", side.where, side.values) for side in sides]
    totals = [_totals(database, common, side, each.values()) for side, each in zip(sides, tests, strict=True)]
    mine, theirs = _by_key(*tests)
    shared = sorted(mine.keys() & theirs.keys(), key=_order)
    pairs = [(mine[key], theirs[key]) for key in shared]
    looked = not pairs or varies(score for pair in pairs for tally in pair for score in tally.scores)
    return {
        "a": totals[0],
        "b": totals[1],
        "shared": [_named(key) for key in shared],
        "only_a": [_named(key) for key in sorted(mine.keys() - theirs.keys(), key=_order)],
        "only_b": [_named(key) for key in sorted(theirs.keys() - mine.keys(), key=_order)],
        **_judged(effect("quality_rate", pairs), "better", "worse", bool(pairs)),
        "score": _judged(effect("score", pairs), "better", "worse", bool(pairs))
        if looked
        else _NOTHING | {"verdict": None},
        "errors": _judged(effect("errors", pairs), "more", "fewer", bool(pairs)),
        "cost": {name: total["cost_per_execution"] for name, total in zip("ab", totals, strict=True)},
        "tests": _tests(shared, pairs),
    }


def _side(database: sqlite3.Connection, common: Filters, name: Name, reader: Reader) -> _Side:
    where, values = select(database, common, reader.zone).of_trials()
    if isinstance(name, str):
        pk = resolve(database, name, reader.stale_after)
        facts = dicts(database, f"SELECT {', '.join(_RUN)} FROM runs WHERE id = ?", pk)[0]
        return _Side(f" AND r.id = ?{where}", [pk, *values], facts)
    if not name:
        raise QueryError("a side without filters would be everything; name a run, or filters such as model=NAME")
    mine, more = select(database, name, reader.zone).of_trials()
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in name.items()}
    return _Side(f" AND r.on_boards{where}{mine}", [*values, *more], {"filters": plain})


def execution(
    database: sqlite3.Connection, common: Filters, name: Name, reader: Reader, test: Row, statuses: Sequence[str]
) -> tuple[str, str] | None:
    """Run and trial of a test's newest execution on one side with one of these statuses; None if there is none.

    `test` is a row of `tests`.
    """
    side = _side(database, common, name, reader)
    group = {name: test[name] for name in ("suite", "test_id", "target") if name in test}
    same = "".join(f" AND t.{name} IS ?" for name in group)
    found = database.execute(
        f"SELECT r.key, t.trial FROM runs r CROSS JOIN trials t ON t.run_pk = r.id "
        f"WHERE t.status IN ({', '.join('?' * len(statuses))}){side.where}{same} "
        "ORDER BY r.timestamp DESC, r.key DESC, t.trial DESC LIMIT 1",
        (*statuses, *side.values, *group.values()),
    ).fetchone()
    return tuple(found) if found else None


def _require_apart(database: sqlite3.Connection, a: _Side, b: _Side) -> None:
    """Raises QueryError if a trial is on both sides."""
    both = f"SELECT 1 FROM runs r CROSS JOIN trials t ON t.run_pk = r.id WHERE t.status IN {COUNTED}{a.where}{b.where}"
    if database.execute(f"{both} LIMIT 1", (*a.values, *b.values)).fetchone():
        raise QueryError("a and b: the same trials are on both sides")


def _totals(database: sqlite3.Connection, common: Filters, side: _Side, tallies: Iterable[Tally]) -> Row:
    """Facts and totals of one side; cost, tokens and seconds per execution where they are known."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    sums = dicts(database, _SUMS + side.where, *side.values)[0]
    if not total.executions and "filters" in side.facts:
        raise UnknownRunError(f"no execution in runs that ended matches {_said(side.facts['filters'] | {**common})}")
    return side.facts | total.row() | quality(total) | {
        "runs": sums["runs"],
        "pass_rate": total.passed / total.executions if total.executions else None,
        "avg_score": mean([*total.scores, *[0.0] * total.errored]),
        "cost_usd": finite(sums["cost"]) if sums["costs"] else None,
        "cost_per_execution": finite(sums["mean_cost"]),
        "input_tokens": whole(sums["input_tokens"]),
        "output_tokens": whole(sums["output_tokens"]),
        "input_tokens_per_execution": sums["mean_input"],
        "output_tokens_per_execution": sums["mean_output"],
        "duration_s": finite(sums["duration_s"]),
    }  # fmt: skip


def _by_key(a: Mapping[Any, Tally], b: Mapping[Any, Tally]) -> tuple[dict[_Key, Tally], dict[_Key, Tally]]:
    """Both sides by test and target; by test alone where they share no target."""
    if {key[2] for key in a} & {key[2] for key in b}:
        return dict(a), dict(b)
    found: tuple[dict[_Key, Tally], dict[_Key, Tally]] = {}, {}
    for side, into in zip((a, b), found, strict=True):
        for (suite, test, _), tally in side.items():
            into.setdefault((suite, test, None), Tally()).merge(tally)
    return found


def _judged(found: Effect, above: str, below: str, shared: bool) -> Row:
    """An effect with its verdict."""
    if found.difference is None or found.p_value is None:
        return _NOTHING | {"verdict": "no shared verdicts" if shared else "no shared tests"}
    verdict = "no difference shown"
    if found.p_value < SIGNIFICANT and found.difference:
        verdict = above if found.difference > 0 else below
    return {**found._asdict(), "verdict": verdict}


def _tests(keys: list[_Key], pairs: list[tuple[Tally, Tally]]) -> list[Row]:
    """Each shared test: significant changes first, then all others, each by the size of the difference."""
    found = [effect("quality_rate", [pair]) for pair in pairs]
    known = [at for at, each in enumerate(found) if each.p_value is not None]
    corrected = dict(zip(known, q_values([found[at].p_value or 0.0 for at in known]), strict=True))
    rows = []
    for at, (key, (a, b)) in enumerate(zip(keys, pairs, strict=True)):
        difference, q = found[at].difference, corrected.get(at)
        verdict = "no shared verdicts" if difference is None else "no difference shown"
        if difference and q is not None and q < SIGNIFICANT:
            verdict = "better" if difference > 0 else "worse"
        facts = {"difference": difference, "p_value": found[at].p_value, "q_value": q, "verdict": verdict}
        rows.append(_named(key) | {"a": a.row(), "b": b.row()} | facts)
    changed = ("worse", "better")
    return sorted(rows, key=lambda row: (row["verdict"] not in changed, -abs(row["difference"] or 0.0)))


def _named(key: _Key) -> Row:
    suite, test, target = key
    return {"suite": suite, "test_id": test} | ({"target": target} if target is not None else {})


def _order(key: _Key) -> tuple[str, ...]:
    return tuple(part or "" for part in key)


def _said(filters: Mapping[str, Any]) -> str:
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in filters.items()}
    return " ".join(f"{name}={value!r}" for name, value in texts.items())


def side_of(texts: list[str]) -> Name:
    """Parse a side: one RUN, or any number of FILTER=VALUE. Raises QueryError."""
    name, equals, _ = texts[0].partition("=") if texts else ("", "", "")
    is_run = len(texts) == 1 and not (equals and name.replace("-", "_") in DECLARED)
    return texts[0] if is_run else group_of(texts)


def group_of(texts: list[str]) -> Filters:
    """Parse any number of FILTER=VALUE into filters. Raises QueryError."""
    found: dict[str, Any] = {}
    for text in texts:
        written, equals, value = text.partition("=")
        name = written.replace("-", "_")
        if not equals or name not in DECLARED:
            raise QueryError(f"{text!r} is not FILTER=VALUE; the filters are {', '.join(DECLARED)}")
        if DECLARED[name].several:
            found.setdefault(name, []).append(value)
        else:
            found[name] = number(name, value) if DECLARED[name].kind == "number" else value
    return cast("Filters", found)


QUESTION = Question(
    name="compare",
    help="Compare two runs, or two groups of trials, test by test: what differs by more than chance.",
    example="indexer compare tag:baseline latest; indexer compare --a model='alpha*' --b model='beta*' --since 30d",
    answer=compare,
    parameters={
        "a": Parameter(help="One side: a RUN, or FILTER=VALUE.", kind="side"),
        "b": Parameter(help="The other side: a RUN, or FILTER=VALUE.", kind="side"),
    },
    filters=tuple(DECLARED),
)
