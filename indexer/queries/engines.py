"""What the engines that an index may lie in do not share. All queries are written in the SQL that they do, or nearly.

Their text is that of SQLite; PostgreSQL takes it after a few replacements. What it lacks beside these are functions,
which the schema of a shared index brings (see `shared.schema`): `total`, `instr`, sums of conditions. A column that is
NULL or equals a value is compared with IS, which becomes what an index can answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class Engine(Protocol):
    """What runs queries: a connection of SQLite as it is, or one that translates."""

    def execute(self, query: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]: ...


ONE_OF_MANY = "IN (SELECT value FROM json_each(?))"
"""What follows a text column that is one of a JSON array of texts: more values than an engine takes written out."""

CONTAINS = "instr(lower({}), lower(?)) > 0"
"""That a text column has a text inside, in whatever case; SQLite knows that of the letters of ASCII."""

_REPLACED = (
    (ONE_OF_MANY, "IN (SELECT jsonb_array_elements_text(?::jsonb))"),
    ("json_each(?) j", "json_array_elements(?::json) AS j (value)"),
    ("CROSS JOIN", "JOIN"),  # an order that SQLite keeps
    (" GLOB ?", " LIKE glob(?)"),
)
_NULL_OR_EQUAL = re.compile(r"\bIS (\?|:[a-z_]+|[a-z]+\.[a-z_]+)")
_PLACEHOLDER = re.compile(r"'[^']*'|(?<!:):([a-z_]+)\b|\?")


def postgresql(
    query: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> tuple[str, Sequence[Any] | Mapping[str, Any]]:
    """A query and its values as psycopg takes them."""
    for ours, theirs in _REPLACED:
        query = query.replace(ours, theirs)
    left = list(parameters) if not isinstance(parameters, Mapping) else []
    kept: list[Any] = []

    def placeholder(match: re.Match[str]) -> str:
        if match[0] == "?":
            kept.append(left.pop(0))
            return "%s"
        return f"%({match[1]})s" if match[1] else match[0]

    written: list[str] = []
    at = 0
    query = query.replace("%", "%%")
    for match in _NULL_OR_EQUAL.finditer(query):
        written.append(_PLACEHOLDER.sub(placeholder, query[at : match.start()]))
        if match[1] == "?":
            value = left.pop(0)
            written.append("IS NULL" if value is None else "= %s")
            kept += [] if value is None else [value]
        elif match[1].startswith(":"):
            assert isinstance(parameters, Mapping)
            written.append("IS NULL" if parameters[match[1][1:]] is None else f"= %({match[1][1:]})s")
        else:
            written.append(f"IS NOT DISTINCT FROM {match[1]}")
        at = match.end()
    written.append(_PLACEHOLDER.sub(placeholder, query[at:]))
    return "".join(written), parameters if isinstance(parameters, Mapping) else kept
