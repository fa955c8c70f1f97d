"""The trials of a run, by page."""

import sqlite3
from typing import cast, get_args

from indexer.errors import QueryError
from indexer.queries.pages import decode, encode, require_limit
from indexer.queries.runs import TrialPage
from indexer.queries.select import Row, dicts
from indexer.queries.types import ScoreRow, TrialRow
from indexer.records import TrialStatus
from indexer.store.rows import TRIAL

TRIAL_STATUSES: tuple[str, ...] = get_args(TrialStatus)


def page(database: sqlite3.Connection, pk: int, status: str | None, limit: int, cursor: str | None) -> TrialPage:
    """A page of a run's trials in the order of their names. Raises QueryError."""
    require_limit(limit)
    bound = {"status": status}
    last = decode(cursor, bound)[1] if cursor is not None else ""
    condition = "" if status is None else "AND status = ? "
    statement = f"SELECT id, {', '.join(TRIAL)} FROM trials WHERE run_pk = ? AND trial > ? {condition}"
    parameters = (pk, last, *([] if status is None else [status]), limit + 1)
    rows = dicts(database, f"{statement}ORDER BY trial LIMIT ?", *parameters)
    add_scores(database, rows[:limit])
    more = encode(bound, None, rows[limit - 1]["trial"]) if len(rows) > limit else None
    return TrialPage(cast("list[TrialRow]", rows[:limit]), more)


def require_status(status: str | None) -> None:
    """Raises QueryError for what is no status of a trial."""
    if status is not None and status not in TRIAL_STATUSES:
        raise QueryError(f"status: {status!r} is none of {', '.join(TRIAL_STATUSES)}")


def add_scores(database: sqlite3.Connection, trials: list[Row]) -> None:
    """Put the scores of its graders in the place of each trial's id."""
    query = f"SELECT {', '.join(ScoreRow.__annotations__)} FROM scores WHERE trial_pk = ? ORDER BY id"
    for trial in trials:
        trial["scores"] = dicts(database, query, trial.pop("id"))
