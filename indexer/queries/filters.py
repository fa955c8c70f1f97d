"""Which runs and trials a question is about: the one declaration of every filter.

The command line, `/api`, Python, the web form and the docs are all built from `Filters`: an entry there is a filter
everywhere. In lists of runs a filter matches any value of the run; in every other question target, agent, model,
dataset and test select trials, the others select their runs.

A value that exists exactly is taken literally, else `*` and `?` are wildcards and stand for the values they match.
"""

import json
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from fnmatch import translate
from itertools import chain, islice
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from indexer.errors import QueryError, UnknownTestError
from indexer.queries.select import distinct
from indexer.records import span_seconds, utc_text

STATUSES = ("queued", "running", "completed", "failed", "cancelled")

Values = str | Sequence[str]
"""One value of a filter or several."""
Moment = str | date | datetime
"""A date, a time, `today`, `yesterday`, or a span before now such as `7d` or `1mo`."""

_SHOWN, _NEAREST, _LOOKED_THROUGH = 10, 3, 10_000
_MOST_WRITTEN = 100
"""Values of a filter that are written out in SQL; more are handed over as JSON."""
_MONTHS = re.compile(r"(\d{1,4})\s*mo")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
OPERATORS = {"since": ">=", "until": "<"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter: its help, where lists of runs find its value (table, column), and the column of trials, if any."""

    help: str
    kind: Literal["text", "time", "number", "commit"] = "text"
    table: str = ""
    column: str = ""
    of_trials: str = ""
    every: bool = False  # of several values all have to be there, not any
    choices: tuple[str, ...] = ()
    leads: int = 0  # from 1 where an index has its runs in timestamp order; of several filters the first one leads

    @property
    def several(self) -> bool:
        return self.kind == "text"


class FiltersOfTest(TypedDict, total=False):
    """The filters of questions about one test: all but the test."""

    experiment: Annotated[
        Values | None, Filter(help="Runs of this experiment.", table="runs", column="experiment", leads=5)
    ]
    target: Annotated[
        Values | None, Filter(help="This target.", table="run_targets", column="target", of_trials="target", leads=2)
    ]
    agent: Annotated[Values | None, Filter(help="This agent.", table="run_targets", column="agent", of_trials="agent")]
    model: Annotated[
        Values | None, Filter(help="This model.", table="run_targets", column="model", of_trials="model", leads=3)
    ]
    dataset: Annotated[
        Values | None, Filter(help="This dataset or suite.", table="run_targets", column="suite", of_trials="suite")
    ]
    status: Annotated[
        Values | None,
        Filter(
            help=f"Runs that are {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.",
            table="runs",
            column="status",
            choices=STATUSES,
            leads=6,
        ),
    ]
    source: Annotated[
        Values | None, Filter(help="Runs found in this source.", table="places", column="source", leads=4)
    ]
    tag: Annotated[
        Values | None, Filter(help="Runs with this tag.", table="run_tags", column="tag", every=True, leads=1)
    ]
    since: Annotated[Moment | None, Filter(help="From a date, time, today, or a span ago (7d, 1mo).", kind="time")]
    until: Annotated[Moment | None, Filter(help="Before a date, time, today, or a span ago (1h).", kind="time")]
    min_pass_rate: Annotated[float | None, Filter(help="Runs with at least this pass rate, 0 to 1.", kind="number")]
    commit: Annotated[
        str | None, Filter(help="Runs of this commit: its id, or a prefix of 4 digits or more.", kind="commit")
    ]


class Filters(FiltersOfTest, total=False):
    """The filters of runs and trials. Of several values of one any counts, but of tags all."""

    test: Annotated[
        Values | None, Filter(help="This test, or dataset/test.", table="trials", column="test_id", of_trials="test_id")
    ]


DECLARED: dict[str, Filter] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Filters, include_extras=True).items()
}
"""Every filter by name."""

_Test = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters whose values are checked and resolved against one state of an index.

    `groups` has for each text filter that was given one group of values or several: of each group one has to be there,
    and an empty group is one that nothing matches. A test is a pair (suite, test_id). Times are UTC text.
    """

    groups: Mapping[str, Sequence[Sequence[Any]]]
    times: Mapping[str, str]
    min_pass_rate: float | None
    commit: str | None

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

    def of_trials(self) -> tuple[str, list[Any]]:
        """SQL that starts with AND over `runs r` and its `trials t`, and its values."""
        where, parameters = self._times("r.timestamp")
        for name, groups in self.groups.items():
            for group in groups:
                condition, more = _is_any(DECLARED[name], group, of_trials=True)
                where.append(condition)
                parameters += more
                if DECLARED[name].table == "run_targets" and DECLARED[name].leads and group:  # leads to the runs
                    is_one, more = _is_one_of(group)
                    where.append(f"r.id IN (SELECT run_pk FROM run_targets WHERE {DECLARED[name].column} {is_one})")
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
        if self.commit is not None:
            names = "(r.key, r.run_id, r.format || ':' || r.run_id)"  # a trailer names a run by its id, or its key
            named = f"SELECT 1 FROM run_commits c WHERE c.run_key IN {names} AND c.sha GLOB ?"
            where.append(f"(r.sha GLOB ? OR r.code_sha GLOB ? OR EXISTS ({named}))")
            parameters += [f"{self.commit}*"] * 3


def select(database: sqlite3.Connection, filters: Filters, zone: tzinfo = UTC) -> Selection:
    """Check filters and resolve their values; times without a zone are in `zone`. Raises QueryError."""
    if unknown := sorted(filters.keys() - DECLARED.keys()):
        raise QueryError(f"unknown filter: {', '.join(unknown)}; there are {', '.join(DECLARED)}")
    groups: dict[str, list[list[Any]]] = {}
    for name, declared in DECLARED.items():
        if declared.several and (values := texts(filters, name)):
            alternatives = [meant(database, name, value) for value in values]
            groups[name] = alternatives if declared.every else [list(dict.fromkeys(chain.from_iterable(alternatives)))]
    given_times: list[tuple[str, Moment | None]] = [("since", filters.get("since")), ("until", filters.get("until"))]
    times = {name: moment(time, name, zone) for name, time in given_times if time is not None}
    return Selection(groups, times, _rate(filters.get("min_pass_rate")), _commit(filters.get("commit")))


def texts(filters: Filters, name: str) -> list[str]:
    """The different values given for a filter, sorted; empty without it. Raises QueryError for what is no text."""
    given: Any = filters.get(name)
    values = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else given
    if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise QueryError(f"{name}: {given!r} is neither a text nor several")
    for value in values or ():
        require_text(name, value)
    if DECLARED[name].every and len(values or ()) > _MOST_WRITTEN:
        raise QueryError(f"{name}: at most {_MOST_WRITTEN} values have to be there together, not {len(values or ())}")
    return sorted(set(values or ()))


def number(name: str, text: str) -> float:
    """Raises QueryError for a text that is no number."""
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"{name}: {text!r} is no number") from None


def require_text(name: str, value: str) -> None:
    """Raises QueryError for halves of characters, which no database holds."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(f"{name}: {value!r} is no valid Unicode") from None


def given(filters: Filters) -> dict[str, Any]:
    """What was asked for, the same for the same question: what a cursor is bound to."""
    plain: dict[str, Any] = {}
    for name in (name for name in filters if DECLARED[name].several and texts(filters, name)):
        plain[name] = texts(filters, name)
    for name in (name for name in filters if not DECLARED[name].several):
        value: Any = filters.get(name)
        if value is not None:
            plain[name] = value.isoformat() if isinstance(value, date) else value
    return dict(sorted(plain.items()))


def known_values(database: sqlite3.Connection, name: str) -> Iterator[str]:
    """Every value of a text filter that the index has, in order; a test with its suite, if it has one."""
    declared = DECLARED[name]
    if declared.choices:
        yield from declared.choices
    elif name == "test":
        yield from ("/".join(filter(None, test)) for test in _tests(database))
    elif declared.leads:
        yield from filter(None, distinct(database, declared.column, f"FROM {declared.table} WHERE 1"))
    else:
        query = (
            f"SELECT DISTINCT {declared.column} FROM {declared.table} WHERE {declared.column} IS NOT NULL ORDER BY 1"
        )
        yield from (value for (value,) in database.execute(query))


def moment(value: Moment, name: str, zone: tzinfo = UTC) -> str:
    """A time as UTC text. Raises QueryError that names the filter."""
    try:
        return utc_text(_time(value, datetime.now(zone)))
    except (ValueError, OverflowError, TypeError, AttributeError):
        raise QueryError(
            f"{name}: {value!r} is no date (2026-11-22), time, today, yesterday or span (7d, 1mo)"
        ) from None


def _time(value: Moment, now: datetime) -> datetime:
    """Raises ValueError, OverflowError, TypeError."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=now.tzinfo)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=now.tzinfo)
    text = value.strip()
    if text in ("today", "yesterday"):
        return midnight - timedelta(days=text == "yesterday")
    if months := _MONTHS.fullmatch(text):
        return _months_before(now, int(months[1]))
    if not _DATE.match(text):
        return now.astimezone(UTC) - timedelta(seconds=span_seconds(text))  # also over a change of the clocks
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=now.tzinfo)


def _months_before(now: datetime, months: int) -> datetime:
    """The same day of an earlier month, or its last one. Raises ValueError before the year 1."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    for day in range(now.day, 27, -1):
        try:
            return now.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue  # that month is shorter
    return now.replace(year=year, month=month + 1, day=min(now.day, 27))


def _rate(value: float | None) -> float | None:
    if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
        raise QueryError(f"min_pass_rate: {value!r} is not between 0 and 1")
    return value


def _commit(value: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) < 4 or not set(value.lower()) <= set("0123456789abcdef"):
        raise QueryError(f"commit: {value!r} is no commit id of at least 4 digits")
    return value.lower()


def meant(database: sqlite3.Connection, name: str, value: str) -> list[Any]:
    """What a value of a filter stands for. Raises QueryError for one that is none of the choices."""
    declared = DECLARED[name]
    if declared.choices and value not in declared.choices:
        raise QueryError(f"{name}: {value!r} is none of {', '.join(declared.choices)}")
    exact = _tests_called(database, value) if name == "test" else [value]
    is_pattern = "*" in value or "?" in value
    return exact if not is_pattern or exists(database, name, exact) else _matching(database, name, value)


def exists(database: sqlite3.Connection, name: str, values: Sequence[Any]) -> bool:
    """Whether the index has any of the values of a filter."""
    declared = DECLARED[name]
    if declared.table == "trials":
        return bool(values)
    query = f"SELECT 1 FROM {declared.table} WHERE {declared.column} = ? LIMIT 1"
    return any(database.execute(query, (value,)).fetchone() for value in values)


def _matching(database: sqlite3.Connection, name: str, pattern: str) -> list[Any]:
    """The values that a pattern with `*` and `?` matches, letter by letter otherwise."""
    plain = re.compile(translate(pattern.replace("[", "[[]")))
    if name == "test":
        return [
            (suite, test)
            for suite, test in _tests(database)
            if plain.match(test) or plain.match("/".join(filter(None, (suite, test))))
        ]
    return [value for value in known_values(database, name) if plain.match(value)]


def _tests(database: sqlite3.Connection) -> Iterator[_Test]:
    for test in distinct(database, "test_id", "FROM trials WHERE 1"):
        if test is not None:
            yield from ((suite, test) for suite in suites(database, test))


def suites(database: sqlite3.Connection, test_id: str) -> list[str | None]:
    """The suites that have a test of this name, None for none."""
    return list(distinct(database, "suite", "FROM trials WHERE test_id = ?", test_id))


def _tests_called(database: sqlite3.Connection, name: str) -> list[_Test]:
    """The tests that `test` or `suite/test` may stand for; `/test` is one without a suite."""
    found: list[_Test] = [(suite, name) for suite in suites(database, name)]
    for at in (at for at, character in enumerate(name) if character == "/"):
        rest = name[at + 1 :]
        found += [(suite, rest) for suite in suites(database, rest) if (suite or "") == name[:at]]
    return found


def named_test(database: sqlite3.Connection, name: str, suite: str | None = None) -> _Test:
    """The one (suite, test_id) that a name stands for; with `suite` the test in it, in none if that is empty.

    Raises UnknownTestError, with candidates that can be typed if there are several.
    """
    if suite is not None:
        found: list[_Test] = [(known, name) for known in suites(database, name) if (known or "") == suite]
    else:
        found = _tests_called(database, name)
    if len(found) == 1:
        return found[0]
    if not found:
        known_names = list(islice(known_values(database, "test"), _LOOKED_THROUGH)) if suite is None else []
        nearest = ", ".join(map(shlex.quote, get_close_matches(name, known_names, _NEAREST, 0.5)))
        inside = f" in the suite {suite!r}" if suite else ""
        raise UnknownTestError(f"no test is called {name!r}{inside}" + (f"; nearest: {nearest}" if nearest else ""))
    shown = ", ".join(shlex.quote(f"{known or ''}/{test}") for known, test in found[:_SHOWN])
    raise UnknownTestError(f"{name!r} is not one test: {shown}{', …' if len(found) > _SHOWN else ''}")


def _is_any(declared: Filter, values: Sequence[Any], *, of_trials: bool = False) -> tuple[str, list[Any]]:
    """A condition that a run, or a trial, has any of these values."""
    if not values:
        return "0", []
    if declared.table == "trials":
        row = "t" if of_trials else "x"
        condition, parameters = _is_any_test(row, values)
        if of_trials:
            return condition, parameters
        return f"EXISTS (SELECT 1 FROM trials x WHERE x.run_pk = r.id AND {condition})", parameters
    is_one, parameters = _is_one_of(values)
    if of_trials and declared.of_trials:
        return f"t.{declared.of_trials} {is_one}", parameters
    if declared.table == "runs":
        return f"r.{declared.column} {is_one}", parameters
    held = f"SELECT 1 FROM {declared.table} x WHERE x.run_pk = r.id AND x.{declared.column} {is_one}"
    return f"EXISTS ({held})", parameters


def _is_any_test(row: str, tests: Sequence[_Test]) -> tuple[str, list[Any]]:
    if len(tests) <= _MOST_WRITTEN:
        pairs = " OR ".join([f"{row}.test_id = ? AND {row}.suite IS ?"] * len(tests))
        return f"({pairs})", [value for suite, test in tests for value in (test, suite)]
    is_one, parameters = _is_one_of(list(dict.fromkeys(test for _, test in tests)))
    same = f"j.value ->> 1 = {row}.test_id AND j.value ->> 0 IS {row}.suite"
    return f"({row}.test_id {is_one} AND EXISTS (SELECT 1 FROM json_each(?) j WHERE {same}))", [
        *parameters,
        json.dumps(list(tests)),
    ]


def _is_one_of(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """What follows a column that equals one of these; SQLite takes only so many written out."""
    if len(values) == 1:
        return "= ?", list(values)
    if len(values) <= _MOST_WRITTEN:
        return f"IN ({', '.join('?' * len(values))})", list(values)
    return "IN (SELECT value FROM json_each(?))", [json.dumps(list(values))]
