"""A page of runs is the same query on PostgreSQL as on SQLite."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from benchmarks.numbers import make_index
from indexer.queries.engines import Engine, postgresql
from indexer.queries.filters import Filters, given
from indexer.queries.pages import SORTS, page_of_ids
from indexer.queries.selection import select
from tests.agentevals import server

TABLES = ("runs", "run_targets", "run_tags", "places", "run_commits", "trials")
TYPES = {"INTEGER": "bigint", "REAL": "double precision", "TEXT": 'text COLLATE "C"'}
FILTERS: list[Filters] = [
    {},
    {"experiment": "e3"},
    {"experiment": ["e3", "e1", *(f"none {number}" for number in range(200))]},
    {"target": "t*", "status": ["completed", "running"]},
    {"experiment": "e1", "model": ["m0", "m1", *(f"none {number}" for number in range(200))]},
    {"tag": ["baseline", "nightly"], "min_pass_rate": 0.2},
    {"source": "s1", "since": "2026-01-05T10:00:00Z", "until": "2026-01-05 11:00"},
    {"commit": "0000"},
    {"search": "RUN t1"},
]


class Postgres:
    """A connection of psycopg as an engine."""

    def __init__(self, connection: "psycopg.Connection[Any]"):
        self._connection = connection

    def execute(self, query: str, parameters: Sequence[Any] = (), /) -> "psycopg.Cursor[Any]":
        text, values = postgresql(query, parameters)
        return self._connection.execute(text.encode(), values)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sqlite3.Connection, Engine]]:
    path = tmp_path_factory.mktemp("engines") / "index.db"
    with (
        closing(make_index(path, 300, trials=2)) as database,
        server() as running,
        psycopg.connect(running.dsn("postgres")) as connection,
    ):
        for table in TABLES:
            columns = {name: TYPES[kind] for _, name, kind, *_ in database.execute(f"PRAGMA table_xinfo({table})")}
            connection.execute(
                f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})".encode()
            )
            names = ", ".join(columns)
            with connection.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(columns))})".encode(),
                    database.execute(f"SELECT {names} FROM {table}").fetchall(),
                )
        yield database, Postgres(connection)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("sort", [sign + sort for sort in SORTS for sign in ("", "-")])
def test_pages_are_the_same(engines: tuple[sqlite3.Connection, Engine], sort: str, filters: Filters) -> None:
    database, postgres = engines
    selection = select(database, filters)
    cursor, pages = None, 0
    while True:
        page = page_of_ids(database, selection, given(filters), sort, 17, cursor)
        assert page_of_ids(postgres, selection, given(filters), sort, 17, cursor) == page
        ids, cursor = page
        pages += bool(ids)
        if cursor is None:
            break
    assert pages
