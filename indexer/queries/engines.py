"""Differences between SQLite and PostgreSQL. Nearly all SQL of the queries is common to both.

Queries are written for SQLite; PostgreSQL takes them after a few replacements. Functions that it lacks (`total`,
`instr`, sums of conditions) come with the schema of a shared index (see `shared.schema`). Queries use IS to compare
with a value that may be NULL; it is rewritten so that an index can answer it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class Engine(Protocol):
    """Runs queries: an SQLite connection as it is, or one that translates."""

    def execute(self, query: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]: ...


ONE_OF_MANY = "IN (SELECT value FROM json_each(?))"
"""Follows a text column: it is in a JSON array, for more values than an engine takes as parameters."""

CONTAINS = "instr(lower({}), ?) > 0"
"""SQL: whether a text column contains a text, ignoring ASCII case; give the text in lower case (`small_letters`)."""

_REPLACED = (
    (ONE_OF_MANY, "IN (SELECT jsonb_array_elements_text(?::jsonb))"),
    ("json_each(?) j", "json_array_elements(?::json) AS j (value)"),
    ("CROSS JOIN", "JOIN"),  # fixes the join order in SQLite
    (" GLOB ?", " LIKE glob(?)"),
)
_NULL_OR_EQUAL = re.compile(r"\bIS (\?|:[a-z_]+|[a-z]+\.[a-z_]+)")
_PLACEHOLDER = re.compile(r"'[^']*'|(?<!:):([a-z_]+)\b|\?")


def postgresql(
    query: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> tuple[str, Sequence[Any] | Mapping[str, Any]]:
    """Translate a query and its values for psycopg."""
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
