"""Reading rows as people name them, and the distinct values of an indexed column."""

import sqlite3
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]


def dicts(database: sqlite3.Connection, statement: str, *parameters: Any, **named: Any) -> list[Row]:
    """The rows of a query as dicts by column name; its parameters are `?` or `:name`."""
    cursor = database.execute(statement, named or parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def distinct(database: sqlite3.Connection, column: str, source: str, *parameters: Any) -> Iterator[str | None]:
    """The values of a column in order, NULL first, each found by one step in an index.

    `source` is `FROM … WHERE …`, whose conditions bind the columns before this one in that index.
    """
    if database.execute(f"SELECT 1 {source} AND {column} IS NULL LIMIT 1", parameters).fetchone():
        yield None
    (value,) = database.execute(f"SELECT min({column}) {source}", parameters).fetchone()
    while value is not None:
        yield value
        after = f"SELECT min({column}) {source} AND {column} > ?"
        (value,) = database.execute(after, (*parameters, value)).fetchone()
