"""The command for your own SQL."""

import csv
import math
import sqlite3
import sys
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand

from indexer.cli import console
from indexer.cli.app import Config, DbFile, Json, app, opened
from indexer.errors import QueryError
from indexer.project import find_project
from indexer.queries.limits import limit_time

if TYPE_CHECKING:
    from sqlite_utils import Database

SECONDS = 60.0
"""A query that takes longer is stopped."""


class _Command(TyperCommand):
    """Lets `--param` take two words, which Typer cannot declare for a repeatable option."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        (option,) = (each for each in self.params if each.name == "parameters")
        option.nargs = 2


@app.command(cls=_Command, epilog="Example: indexer query 'select run_id from runs where cost_usd > :most' -p most 5")
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One query; docs/sql.md has the tables.")],
    parameters: Annotated[
        list[str] | None,  # pairs: see _Command
        typer.Option("--param", "-p", metavar="NAME VALUE", help="The value of :NAME in the query."),
    ] = None,
    config: Config = None,
    db: DbFile = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """Query the index in SQL, read-only, and print a table, JSON lines or CSV."""
    if json and as_csv:
        raise QueryError("--json and --csv: choose one")
    with opened(find_project(config, db)) as index:
        database = index.database
        limit_time(database.conn, SECONDS)
        try:
            rows = _asked(database, sql, dict(cast("list[tuple[str, str]]", parameters or [])))
            _print(next(rows, None), rows, json=json, as_csv=as_csv)
        except sqlite3.Error as error:
            stopped = f"it took longer than {SECONDS:.0f} s" if "interrupted" in str(error) else error
            raise QueryError(f"sql: {stopped}") from None


def _asked(database: "Database", sql: str, parameters: dict[str, str]) -> Iterator[dict[str, Any]]:
    try:
        return iter(database.query(sql, parameters))
    except ValueError:
        raise QueryError("sql: only statements that return rows are allowed: select, with, explain, values") from None


def _print(first: dict[str, Any] | None, rest: Iterator[dict[str, Any]], *, json: bool, as_csv: bool) -> None:
    if first is None:
        print("no rows", file=sys.stderr)
    elif json:
        for row in chain([first], rest):
            console.document({name: _plain(value) for name, value in row.items()})
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(first)
        writer.writerows(map(_plain, row.values()) for row in chain([first], rest))
    else:
        names, rows = list(first), list(chain([first], rest))
        numbers = [name for name in names if all(isinstance(row[name], int | float | None) for row in rows)]
        console.table(names, [[_plain(value) for value in row.values()] for row in rows], right=numbers)


def _plain(value: object) -> object:
    """A value that can be printed: bytes as text, infinities and NaN as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
