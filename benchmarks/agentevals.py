"""A database of agentevals with many runs, and how long passes over it take."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg

from benchmarks.measure import Line, in_turns, remove_index, timed
from indexer.passes.sync import look, sync
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.agentevals import AgentevalsSource
from indexer.store import file
from tests.agentevals import SUMMARY, Database, server

RESULTS = 10
_FILL = """
INSERT INTO run (run_id, status, spec, attempt, summary, created_at, started_at, finished_at)
SELECT md5(n::text)::uuid, 'succeeded', jsonb_build_object(
       'eval_set', jsonb_build_object('eval_set_id', 'set-' || n %% 20),
       'target', jsonb_build_object('kind', 'inline', 'inline', (
           SELECT jsonb_agg(md5((n * 100 + part)::text)) FROM generate_series(1, 100) AS part))),
       1, %s::jsonb, at, at, at + interval '9 seconds'
FROM (SELECT n, timestamptz '2026-01-05' + n * interval '97 seconds' AS at FROM generate_series(1, %s) AS n) AS runs;
INSERT INTO result (result_id, run_id, eval_set_item_id, eval_set_item_name, evaluator_name, evaluator_type, status,
                    score, details, created_at)
SELECT md5(run_id::text || n), run_id, 'item-' || n, 'item', 'trajectory', 'builtin', 'passed', 1,
       jsonb_build_object('comparisons', repeat('x', 200)), created_at
FROM run CROSS JOIN generate_series(1, %s) AS n;
ANALYZE
"""
_CHANGE = "UPDATE result SET score = random() WHERE result_id IN (SELECT result_id FROM result LIMIT 10)"
_NEW = """
INSERT INTO run (run_id, status, spec) SELECT gen_random_uuid(), 'queued', '{}' FROM generate_series(1, 10)
"""


def lines(db: Path, runs: int) -> Iterator[Line]:
    """A whole and a short look with nothing new and with ten changes, against reading the ids of all runs."""
    with server() as running:
        database = running.new()
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            cursor = psycopg.ClientCursor(connection)
            cursor.execute("SET search_path TO agentevals")
            cursor.execute(_FILL, (json.dumps(SUMMARY), runs, RESULTS))
            floor = _floor(connection)
            yield from _lines(db, f"{runs:,} runs x {RESULTS}", database, floor)


def _lines(db: Path, what: str, database: Database, floor: Callable[[], float]) -> Iterator[Line]:
    source = AgentevalsSource("evals", database.dsn)
    sources: list[Source] = [source]
    remove_index(db)
    yield Line(f"{what}: building it", timed(lambda: sync(db, sources, Options())), floor(), None)

    def changed(change: str, work: Callable[[], object]) -> float:
        database.execute(change)
        return timed(work)

    def short() -> None:
        look(index, sources, Options(), {"evals": []})

    def whole() -> None:
        sync(db, sources, Options())

    bare, nothing, ten = in_turns([floor, lambda: timed(whole), lambda: changed(_CHANGE, whole)], 5)
    yield Line(f"{what}: nothing new", nothing, bare, None)
    yield Line(f"{what}: ten changed", ten, bare, None)
    with closing(file.connect(db, write=True)) as index:
        bare, nothing, ten = in_turns([floor, lambda: timed(short), lambda: changed(_NEW, short)], 5)
    yield Line(f"{what}: nothing new, short look", nothing, bare, None)
    yield Line(f"{what}: ten new, short look", ten, bare, None)


def _floor(connection: "psycopg.Connection[tuple[object, ...]]") -> Callable[[], float]:
    return lambda: timed(lambda: connection.execute("SELECT run_id::text, status FROM run ORDER BY run_id").fetchall())
