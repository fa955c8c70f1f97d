"""The command for SQL of one's own."""

import csv
import sqlite3
import sys
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

from indexer.cli import console
from indexer.cli.app import Config, Db, Json, app, opened
from indexer.errors import QueryError
from indexer.project import find_project
from indexer.queries.limits import limit_time

SECONDS = 60.0
"""A query that takes longer is stopped."""


class _Command(TyperCommand):
    """`--param` takes two words, which Typer can't say of an option that is given several times."""

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
    db: Db = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
) -> None:
    """Ask the index in SQL, read-only: a table, JSON lines, or CSV."""
    if json and as_csv:
        raise QueryError("--json and --csv: choose one")
    with opened(find_project(config, db)) as index:
        database = index.database
        limit_time(database.conn, SECONDS)
        try:
            rows = list(database.query(sql, dict(cast("list[tuple[str, str]]", parameters or []))))
        except ValueError as error:  # what returns no rows
            raise QueryError(f"sql: {error}") from None
        except sqlite3.Error as error:
            stopped = f"it took longer than {SECONDS:.0f} s" if "interrupted" in str(error) else error
            raise QueryError(f"sql: {stopped}") from None
    if json:
        for row in rows:
            console.document({name: _plain(value) for name, value in row.items()})
    elif rows and as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
    elif rows:
        names = list(rows[0])
        numbers = [name for name in names if all(isinstance(row[name], int | float | None) for row in rows)]
        console.table(names, [list(row.values()) for row in rows], right=numbers)
    else:
        print("no rows", file=sys.stderr)


def _plain(value: object) -> object:
    """A value as JSON has it; bytes as text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
