"""Filters as conditions in SQL, their values checked and resolved against a snapshot of an index."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import chain
from types import MappingProxyType
from typing import Any

from indexer.errors import QueryError
from indexer.queries import search
from indexer.queries.engines import ONE_OF_MANY
from indexer.queries.filters import DECLARED, Filter, Filters, texts
from indexer.queries.moments import Moment, moment
from indexer.queries.values import Test, meant

OPERATORS = {"since": ">=", "until": "<"}
_MOST_WRITTEN = 100
"""Most values of a filter that become parameters; more are passed as JSON."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters whose values are checked and resolved against a snapshot of an index.

    `groups` maps each given text filter to groups of values: one value of every group must match, and an empty group
    matches nothing. A test is a pair (suite, test_id). Times are UTC text.
    """

    groups: Mapping[str, Sequence[Sequence[Any]]]
    times: Mapping[str, str]
    min_pass_rate: float | None

    def of_runs(self, leading: str | None, time: str) -> tuple[list[str], list[Any]]:
        """Conditions on `runs r`, and their values; `time` is the column of their timestamp.

        The first group of the leading filter is left out.
        """
        where, parameters = self._times(time)
        for name, groups in self.groups.items():
            for group in groups[1:] if name == leading else groups:
                condition, more = _is_any(DECLARED[name], group)
                where.append(condition)
                parameters += more
        self._add_facts_of_runs(where, parameters)
        return where, parameters

    def of_trials(
        self, beside: Mapping[str, str] = MappingProxyType({}), *, within_run: bool = False
    ) -> tuple[str, list[Any]]:
        """SQL that starts with AND over `runs r` and its `trials t`, and its values.

        `beside` maps columns of `runs` to equal ones of `t`. `within_run`: the query is about one run, so no condition
        has to lead to runs by an index.
        """
        where, parameters = self._times(beside.get("timestamp", "r.timestamp"))
        for name, groups in self.groups.items():
            for group in groups:
                condition, more = _is_any(DECLARED[name], group, of_trials=True, beside=beside)
                where.append(condition)
                parameters += more
                leads = DECLARED[name].table == "run_targets" and DECLARED[name].leads and not within_run
                if leads and group:
                    is_one, more = is_one_of(group)
                    having = f"SELECT run_pk FROM run_targets WHERE {DECLARED[name].column} {is_one}"
                    where.append(f"{beside.get('id', 'r.id')} IN ({having})")
                    parameters += more
        self._add_facts_of_runs(where, parameters)
        return "".join(f" AND {condition}" for condition in where), parameters

    def _times(self, column: str) -> tuple[list[str], list[Any]]:
        where = [f"{column} {OPERATORS[name]} ?" for name in self.times]
        return where, list(self.times.values())

    def _add_facts_of_runs(self, where: list[str], parameters: list[Any]) -> None:
        if self.min_pass_rate is not None:
            where.append("r.pass_rate >= ?")
            parameters.append(self.min_pass_rate)


def select(database: sqlite3.Connection, filters: Filters, zone: tzinfo = UTC) -> Selection:
    """Check filters and resolve their values; times without a zone are in `zone`. Raises QueryError."""
    if unknown := sorted(filters.keys() - DECLARED.keys()):
        raise QueryError(f"unknown filter: {', '.join(unknown)}; the filters are {', '.join(DECLARED)}")
    groups: dict[str, list[list[Any]]] = {}
    for name, declared in DECLARED.items():
        if declared.several and (values := texts(filters, name)):
            alternatives = [meant(database, name, value) for value in values]
            groups[name] = alternatives if declared.every else [list(dict.fromkeys(chain.from_iterable(alternatives)))]
    given_times: list[tuple[str, Moment | None]] = [("since", filters.get("since")), ("until", filters.get("until"))]
    times = {name: moment(time, name, zone) for name, time in given_times if time is not None}
    return Selection(groups, times, _rate(filters.get("min_pass_rate")))


def _rate(value: float | None) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
        raise QueryError(f"min_pass_rate: {value!r} is not between 0 and 1")
    return value


def _is_any(
    declared: Filter,
    values: Sequence[Any],
    *,
    of_trials: bool = False,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, list[Any]]:
    """A condition that a run, or a trial, has any of these values."""
    if not values:
        return "false", []
    if declared.kind == "commit":
        return _is_of_any_commit(values)
    if declared.kind == "search":
        return search.condition(values[0])
    if declared.table == "trials":
        row = "t" if of_trials else "x"
        condition, parameters = _is_any_test(row, values)
        if of_trials:
            return condition, parameters
        return f"EXISTS (SELECT 1 FROM trials x WHERE x.run_pk = r.id AND {condition})", parameters
    is_one, parameters = is_one_of(values)
    if of_trials and declared.of_trials:
        return f"t.{declared.of_trials} {is_one}", parameters
    if declared.table == "runs":
        return f"{beside.get(declared.column, f'r.{declared.column}')} {is_one}", parameters
    held = f"SELECT 1 FROM {declared.table} x WHERE x.run_pk = r.id AND x.{declared.column} {is_one}"
    return f"EXISTS ({held})", parameters


def _is_of_any_commit(prefixes: Sequence[str]) -> tuple[str, list[Any]]:
    names = "(r.key, r.run_id, r.format || ':' || r.run_id)"  # a trailer names a run by its id, or its key
    conditions, values = [], list[Any]()
    for length in sorted({len(prefix) for prefix in prefixes}):
        is_one, texts = is_one_of([prefix for prefix in prefixes if len(prefix) == length])
        begins = f"substr({{}}, 1, {length}) {is_one}"
        named = f"SELECT 1 FROM run_commits c WHERE c.run_key IN {names} AND {begins.format('c.sha')}"
        conditions += [begins.format("r.sha"), begins.format("r.code_sha"), f"EXISTS ({named})"]
        values += texts * 3
    return f"({' OR '.join(conditions)})", values


def _is_any_test(row: str, tests: Sequence[Test]) -> tuple[str, list[Any]]:
    if len(tests) <= _MOST_WRITTEN:
        pairs = [f"{row}.test_id = ? AND {row}.suite {'IS NULL' if suite is None else '= ?'}" for suite, _ in tests]
        return f"({' OR '.join(pairs)})", [
            value for suite, test in tests for value in (test, suite) if value is not None
        ]
    is_one, parameters = is_one_of(list(dict.fromkeys(test for _, test in tests)))
    same = f"j.value ->> 1 = {row}.test_id AND j.value ->> 0 IS {row}.suite"
    return f"({row}.test_id {is_one} AND EXISTS (SELECT 1 FROM json_each(?) j WHERE {same}))", [
        *parameters,
        json.dumps(list(tests)),
    ]


def is_one_of(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """The SQL after a column that equals one of these; SQLite takes only so many parameters."""
    if len(values) == 1:
        return "= ?", list(values)
    if len(values) <= _MOST_WRITTEN:
        return f"IN ({', '.join('?' * len(values))})", list(values)
    return ONE_OF_MANY, [json.dumps(list(values))]
