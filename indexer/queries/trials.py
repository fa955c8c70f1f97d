"""The trials of a run, by page."""

import sqlite3
from typing import cast, get_args

from indexer.errors import QueryError, UnknownRunError
from indexer.queries.pages import require_limit
from indexer.queries.runs import TrialPage
from indexer.queries.select import Row, dicts
from indexer.queries.types import ScoreRow, TrialRow
from indexer.records import TrialStatus
from indexer.store.rows import TRIAL

TRIAL_STATUSES: tuple[str, ...] = get_args(TrialStatus)


def page(database: sqlite3.Connection, key: str, status: str | None, limit: int, cursor: str | None) -> TrialPage:
    """A page of a run's trials; `cursor` is the name of the last one seen. Raises QueryError, UnknownRunError."""
    require_limit(limit)
    if status is not None and status not in TRIAL_STATUSES:
        raise QueryError(f"status: {status!r} is none of {', '.join(TRIAL_STATUSES)}")
    run = database.execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
    if run is None:
        raise UnknownRunError(f"there is no run with the key {key!r}")
    condition = "" if status is None else "AND status = ? "
    statement = f"SELECT id, {', '.join(TRIAL)} FROM trials WHERE run_pk = ? AND trial > ? {condition}"
    parameters = (run[0], cursor or "", *([] if status is None else [status]), limit + 1)
    rows = dicts(database, f"{statement}ORDER BY trial LIMIT ?", *parameters)
    add_scores(database, rows[:limit])
    return TrialPage(cast("list[TrialRow]", rows[:limit]), rows[limit - 1]["trial"] if len(rows) > limit else None)


def add_scores(database: sqlite3.Connection, trials: list[Row]) -> None:
    """Put the scores of its graders in the place of each trial's id."""
    query = f"SELECT {', '.join(ScoreRow.__annotations__)} FROM scores WHERE trial_pk = ? ORDER BY id"
    for trial in trials:
        trial["scores"] = dicts(database, query, trial.pop("id"))
