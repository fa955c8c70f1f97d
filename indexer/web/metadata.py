"""What Datasette tells of the tables: the comments of the schema are its descriptions."""

import re
from typing import Any

from indexer.index import file

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

_MONTH = "timestamp >= coalesce(nullif(:since, ''), date('now', '-30 days'))"
_LATELY = f"trials.{_MONTH}"
CANNED: dict[str, Row] = {
    "leaderboard_since": {
        "title": "Leaderboard",
        "description": "Experiment x target over runs that ended, since a day (empty: 30 days ago).",
        "sql": file.view_query("leaderboard", f" AND {_MONTH}").strip() + " ORDER BY experiment, pass_rate DESC",
    },
    "drift": {
        "title": "Drift",
        "description": "Pass rate of the newest 10 runs of an experiment x target against the 10 before.",
        "sql": f"""WITH numbered AS (
  SELECT experiment, target, passed, trial_count,
         (row_number() OVER (PARTITION BY experiment, target ORDER BY timestamp DESC) - 1) / 10 AS part
  FROM run_targets
  WHERE on_boards AND {_MONTH}
)
SELECT experiment, target,
       1.0 * sum(passed) FILTER (WHERE part = 1) / sum(trial_count) FILTER (WHERE part = 1) AS before,
       1.0 * sum(passed) FILTER (WHERE part = 0) / sum(trial_count) FILTER (WHERE part = 0) AS recent
FROM numbered WHERE part < 2 GROUP BY experiment, target HAVING recent < before ORDER BY recent - before""",
    },
    "flaky": {
        "title": "Flaky tests",
        "description": "Tests with both outcomes under equal conditions, since a day (empty: 30 days ago).",
        "sql": file.view_query("flaky_tests", f" AND {_LATELY}").strip() + " ORDER BY executions DESC LIMIT 100",
    },
    "failures": {
        "title": "Recent failures",
        "description": "Failed and errored trials of runs that ended, newest first.",
        "sql": "SELECT * FROM recent_failures LIMIT 100",
    },
    "cost_per_day": {
        "title": "Cost per day",
        "description": "US dollars by day, since a day (empty: 30 days ago).",
        "sql": "SELECT substr(timestamp, 1, 10) AS day, sum(cost_usd) AS cost_usd, count(DISTINCT run_pk) AS runs "
        f"FROM run_targets WHERE on_boards AND {_MONTH} GROUP BY day ORDER BY day DESC",
    },
}
"""Queries that Datasette offers by name."""
