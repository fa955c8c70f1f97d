"""Reading an index: `open_index(path)`, read-only and safe beside a running pass.

Every call sees one whole state. A rebuild in place needs no reopening; when the file itself was
replaced, which only happens after damage, the next call opens the new one.
"""

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

from indexer.errors import IndexFileError, QueryError, StaleTokenError, UnknownRunError
from indexer.index import file, lock
from indexer.index.pages import Filters, matching, page_of_ids, require_limit
from indexer.index.rows import RUN, TARGET, TRIAL
from indexer.index.select import Row, dicts
from indexer.records import TrialStatus

if TYPE_CHECKING:
    from indexer.index.boards import Part

PUBLIC = (*RUN, "rev")
"""The columns of `runs` without its internal id."""

_COMMITS = """
SELECT c.repo, c.sha, c.committed_at, c.subject, replace(s.web_url, '{sha}', c.sha) AS url
FROM run_commits c LEFT JOIN sources s ON s.name = c.repo WHERE c.run_key IN (?, ?, ?)
ORDER BY c.committed_at, c.repo, c.sha
"""
_TREND = """
SELECT target, pass_rate FROM (
  SELECT target, pass_rate, on_boards FROM runs WHERE experiment = ? ORDER BY timestamp DESC, key DESC LIMIT 100
) WHERE on_boards
"""
_TARGET_ORDER = "target, agent, model, suite"
_TARGET = tuple(column for column in TARGET if column not in ("run_key", "timestamp", "experiment", "on_boards"))
PLACE = ("source", "path", "ref", "sha", "status", "ended", "last_activity")


Trend = list[float | None]


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs in order, and the cursor of the next page; None at the end."""

    runs: list[Row]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TrialPage:
    """Some trials of a run in the order of their names, and the cursor of the next page; None at the end."""

    trials: list[Row]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a token, oldest first (`key`, `deleted`, and `run` unless deleted), and the next token."""

    changes: list[Row]
    next: str


class _Opened(NamedTuple):
    """A connection, and the file and the log that it has open."""

    database: sqlite3.Connection
    file: tuple[int, int]
    log: tuple[int, int] | None


class Index:
    """An open index. Rows are dicts by column name; `tags` is a list of text.

    Threads may share it: each has a connection of its own.
    """

    def __init__(self, path: Path):
        self.path = path
        self._mine = threading.local()
        self._closed = False
        with self._reading():
            pass

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Other threads that use it get an IndexFileError from then on; theirs close with them."""
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None:
            self._mine.opened = None
            opened.database.close()

    def runs(self, *, limit: int = 50, cursor: str | None = None, sort: str = "-timestamp", **filters: Any) -> Page:
        """A page of runs. Filters are those of `Filters`. Raises QueryError for wrong values."""
        wanted = _made(Filters, filters)
        with self._reading() as database:
            ids, next_cursor = page_of_ids(database, wanted, sort, limit, cursor)
            return Page(_by_ids(database, ids), next_cursor)

    def matching(self, keys: Sequence[str], **filters: Any) -> list[Row]:
        """Those of the runs with these keys that the filters let through. Raises QueryError."""
        with self._reading() as database:
            return _by_ids(database, matching(database, _made(Filters, filters), keys))

    def trends(self, experiments: Collection[str], runs: int = 10) -> dict[tuple[str, str | None], Trend]:
        """Pass rates by experiment and target: of the newest runs that ended among the last 100, oldest first."""
        found: dict[tuple[str, str | None], Trend] = {}
        with self._reading() as database:
            for experiment in experiments:
                for target, rate in database.execute(_TREND, (experiment,)):
                    found.setdefault((experiment, target), []).append(rate)
        return {group: rates[:runs][::-1] for group, rates in found.items()}

    def run(self, name: str) -> Row:
        """One run with `targets`, `places` and `commits`, by any RUN name. Raises UnknownRunError."""
        from indexer.index.names import resolve

        with self._reading() as database:
            pk = resolve(database, name)
            run = _by_ids(database, [pk])[0]
            run["targets"] = dicts(
                database,
                f"SELECT {', '.join(_TARGET)} FROM run_targets WHERE run_pk = ? ORDER BY {_TARGET_ORDER}",
                pk,
            )
            for target in run["targets"]:
                target["outcomes"] = json.loads(target["outcomes"])
            run["places"] = dicts(
                database, f"SELECT {', '.join(PLACE)} FROM places WHERE run_pk = ? ORDER BY source, path, ref", pk
            )
            run["commits"] = dicts(database, _COMMITS, run["key"], run["run_id"], f"{run['format']}:{run['run_id']}")
            return run

    def trials(self, key: str, *, status: str | None = None, limit: int = 50, cursor: str | None = None) -> TrialPage:
        """A page of a run's trials with `scores`; `cursor` is the name of the last one seen. Raises QueryError."""
        require_limit(limit)
        if status is not None and status not in get_args(TrialStatus):
            raise QueryError(f"status: {status!r} is none of {', '.join(get_args(TrialStatus))}")
        with self._reading() as database:
            pk = _pk_of(database, key)
            condition = "" if status is None else "AND status = ? "
            statement = f"SELECT id, {', '.join(TRIAL)} FROM trials WHERE run_pk = ? AND trial > ? {condition}"
            parameters = (pk, cursor or "", *([] if status is None else [status]), limit + 1)
            trials = dicts(database, f"{statement}ORDER BY trial LIMIT ?", *parameters)
            for trial in trials[:limit]:
                scores = "SELECT name, type, score, weight, passed FROM scores WHERE trial_pk = ? ORDER BY id"
                trial["scores"] = dicts(database, scores, trial.pop("id"))
            more = len(trials) > limit
            return TrialPage(trials[:limit], trials[limit - 1]["trial"] if more else None)

    def changes(self, since: str | None = None, *, limit: int = 1000) -> Changes:
        """What changed after a token; all runs without one. Raises StaleTokenError, and QueryError for no token."""
        require_limit(limit)
        with self._reading() as database:
            generation, last = database.execute("SELECT generation, last_rev FROM meta").fetchone()
            rev = _revision(database, since, generation)
            statement = (
                "SELECT rev, key, id, 0 FROM runs WHERE rev > ?1 UNION ALL "
                "SELECT rev, key, NULL, 1 FROM deletions WHERE rev > ?1 ORDER BY 1 LIMIT ?2"
            )
            found = database.execute(statement, (rev, limit)).fetchall()
            runs = {run["key"]: run for run in _by_ids(database, [pk for _, _, pk, gone in found if not gone])}
            changes = [
                {"key": key, "deleted": bool(gone)} | ({} if gone else {"run": runs[key]}) for _, key, _, gone in found
            ]
            return Changes(changes, f"{generation}.{found[-1][0] if len(found) == limit else last}")

    def token(self) -> str:
        """The token of now: `changes(token)` tells what comes after."""
        meta = self.meta()
        return f"{meta['generation']}.{meta['last_rev']}"

    def compare(self, a: str, b: str, *, target: str | None = None, experiment: str | None = None) -> Row:
        """Two runs side by side, or with `experiment` two of its targets: see `comparison.compare`."""
        from indexer.index.comparison import compare

        with self._reading() as database:
            return compare(database, a, b, target=target, experiment=experiment)

    def history(self, test: str, *, suite: str | None = None, limit: int = 50, **part: Any) -> Row:
        """One test over time for each target: see `history.history`. `part` as in `boards.Part`."""
        from indexer.index.boards import Part
        from indexer.index.history import history

        with self._reading() as database:
            return history(database, test, _made(Part, part), suite=suite, limit=limit)

    def drift(
        self, *, window: str = "10", experiment: str | None = None, target: str | None = None, limit: int = 20
    ) -> dict[str, list[Row]]:
        """What fell most lately: see `drift.drift`."""
        from indexer.index.drift import drift

        with self._reading() as database:
            return drift(database, window=window, experiment=experiment, target=target, limit=limit)

    def leaderboard(self, *, k: int = 1, **part: Any) -> list[Row]:
        """Experiment x target: see `boards.leaderboard`. `part` as in `boards.Part`."""
        from indexer.index.boards import Part, leaderboard

        with self._reading() as database:
            return leaderboard(database, _made(Part, part), k)

    def failures(self, *, limit: int = 50, **part: Any) -> list[Row]:
        """Error type x test x target: see `boards.failures`. `part` as in `boards.Part`."""
        from indexer.index.boards import Part, failures

        with self._reading() as database:
            return failures(database, _made(Part, part), limit)

    def sources(self) -> list[Row]:
        """The sources with their tips, counts and errors; `looked_at` is up to when the index is known to equal one."""
        columns = "name, kind, place, tip, runs, changed_at, failing_since, error, note"
        with self._reading() as database:
            looked = lock.looked(self.path)
            sources = dicts(database, f"SELECT {columns} FROM sources ORDER BY id")
            return [source | {"looked_at": looked.get(source["name"])} for source in sources]

    def problems(self) -> list[Row]:
        """What could not be read."""
        columns = "source, path, ref, run_key, kind, message, first_seen"
        with self._reading() as database:
            return dicts(database, f"SELECT {columns} FROM problems ORDER BY source, path, kind")

    def select(self, query: str, *parameters: Any, **named: Any) -> list[Row]:
        """The rows of a query of your own, read-only; its parameters are `?` or `:name`. Raises QueryError."""
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
        """Let several calls see one state."""
        with self._reading():
            yield

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction on the file that is there now."""
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None and opened.database.in_transaction:
            yield opened.database
            return
        try:
            database = self._current()
            database.execute("BEGIN")
            try:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version != file.SCHEMA:
                    raise IndexFileError(f"{self.path} is of another version ({version}); renew it: indexer sync")
                yield database
            finally:
                database.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            self._disconnect()
            raise file.unreadable(self.path, error) from None

    def _current(self) -> sqlite3.Connection:
        """This thread's connection, opened anew when the file or its log was replaced."""
        if self._closed:
            raise IndexFileError(f"{self.path} was closed by this program; open it again")
        opened: _Opened | None = getattr(self._mine, "opened", None)
        if opened is not None and (opened.file, opened.log) == self._files(opened.log is not None):
            return opened.database
        self._disconnect()
        while True:
            before = file.identity(self.path)
            database = file.connect_ours(self.path)
            try:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log
            except BaseException:
                database.close()
                raise
            on_disk, log = self._files(True)
            if on_disk is not None and on_disk == before:
                self._mine.opened = _Opened(database, on_disk, log)
                return database
            database.close()  # it was replaced while it was opened

    def _files(self, with_log: bool) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Which file and which log are there now."""
        return file.identity(self.path), file.identity(Path(f"{self.path}-wal")) if with_log else None


def open_index(path: str | Path) -> Index:
    """The index at `path`. Raises IndexFileError if there is none, or something else is in its place."""
    return Index(Path(path))


Conditions = TypeVar("Conditions", bound="Filters | Part")


def _made(kind: type[Conditions], values: Mapping[str, Any]) -> Conditions:
    unknown = sorted(values.keys() - set(kind.__dataclass_fields__))
    if unknown:
        raise QueryError(f"there is no filter {', '.join(unknown)}")
    return kind(**values)


def _pk_of(database: sqlite3.Connection, key: str) -> int:
    row = database.execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise UnknownRunError(f"there is no run with the key {key!r}")
    return int(row[0])


def _revision(database: sqlite3.Connection, token: str | None, generation: str) -> int:
    if token is None:
        return 0
    made_in, dot, text = token.partition(".")
    if not dot or not text.isascii() or not text.isdigit() or len(text) > 18:
        raise QueryError(f"since: {token!r} is no token of changes")
    last, forgotten = database.execute("SELECT last_rev, forgotten_rev FROM meta").fetchone()
    if made_in != generation or not forgotten <= int(text) <= last:
        raise StaleTokenError("since: the token is from before a rebuild or too old; list all runs again")
    return int(text)


def _by_ids(database: sqlite3.Connection, ids: list[int]) -> list[Row]:
    """Runs in the order of their ids given."""
    rows: dict[int, Row] = {}
    for at in range(0, len(ids), 500):
        some = ids[at : at + 500]
        statement = f"SELECT id, {', '.join(PUBLIC)} FROM runs WHERE id IN ({', '.join('?' * len(some))})"
        for row in dicts(database, statement, *some):
            row["tags"] = json.loads(row["tags"])
            row["derived_from"] = json.loads(row["derived_from"]) if row["derived_from"] else None
            rows[row.pop("id")] = row
    return [rows[pk] for pk in ids]
