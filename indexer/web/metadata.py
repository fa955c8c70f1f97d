"""Datasette's metadata of the tables: their descriptions are the comments of the schema."""

from typing import Any

from indexer.store import file

Row = dict[str, Any]
# in words: Datasette's own units take a second to load, and lack dollars
_UNITS = {"duration_s": "seconds", "cost_usd": "US dollars", "mtime_ns": "nanoseconds", "ctime_ns": "nanoseconds"}
_SHOWN = {
    "runs": {"sort_desc": "timestamp", "label_column": "run_id"},
    "trials": {"label_column": "trial"},
    "deletions": {"sort_desc": "rev"},
    "problems": {"sort_desc": "first_seen"},
}
_FACETS = {"runs": ["status", "experiment"], "sources": ["kind"], "problems": ["kind"]}


def _described() -> dict[str, Row]:
    """Describe each table by its comments: below its name, and after each column, continued on the next lines."""
    tables: dict[str, Row] = {}
    table, column = "", ""
    for line in file.sql("schema.sql").splitlines():
        declared, _, comment = line.partition("-- ")
        words, comment = declared.split(), comment.strip()
        if words[:2] == ["CREATE", "TABLE"]:
            table, column = words[2], ""
            title = table.strip("_").replace("_", " ").capitalize()
            tables[table] = {"title": title, "description": "", "columns": {}, "hidden": table.startswith("_")}
        elif table and line.startswith("  "):
            described = tables[table]
            column = words[0].strip('"') if words and not words[0].isupper() else column
            if words and column in _UNITS:
                comment = "; ".join(filter(None, (_UNITS[column], comment)))
            if comment and not column:
                described["description"] = f"{described['description']} {comment}".strip()
            elif comment:
                described["columns"][column] = f"{described['columns'].get(column, '')} {comment}".strip()
    return tables


TABLES: dict[str, Row] = {
    name: table | _SHOWN.get(name, {}) | ({"facets": _FACETS[name]} if name in _FACETS else {})
    for name, table in _described().items()
}
"""Metadata of each table, in Datasette's words."""
