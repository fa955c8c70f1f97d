"""Writes rows of runs to the tables of a shared index, and deletes them."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from indexer.shared import schema
from indexer.shared.machine_rows import LISTS, PLACE_COLUMNS, Row, RunOfMachine
from indexer.store import rows

if TYPE_CHECKING:
    import psycopg

_SETTLED = [rows.RUN.index(name) for name in schema.SETTLED]
_TAGS, _TIMESTAMP = rows.RUN.index("tags"), rows.RUN.index("timestamp")
_ON_BOARDS = rows.TARGET.index("on_boards")


def copy_runs(connection: "psycopg.Connection[Any]", machine: str, runs: Sequence[RunOfMachine]) -> None:
    """Write runs that a machine has not sent yet; they are shown if no other machine has them."""
    if not runs:
        return
    ids = _ids(connection)
    pks = {run.key: next(ids) for run in runs}
    elsewhere = connection.execute("SELECT key FROM _sent_runs WHERE key = ANY(%s)", (list(pks),))
    shown = pks.keys() - {key for (key,) in elsewhere}
    (last,) = connection.execute("SELECT last_rev FROM _meta").fetchone() or (0,)
    connection.execute("UPDATE _meta SET last_rev = %s", (last + len(runs),))
    settled = [f"settled_{name}" for name in schema.SETTLED]
    copy_rows(
        connection,
        "_sent_runs",
        ["id", "machine", "shown", "digest", *settled, *rows.RUN, "rev"],
        (
            (pks[run.key], machine, run.key in shown, run.digest, *(run.run[at] for at in _SETTLED), *run.run, rev)
            for rev, run in enumerate(runs, last + 1)
        ),
    )
    _copy_trials(connection, runs, pks, shown, ids)
    _copy_lists(connection, machine, runs, pks, shown)


def _copy_trials(
    connection: "psycopg.Connection[Any]",
    runs: Sequence[RunOfMachine],
    pks: Mapping[str, int],
    shown: Collection[str],
    ids: Iterator[int],
) -> None:
    """Write trials and their scores."""
    scores: list[Row] = []

    def trials() -> Iterator[Row]:
        for run in runs:
            for trial, of_trial in run.trials:
                number = next(ids)
                scores.extend((pks[run.key], number, *score) for score in of_trial)
                yield number, run.key in shown, pks[run.key], *trial

    copy_rows(connection, "_sent_trials", ["id", "shown", "run_pk", *rows.TRIAL_ROW], trials())
    copy_rows(connection, "_sent_scores", ["run_pk", "trial_pk", *rows.SCORE], scores)


def _copy_lists(
    connection: "psycopg.Connection[Any]",
    machine: str,
    runs: Sequence[RunOfMachine],
    pks: Mapping[str, int],
    shown: Collection[str],
) -> None:
    """Write the places of runs and their other lists; tags only of runs that are shown."""
    for table, names, listed in LISTS:
        flags = (_ON_BOARDS,) if table == "run_targets" else ()
        copy_rows(
            connection,
            schema.sent(table),
            ["shown", "run_pk", *names],
            (
                (run.key in shown, pks[run.key], *(bool(each) if at in flags else each for at, each in enumerate(row)))
                for run in runs
                for row in getattr(run, listed)
            ),
        )
    copy_rows(
        connection,
        "_sent_places",
        ["machine", "run_pk", *PLACE_COLUMNS, *schema.PLACE],
        ((machine, pks[run.key], *row) for run in runs for row in run.places),
    )
    copy_rows(
        connection,
        "_sent_run_tags",
        ["run_pk", *rows.TAG],
        (
            (pks[run.key], *tag)
            for run in runs
            if run.key in shown
            for tag in rows.tag_rows(run.key, run.run[_TIMESTAMP], json.loads(run.run[_TAGS]))
        ),
    )


def delete_runs(connection: "psycopg.Connection[Any]", machine: str, keys: Sequence[str]) -> None:
    """Delete a machine's rows of some runs."""
    if not keys:
        return
    query = "DELETE FROM _sent_runs WHERE machine = %s AND key = ANY(%s) RETURNING id"
    ids = [pk for (pk,) in connection.execute(query, (machine, list(keys)))]
    for table in (*schema.OF_RUN, "places"):
        connection.execute(f"DELETE FROM {schema.sent(table)} WHERE run_pk = ANY(%s)".encode(), (ids,))


def copy_rows(
    connection: "psycopg.Connection[Any]", table: str, names: Sequence[str], found: Iterable[Sequence[Any]]
) -> None:
    """Write rows with COPY."""
    with connection.cursor().copy(f"COPY {table} ({', '.join(names)}) FROM STDIN".encode()) as copy:
        for row in found:
            copy.write_row(row)


def _ids(connection: "psycopg.Connection[Any]") -> Iterator[int]:
    """Unused ids of rows."""
    while True:
        (first,) = connection.execute("SELECT nextval('_ids')").fetchone() or (0,)
        yield from range(first, first + 100_000)
