"""An index of a million runs with ten trials each, by generated rows: its size, its pages, its answers, its churn."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks import serving
from benchmarks.measure import Line, remove_index
from benchmarks.numbers import make_index
from indexer import Index, open_index
from indexer.records import utc_text
from indexer.store import file, rows, run_tables

TRIALS = 10
_VIEWS = (
    "SELECT * FROM leaderboard",
    "SELECT * FROM daily",
    "SELECT * FROM test_history WHERE test_id = 'test-7' AND suite = 'suite' ORDER BY timestamp DESC LIMIT 50",
    "SELECT * FROM flaky_tests WHERE test_id = 'test-7'",
    "SELECT * FROM recent_failures LIMIT 50",
    "SELECT * FROM live_runs LIMIT 50",
    "SELECT * FROM trial_details WHERE run_id = 'run 77'",
)


def lines(db: Path, runs: int) -> Iterator[Line]:
    """Everything about an index of so many runs. Times are of the second call; the limit is one second."""
    yield from _build(db, runs)
    with open_index(db) as index:
        yield from _answers(index, _pages(index) | _questions(index))
        with closing(file.connect(db)) as database:
            views = {view: partial(_all, database, view) for view in _VIEWS}
            yield from _answers(index, views)
        yield from serving.lines(db, index)
    yield from _churn(db.with_name("churn.db"), runs // 50)


def _build(db: Path, runs: int) -> Iterator[Line]:
    remove_index(db)
    began = time.perf_counter()
    database = make_index(db, runs, TRIALS)
    seconds = time.perf_counter() - began
    wal = Path(f"{db}-wal").stat().st_size
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    parts = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'trials%' OR name LIKE '%scores%'"
    size = db.stat().st_size
    try:
        (below,) = database.execute(parts).fetchone()
    except sqlite3.OperationalError:  # SQLite was built without dbstat
        below = float("nan")
    database.close()
    yield Line(f"{runs:,} x {TRIALS}: building it, in a transaction", seconds, 1.0, None, "in s")
    yield Line(f"{runs:,} x {TRIALS}: bytes a trial with its score", below / runs / TRIALS, 1.0, None, "bytes")
    yield Line(f"{runs:,} x {TRIALS}: bytes a run beside its trials", (size - below) / runs, 1.0, None, "bytes")
    yield Line(f"{runs:,} x {TRIALS}: WAL of a rebuild / index", wal / 1e6, size / 1e6, None, "in MB")


def _pages(index: Index) -> dict[str, Callable[[], object]]:
    newest = datetime.fromisoformat(index.runs(limit=1).runs[0]["timestamp"])
    oldest = datetime.fromisoformat(index.runs(limit=1, sort="timestamp").runs[0]["timestamp"])
    pages: dict[str, Callable[[], object]] = {"first page": index.runs}
    for name, share in (("middle page", 0.5), ("last page", 0.9999)):
        until = utc_text(newest - timedelta(seconds=share * (newest - oldest).total_seconds()))
        cursor = index.runs(until=until).next_cursor
        pages[name] = partial(index.runs, until=until, cursor=cursor)
    return pages


def _questions(index: Index) -> dict[str, Callable[[], object]]:
    month = index.runs(limit=1).runs[0]["timestamp"]
    since = utc_text(datetime.fromisoformat(month) - timedelta(days=30))
    return {
        "leaderboard": index.leaderboard,
        "leaderboard of a month": lambda: index.leaderboard(since=since),
        "drift": index.drift,
        "drift --window 14d": lambda: index.drift(window="14d"),
        "history": lambda: index.history("test-7"),
        "failures": index.failures,
        "failures of a month": lambda: index.failures(since=since),
        "compare": lambda: index.compare("latest", "latest~1"),
    }


def _all(database: sqlite3.Connection, query: str) -> list[object]:
    return database.execute(query).fetchall()


def _answers(index: Index, asked: Mapping[str, Callable[[], object]]) -> Iterator[Line]:
    for name, ask in asked.items():
        ask()
        began = time.perf_counter()
        ask()
        yield Line(f"{index.path.stem}: {name[:50]}", time.perf_counter() - began, 1.0, 1.0)


def _churn(db: Path, runs: int) -> Iterator[Line]:
    """Thirty days in each of which 3 % of the runs go and as many come; the file must not grow."""
    remove_index(db)
    with closing(make_index(db, runs, TRIALS)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = db.stat().st_size
        for day in range(30):
            database.execute("BEGIN")
            for pk in range(1 + day * runs * 3 // 100, 1 + (day + 1) * runs * 3 // 100):
                _replace(database, pk, pk + runs)
            database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Line(
            f"a month of churn, {runs:,} runs: after / before", db.stat().st_size / 1e6, before / 1e6, 1.2, "in MB"
        )
    remove_index(db)


def _replace(database: sqlite3.Connection, pk: int, new_pk: int) -> None:
    """Delete a run, and insert the same as a new one."""
    run, _ = run_tables.stored_rows(database, pk)
    place = database.execute("SELECT * FROM places WHERE run_pk = ?", (pk,)).fetchone()
    database.execute("DELETE FROM places WHERE run_pk = ?", (pk,))
    run_tables.delete_rows(database, pk)
    database.execute(rows.INSERT_RUN, (new_pk, f"{run.run[0]}+", *run.run[1:], new_pk))
    for trial, scores in run.trials.values():
        trial_pk = database.execute(rows.INSERT_TRIAL, (None, new_pk, *trial)).lastrowid
        database.executemany(rows.INSERT_SCORE, [(trial_pk, *score) for score in scores])
    database.executemany(rows.INSERT_TARGET, [(new_pk, *target) for target in run.targets])
    run_tables.replace_tags(database, new_pk, run.tags)
    database.execute(f"INSERT INTO places VALUES ({', '.join('?' * len(place))})", (None, new_pk, *place[2:]))
