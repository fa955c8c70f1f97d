"""What the engines that an index may lie in do not share. Pages of runs are written in the SQL that they do.

Placeholders are `?`. A text is NULL or equals a value by two different conditions, so that none of them needs a
null-safe comparison; prefixes are compared with `substr`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Engine(Protocol):
    """What runs queries: a connection of SQLite as it is, or one that translates."""

    def execute(self, query: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]: ...


ONE_OF_MANY = "IN (SELECT value FROM json_each(?))"
"""What follows a text column that is one of a JSON array of texts: more values than an engine takes written out."""

CONTAINS = "instr(lower({}), lower(?)) > 0"
"""That a text column has a text inside, in whatever case; SQLite knows that of the letters of ASCII."""

_ONE_OF_MANY_IN_POSTGRESQL = "IN (SELECT jsonb_array_elements_text(?::jsonb))"


def postgresql(query: str) -> str:
    """A query as psycopg takes it."""
    query = query.replace(ONE_OF_MANY, _ONE_OF_MANY_IN_POSTGRESQL).replace("instr(", "strpos(")
    return query.replace("%", "%%").replace("?", "%s")
