"""What Datasette tells of the tables: the comments of the schema are its descriptions."""

import re
from typing import Any

from indexer.store import file

Row = dict[str, Any]
_TABLE = re.compile(r"^CREATE TABLE (\w+) \(\n  -- (.*?)\n(.*?)^\)", re.DOTALL | re.MULTILINE)
_COLUMN = re.compile(r'^  "?(\w+)"? +[A-Z][^-]*?(?:-- (.*))?$')
_MORE = re.compile(r"^ +-- +(.*)$")
# in words: Datasette's own units load a library for a second, and know no dollars
_UNITS = {"duration_s": "seconds", "cost_usd": "US dollars", "mtime_ns": "nanoseconds", "ctime_ns": "nanoseconds"}
_SHOWN = {
    "runs": {"sort_desc": "timestamp", "label_column": "run_id"},
    "trials": {"label_column": "trial"},
    "deletions": {"sort_desc": "rev"},
    "problems": {"sort_desc": "first_seen"},
}
_FACETS = {"runs": ["status", "experiment"], "sources": ["kind"], "problems": ["kind"]}


def _described() -> dict[str, Row]:
    tables: dict[str, Row] = {}
    for name, about, body in _TABLE.findall(file.sql("schema.sql")):
        columns: dict[str, str] = {}
        last = ""
        for line in body.splitlines():
            if column := _COLUMN.match(line):
                last = column[1]
                if column[2]:
                    columns[last] = column[2]
            elif (more := _MORE.match(line)) and last in columns:
                columns[last] += f" {more[1]}"
        for measured, unit in _UNITS.items():
            if re.search(rf"^  {measured} ", body, re.MULTILINE):
                columns[measured] = "; ".join(filter(None, (unit, columns.get(measured))))
        tables[name] = {"title": name.strip("_").replace("_", " ").capitalize(), "description": about,
                        "columns": columns, "hidden": name.startswith("_")}  # fmt: skip
    return tables


TABLES: dict[str, Row] = {
    name: table | _SHOWN.get(name, {}) | ({"facets": _FACETS[name]} if name in _FACETS else {})
    for name, table in _described().items()
}
"""Metadata of each table, in Datasette's words."""
