"""Pages of trials, of one run or over all runs: newest run first, then by the run's key and the trial's name.

Two steps keep the cost constant at any depth. An index yields the runs that may match, in order and one by one; the
trials of each are then tested in the order of their names. The index is that of the first one given: a test, a piece
of an error, the status or error type of a trial, or a filter that leads lists of runs. A piece of an error is searched
in one text per run, which holds all its errors and reasons (decision 11).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, cast, get_args

from indexer.errors import QueryError
from indexer.queries.filters import DECLARED, require_text
from indexer.queries.pages import Query, decode, encode, leading_filter, require_limit
from indexer.queries.runs import TrialPage
from indexer.queries.select import Row, dicts, distinct
from indexer.queries.selection import Selection, is_one_of
from indexer.queries.types import ScoreRow, TrialRow
from indexer.records import TrialStatus
from indexer.store.rows import TRIAL, small_letters

TRIAL_STATUSES: tuple[str, ...] = get_args(TrialStatus)

_OF_RUN = {"run_key": "key", "run_id": "run_id", "experiment": "experiment", "timestamp": "timestamp"}
COLUMNS = (*_OF_RUN, *TRIAL)
"""The columns of a trial's row besides its scores."""
_SELECTED = ", ".join(
    [*(f"r.{column} AS {name}" for name, column in _OF_RUN.items()), *(f"t.{name}" for name in TRIAL)]
)
_IN_REASON = "EXISTS (SELECT 1 FROM scores s WHERE s.trial_pk = t.id AND instr(lower(s.reason), ?) > 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of trials besides the filters of their runs: any of the statuses and of the error types.

    In error types `*` and `?` are wildcards. `error` is a piece of an error or a reason; the case of A to Z is ignored.
    """

    statuses: Sequence[str] = ()
    error_types: Sequence[str] = ()
    error: str | None = None

    def conditions(self) -> tuple[list[str], list[Any]]:
        """Conditions on `trials t`, and their values."""
        where, values = list[str](), list[Any]()
        if self.statuses:
            condition, more = is_one_of(self.statuses)
            where.append(f"t.status {condition}")
            values += more
        if self.error_types:
            where.append(f"({' OR '.join(['t.error_type GLOB ?'] * len(self.error_types))})")
            values += [each.replace("[", "[[]") for each in self.error_types]
        if self.error is not None:
            where.append(f"(instr(lower(t.error), ?) > 0 OR {_IN_REASON})")
            values += [small_letters(self.error)] * 2
        return where, values


def wanted(status: Any = None, error_type: Any = None, error: str | None = None) -> Wanted:
    """One value or several of each. Raises QueryError."""
    statuses, types = _texts("trial_status", status), _texts("error_type", error_type)
    for each in statuses:
        if each not in TRIAL_STATUSES:
            raise QueryError(f"trial_status: {each!r} is none of {', '.join(TRIAL_STATUSES)}")
    if error is not None:
        _texts("error", error)
        if not error:
            raise QueryError("error: give a piece of the text to look for")
    return Wanted(statuses=statuses, error_types=types, error=error)


def _texts(name: str, given: Any) -> list[str]:
    values = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    for value in values:
        if not isinstance(value, str):
            raise QueryError(f"{name}: {value!r} is not text")
        require_text(name, value)
    return sorted(set(values))


def page(
    database: sqlite3.Connection,
    selection: Selection,
    asked: Wanted,
    pk: int | None,
    bound: dict[str, Any],
    limit: int,
    cursor: str | None,
) -> TrialPage:
    """A page of trials, of the run with the id `pk` alone if there is one; its cursor is bound to `bound`.

    Raises QueryError.
    """
    require_limit(limit)
    position = _position(cursor, bound) if cursor is not None else None
    rows: list[Row] = []
    for run, timestamp, key in _runs(database, selection, asked, pk, position):
        after = position[2] if position is not None and (timestamp, key) == position[:2] else ""
        rows += _of_run(database, selection, asked, run, after, limit + 1 - len(rows))
        if len(rows) > limit:
            break
    last = rows[limit - 1] if len(rows) > limit else None
    add_scores(database, rows[:limit])
    more = encode(bound, [last["timestamp"], last["trial"]], last["run_key"]) if last else None
    return TrialPage(cast("list[TrialRow]", rows[:limit]), more)


def one(database: sqlite3.Connection, pk: int, trial: str) -> TrialRow:
    """The trial of a run with exactly this name; it must exist."""
    rows = dicts(database, f"{_select()} WHERE t.run_pk = ? AND t.trial = ?", pk, trial)
    add_scores(database, rows)
    return cast("TrialRow", rows[0])


def _select() -> str:
    return f"SELECT t.id, {_SELECTED} FROM runs r JOIN trials t ON t.run_pk = r.id"


def _of_run(
    database: sqlite3.Connection, selection: Selection, asked: Wanted, pk: int, after: str, limit: int
) -> list[Row]:
    """The first matching trials of a run after the name `after`."""
    conditions, values = selection.of_trials(within_run=True)
    own, more = asked.conditions()
    where = "".join(f" AND {condition}" for condition in own)
    text = f"{_select()} WHERE r.id = ? AND t.trial > ?{conditions}{where} ORDER BY t.trial LIMIT ?"
    return dicts(database, text, pk, after, *values, *more, limit)


def add_scores(database: sqlite3.Connection, trials: list[Row]) -> None:
    """Replace each trial's id with the scores of its graders."""
    query = f"SELECT {', '.join(ScoreRow.__annotations__)} FROM scores WHERE trial_pk = ? ORDER BY id"
    for trial in trials:
        trial["scores"] = dicts(database, query, trial.pop("id"))


def _runs(
    database: sqlite3.Connection,
    selection: Selection,
    asked: Wanted,
    pk: int | None,
    position: tuple[str, str, str] | None,
) -> Iterator[tuple[int, str, str]]:
    """Id, timestamp and key of the runs to search, newest first, starting at that of the position."""
    if pk is not None:
        yield from database.execute("SELECT id, timestamp, key FROM runs WHERE id = ?", (pk,))
        return
    queries = leading(database, selection, asked, position)
    last = None
    ordered = merge(*(database.execute(*query) for query in queries), key=lambda run: run[1:], reverse=True)
    for run in ordered if len(queries) > 1 else database.execute(*queries[0]) if queries else ():
        if run != last:
            yield run
        last = run


@dataclass(frozen=True, slots=True)
class _Lead:
    """Where runs come from in order: a table, the columns of their timestamp and key there, and ranges of an index."""

    source: str
    timestamp: str
    key: str
    ranges: Sequence[Query]  # conditions and their values
    filter: str | None = None  # the ranges are its first group


def leading(
    database: sqlite3.Connection, selection: Selection, asked: Wanted, position: tuple[str, str, str] | None
) -> list[Query]:
    """Queries that each yield runs (id, timestamp, key) newest first, by an index; the caller merges them."""
    lead = _lead(database, selection, asked)
    where, values = selection.of_runs(lead.filter, lead.timestamp)
    if position is not None:
        where, values = [*where, f"({lead.timestamp}, {lead.key}) <= (?, ?)"], [*values, *position[:2]]
    rest = "".join(f" AND {condition}" for condition in where)
    select = f"SELECT r.id, {lead.timestamp}, {lead.key} FROM {lead.source} WHERE "
    order = f" ORDER BY {lead.timestamp} DESC, {lead.key} DESC"
    return [(f"{select}{given}{rest}{order}", [*own, *values]) for given, own in lead.ranges]


def _lead(database: sqlite3.Connection, selection: Selection, asked: Wanted) -> _Lead:
    if "test" in selection.groups:
        ranges: list[Query] = [
            ("s.suite IS ? AND s.test_id = ? AND s.target IS ?", (suite, test, target))
            for suite, test in selection.groups["test"][0]
            for target in distinct(database, "target", "FROM trials WHERE test_id = ? AND suite IS ?", test, suite)
        ]
        return _Lead("trials s JOIN runs r ON r.id = s.run_pk", "s.timestamp", "r.key", ranges, "test")
    if asked.error is not None:
        text = [("instr(s.text, ?) > 0", (small_letters(asked.error),))]
        return _Lead("_errors s JOIN runs r ON r.id = s.run_pk", "s.timestamp", "s.run_key", text)
    if asked.statuses or asked.error_types:
        counts = [f"r.{status} > 0" for status in asked.statuses if status != "running"]
        live = ["r.status = 'queued'", "r.status = 'running'"] if "running" in asked.statuses else []
        return _Lead("runs r", "r.timestamp", "r.key", [(each, ()) for each in counts + live or ["r.exceptions > 0"]])
    name = leading_filter(selection)
    if name is None:
        return _Lead("runs r", "r.timestamp", "r.key", [("true", ())])
    table, column, group = DECLARED[name].table, DECLARED[name].column, selection.groups[name][0]
    if table == "runs":
        return _Lead("runs r", "r.timestamp", "r.key", [(f"r.{column} = ?", (value,)) for value in group], name)
    source, ranges = f"{table} s JOIN runs r ON r.id = s.run_pk", [(f"s.{column} = ?", (value,)) for value in group]
    return _Lead(source, "s.timestamp", "s.run_key", ranges, name)


def _position(cursor: str, bound: dict[str, Any]) -> tuple[str, str, str]:
    value, key = decode(cursor, bound)
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)):
        raise QueryError("cursor: it is not one of ours")
    return value[0], key, value[1]
