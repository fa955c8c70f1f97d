"""An open index: read-only, and safe beside a running pass. Every call sees one snapshot."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import astuple
from datetime import tzinfo
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from indexer.errors import QueryError
from indexer.queries import changes, filters, names, runs, trials, values
from indexer.queries.asking import Asking
from indexer.queries.changes import Changes
from indexer.queries.filters import DECLARED, Filters, Values
from indexer.queries.limits import limit
from indexer.queries.runs import Page, Trend, TrialPage
from indexer.queries.select import Row, dicts
from indexer.queries.selection import select
from indexer.queries.types import ProblemRow, RunDetails, RunRow, SourceRow, TrialRow
from indexer.store import file, lock

if TYPE_CHECKING:
    from sqlite_utils import Database

    from indexer.queries.compare import Name


_SOURCE = "name, kind, place, tip, runs, changed_at, failing_since, error, note"
_PROBLEM = ", ".join(ProblemRow.__annotations__)
_LOOKED_THROUGH, _NEAREST, _NEAR = 10_000, 3, 10  # names searched; nearest shown; values that get suggestions


class Index(Asking):
    """An open index. Rows are dicts by column name. Threads may share it: each has a connection of its own.

    Times without a zone in filters, and the days of boards, are in `zone`. Filters are those of `Filters`: any of
    several values may match; of tags, all must. Wrong values raise QueryError.
    """

    def in_zone(self, zone: tzinfo) -> Self:
        """The same open index with times read and days grouped in another zone."""
        other = copy(self)
        other.zone = zone
        return other

    def runs(
        self, *, limit: int = 50, cursor: str | None = None, sort: str = "-timestamp", **wanted: Unpack[Filters]
    ) -> Page:
        """A page of 1 to 1,000 runs. `cursor` goes on after a page with the same sort and filters."""
        with self._reading() as database:
            return runs.page(database, wanted, self.zone, sort=sort, limit=limit, cursor=cursor)

    def count(self, **wanted: Unpack[Filters]) -> int:
        """How many runs the filters let through."""
        with self._reading() as database:
            return runs.count(database, wanted, self.zone)

    def each_run(self, *, sort: str = "-timestamp", **wanted: Unpack[Filters]) -> Iterator[RunRow]:
        """Every run, page by page: runs that come or go meanwhile cause no gaps or repeats."""
        cursor: str | None = None
        while True:
            page = self.runs(limit=1000, cursor=cursor, sort=sort, **wanted)
            yield from page
            if (cursor := page.next_cursor) is None:
                return

    def run(self, name: str) -> RunDetails:
        """One run with `targets`, `places` and `commits`, by any RUN name. Raises UnknownRunError."""
        with self._reading() as database:
            return runs.details(database, names.resolve(database, name, self.stale_after))

    def trials(
        self,
        run: str | None = None,
        *,
        trial_status: Values | None = None,
        error_type: Values | None = None,
        error: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        **wanted: Unpack[Filters],
    ) -> TrialPage:
        """A page of trials with `scores`: of one run by any RUN name, or over all runs, newest first.

        `error` is a piece of an error or of a grader's reason, ignoring case. With `run`, `status` is an alias of
        `trial_status`. Raises UnknownRunError.
        """
        if run is not None and "status" in wanted:
            trial_status = wanted.pop("status") if trial_status is None else trial_status
        asked = trials.wanted(trial_status, error_type, error)
        with self._reading() as database:
            pk = None if run is None else names.resolve(database, run, self.stale_after)
            selection = select(database, wanted, self.zone)
            of = None if pk is None else runs.key_of(database, pk)
            bound = {**filters.given(wanted), "of": of, "trials": astuple(asked)}
            return trials.page(database, selection, asked, pk, bound, limit, cursor)

    def trial(self, run: str, name: str) -> TrialRow:
        """One trial of a run: by its name, a unique prefix of it, or a test that has one trial in the run.

        Raises UnknownRunError, and UnknownTrialError with candidates if there are several.
        """
        with self._reading() as database:
            pk = names.resolve(database, run, self.stale_after)
            return trials.one(database, pk, names.resolve_trial(database, pk, name))

    def execution(self, side: "Name", of: Row, statuses: Sequence[str], **wanted: Unpack[Filters]) -> TrialRow | None:
        """The newest execution of one of a comparison's `tests` on one side, with one of these statuses, or None."""
        from indexer.queries import compare
        from indexer.queries.question import Reader

        with self._reading() as database:
            found = compare.execution(database, wanted, side, Reader(self.zone, self.stale_after), of, statuses)
            return self.trial(*found) if found else None

    def each_trial(
        self,
        run: str | None = None,
        *,
        trial_status: Values | None = None,
        error_type: Values | None = None,
        error: str | None = None,
        **wanted: Unpack[Filters],
    ) -> Iterator[TrialRow]:
        """Every trial, page by page."""
        cursor: str | None = None
        asked: Row = {"trial_status": trial_status, "error_type": error_type, "error": error}
        while True:
            page = self.trials(run, limit=1000, cursor=cursor, **asked, **wanted)
            yield from page
            if (cursor := page.next_cursor) is None:
                return

    def changes(self, since: str | None = None, *, limit: int = 1000) -> Changes:
        """What changed after a token; all runs without one. Raises StaleTokenError, QueryError if it is malformed."""
        with self._reading() as database:
            return changes.changes(database, since, limit)

    def matching(self, keys: Sequence[str], **wanted: Unpack[Filters]) -> list[RunRow]:
        """The runs with these keys that the filters select."""
        with self._reading() as database:
            return runs.let_through(database, keys, wanted, self.zone)

    def datasets(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The datasets of these runs by key, joined by `, `; only of runs that have any."""
        with self._reading() as database:
            return runs.datasets(database, keys)

    def trends(self, experiments: Collection[str], count: int = 10) -> Mapping[tuple[str, str | None], Trend]:
        """Pass rates by experiment and target, oldest first: the newest ended runs among the last 100."""
        with self._reading() as database:
            return runs.trends(database, experiments, count)

    def nearest(self, wanted: Filters) -> list[tuple[str, str, list[str]]]:
        """Filter values that match nothing in the index: filter, value, and the nearest existing names."""
        from difflib import get_close_matches

        found: list[tuple[str, str, list[str]]] = []
        with self._reading() as database:
            for name in (name for name in wanted if DECLARED[name].table and not DECLARED[name].choices):
                groups = {value: values.meant(database, name, value) for value in filters.texts(wanted, name)}
                for value, meant in groups.items():
                    if not meant or not values.exists(database, name, meant):
                        known = list(islice(values.known_values(database, name), _LOOKED_THROUGH))
                        near = get_close_matches(value, known, _NEAREST, 0.5) if len(found) < _NEAR else []
                        found.append((name, value, near))
        return found

    def values(self, of: str) -> list[Row]:
        """The values of a filter, newest run first, each with its number of `runs`. Raises QueryError."""
        with self._reading() as database:
            return values.counted_values(database, of)

    def completions(self, name: str, beginning: str) -> list[str]:
        """Shell completions: values of a filter with this prefix; for `run`, ids of runs."""
        with self._reading() as database:
            return values.completions(database, name, beginning)

    def error_types(self) -> list[str]:
        """The types of errors of runs that boards count, the most frequent first."""
        with self._reading() as database:
            return values.error_types(database)

    def unnamed(self) -> Mapping[str, int]:
        """By code repository: how many trailers of its commits name no run of the index."""
        with self._reading() as database:
            return runs.unnamed(database)

    def token(self) -> str:
        """The current token: `changes(token)` returns what changes from now on."""
        with self._reading() as database:
            return changes.token(database)

    def sources(self) -> list[SourceRow]:
        """The sources with tips, counts and errors; `looked_at`: when the index was last known to equal one."""
        with self._reading() as database:
            looked = lock.looked(self.path)
            rows = dicts(database, f"SELECT {_SOURCE} FROM sources ORDER BY id")
            return cast("list[SourceRow]", [row | {"looked_at": looked.get(row["name"])} for row in rows])

    def problems(self) -> list[ProblemRow]:
        """What could not be read."""
        with self._reading() as database:
            rows = dicts(database, f"SELECT {_PROBLEM} FROM problems ORDER BY source, path, kind")
            return cast("list[ProblemRow]", rows)

    def writer(self) -> Row | None:
        """The process that writes the index now, with its notes; None without one."""
        return lock.writer(self.path)

    @property
    def database(self) -> "Database":
        """A read-only `sqlite_utils.Database` on the index, for your own queries, with the limits of `serve`.

        It belongs to this thread and keeps its file open; get a new one after the file was replaced.
        """
        from sqlite_utils import Database

        connection = file.connect_ours(self.path)
        limit(connection)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        return Database(connection, execute_plugins=False)

    def select(self, query: str, *parameters: Any, **named: Any) -> list[Row]:
        """The rows of a query of your own, read-only; its parameters are `?` or `:name`."""
        with self._reading() as database:
            try:
                return dicts(database, query, *parameters, **named)
            except sqlite3.Error as error:
                if file.is_damage(error):
                    raise
                raise QueryError(f"sql: {error}") from None

    def meta(self) -> Row:
        """Generation, versions and newest revision."""
        with self._reading() as database:
            return dicts(database, "SELECT * FROM meta")[0]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several calls see one snapshot."""
        with self._reading():
            yield
