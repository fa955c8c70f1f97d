"""Resolves values of text filters in an index: exact ones, patterns with `*` and `?`, names of tests."""

import re
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from fnmatch import translate
from itertools import islice
from typing import Any

from indexer.errors import QueryError, UnknownTestError
from indexer.queries.filters import CUT, DECLARED
from indexer.queries.search import having
from indexer.queries.select import Row, dicts, distinct

Test = tuple[str | None, str]
"""(suite, test_id)."""
COUNTED = ("experiment", "target", "agent", "model", "dataset", "status", "source", "tag")
"""Filters whose values are counted."""
_SHOWN, _NEAREST, _LOOKED_THROUGH = 10, 3, 10_000


def known_values(database: sqlite3.Connection, name: str) -> Iterator[str]:
    """Every value of a text filter that the index has, in order; a test with its suite, if it has one."""
    declared = DECLARED[name]
    if declared.choices:
        yield from declared.choices
    elif name == "test":
        yield from ("/".join(filter(None, test)) for test in _tests(database))
    elif name == "source":
        yield from (
            value for (value,) in database.execute("SELECT DISTINCT name FROM sources WHERE runs > 0 ORDER BY 1")
        )
    elif name in COUNTED:
        query = "SELECT value FROM _values WHERE name = ? ORDER BY 1"
        yield from (value for (value,) in database.execute(query, (name,)))
    else:
        query = (
            f"SELECT DISTINCT {declared.column} FROM {declared.table} WHERE {declared.column} IS NOT NULL ORDER BY 1"
        )
        yield from (value for (value,) in database.execute(query))


def completions(database: sqlite3.Connection, name: str, beginning: str) -> list[str]:
    """The first values of a counted filter with this prefix; for `run`, ids of the newest runs."""
    bounds = [beginning, f"{beginning}\U0010ffff"]
    if name == "run":
        query = "SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY timestamp DESC LIMIT 50"
        return [value for (value,) in database.execute(query, bounds)]
    if name == "source":
        return [value for value in known_values(database, name) if value.startswith(beginning)]
    query = "SELECT value FROM _values WHERE name = ? AND value >= ? AND value < ? ORDER BY value LIMIT 100"
    return [value for (value,) in database.execute(query, [name, *bounds])]


def error_types(database: sqlite3.Connection) -> list[str]:
    """The types of errors of runs that boards count, the most frequent first."""
    query = "SELECT error_type FROM _failures WHERE error_type IS NOT NULL GROUP BY 1 ORDER BY sum(trials) DESC, 1"
    return [value for (value,) in database.execute(query)]


def counted_values(database: sqlite3.Connection, name: str) -> list[Row]:
    """The values of a filter, newest run first, each with its number of `runs`. Raises QueryError."""
    if name not in COUNTED:
        raise QueryError(f"of: {name!r} is none of {', '.join(COUNTED)}")
    declared = DECLARED[name]
    newest = f"SELECT max(timestamp) FROM {declared.table} WHERE {declared.column} = v.value"
    if not declared.leads:  # no index has their runs in order
        groups = f"SELECT {declared.column} AS value, max(timestamp) AS newest FROM {declared.table} GROUP BY 1"
        newest = f"SELECT newest FROM ({groups}) g WHERE g.value = v.value"
    counted = "SELECT value, runs FROM _values WHERE name = ?"
    if name == "source":
        counted = "SELECT name AS value, sum(runs) AS runs FROM sources WHERE runs > 0 AND ? IS NOT NULL GROUP BY name"
    return dicts(database, f"SELECT v.value, v.runs FROM ({counted}) v ORDER BY ({newest}) DESC, v.value", name)


def meant(database: sqlite3.Connection, name: str, value: str) -> list[Any]:
    """What a value of a filter stands for. Raises QueryError if it is none of the choices."""
    declared = DECLARED[name]
    if declared.kind == "commit":
        return [_commit(value)]
    if declared.kind == "search":
        return [having(database, value)]
    exact = _tests_called(database, value) if name == "test" else [value]
    is_pattern = "*" in value or "?" in value or value.endswith(CUT)
    if is_pattern and not exists(database, name, exact):
        exact = _matching(database, name, value)
    if declared.choices and not set(exact) & set(declared.choices):
        raise QueryError(f"{name}: {value!r} is none of {', '.join(declared.choices)}")
    return exact


def _commit(value: str) -> str:
    """A commit id or prefix in lower case. Raises QueryError if malformed or too short."""
    if len(value) < 4 or not set(value.lower()) <= set("0123456789abcdef"):
        raise QueryError(f"commit: {value!r} is not a commit id of at least 4 hex digits")
    return value.lower()


def exists(database: sqlite3.Connection, name: str, values: Sequence[Any]) -> bool:
    """Whether the index has any of the values of a filter."""
    declared = DECLARED[name]
    if declared.table == "trials":
        return bool(values)
    query = f"SELECT 1 FROM {declared.table} WHERE {declared.column} = ? LIMIT 1"
    return any(database.execute(query, (value,)).fetchone() for value in values)


def _matching(database: sqlite3.Connection, name: str, pattern: str) -> list[Any]:
    """The values that a pattern matches; only `*` and `?` are special."""
    whole = f"{pattern.removesuffix(CUT)}*" if pattern.endswith(CUT) else pattern
    plain = re.compile(translate(whole.replace("[", "[[]")))
    if name == "test":
        return [
            (suite, test)
            for suite, test in _tests(database)
            if plain.match(test) or plain.match("/".join(filter(None, (suite, test))))
        ]
    return [value for value in known_values(database, name) if plain.match(value)]


def _tests(database: sqlite3.Connection) -> Iterator[Test]:
    for test in distinct(database, "test_id", "FROM trials WHERE true"):
        if test is not None:
            yield from ((suite, test) for suite in suites(database, test))


def suites(database: sqlite3.Connection, test_id: str) -> list[str | None]:
    """The suites that have a test of this name, None for none."""
    return list(distinct(database, "suite", "FROM trials WHERE test_id = ?", test_id))


def _tests_called(database: sqlite3.Connection, name: str) -> list[Test]:
    """The tests that `test` or `suite/test` may stand for; `/test` is one without a suite."""
    found: list[Test] = [(suite, name) for suite in suites(database, name)]
    for at in (at for at, character in enumerate(name) if character == "/"):
        rest = name[at + 1 :]
        found += [(suite, rest) for suite in suites(database, rest) if (suite or "") == name[:at]]
    return found


def _tests_of_trials(database: sqlite3.Connection, name: str) -> list[Test]:
    """The tests of trials with this name, as lists of trials print it."""
    query = "SELECT DISTINCT suite, test_id FROM trials WHERE trial = ? AND test_id IS NOT NULL"
    return database.execute(query, (name,)).fetchall()


def test_name(suite: str | None, test_id: str) -> str:
    """The name of a test: `suite/test`, or `test` without a suite; `/te/st` if that looks like one with a suite.

    If a suite has a test of the same name, only `/test` is unambiguous for the one without a suite.
    """
    return f"{suite or ''}/{test_id}" if suite or "/" in test_id else test_id


def named_test(database: sqlite3.Connection, name: str, suite: str | None = None) -> Test:
    """The one (suite, test_id) that a name stands for; `suite` is where to find it, empty for no suite.

    Raises UnknownTestError, with candidates that can be typed if there are several.
    """
    if suite is not None:
        found: list[Test] = [(known, name) for known in suites(database, name) if (known or "") == suite]
    else:
        found = _tests_called(database, name) or _tests_of_trials(database, name)
        found = found or (_matching(database, "test", name) if name.endswith(CUT) else [])
    if len(found) == 1:
        return found[0]
    if not found:
        from difflib import get_close_matches

        known_names = list(islice(known_values(database, "test"), _LOOKED_THROUGH)) if suite is None else []
        nearest = ", ".join(map(shlex.quote, get_close_matches(name, known_names, _NEAREST, 0.5)))
        inside = f" in the suite {suite!r}" if suite else ""
        raise UnknownTestError(f"no test is called {name!r}{inside}" + (f"; nearest: {nearest}" if nearest else ""))
    shown = ", ".join(shlex.quote(f"{known or ''}/{test}") for known, test in found[:_SHOWN])
    raise UnknownTestError(f"{name!r} is not one test: {shown}{', …' if len(found) > _SHOWN else ''}")
