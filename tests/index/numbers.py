"""An index of any size without sources: rows cloned inside SQLite."""

import sqlite3
from pathlib import Path

from indexer.index import file
from indexer.index.rows import RUN, TAG, TARGET


def make_index(path: Path, runs: int) -> sqlite3.Connection:
    """An index of that many runs with one target, a place and sometimes a tag each. Returns a writing connection.

    Every tenth rate is NULL, every fifth cost; half of the runs share their timestamp with another one.
    """
    file.create(path)
    database = file.connect(path, write=True)
    database.execute("BEGIN")
    file.begin_anew(database, "numbers")
    values = dict.fromkeys(RUN, "0") | {
        "key": "'key ' || n",
        "run_id": "'run ' || n",
        "source": "'s' || (n % 3)",
        "path": "'runs/' || n",
        "ref": "NULL",
        "format": "'agentv'",
        "layout": "'v3'",
        "experiment": "'e' || (n % 8)",
        "target": "'t' || (n % 5)",
        "agent": "NULL",
        "model": "'m' || (n % 5)",
        "status": "CASE WHEN n % 11 THEN 'completed' ELSE 'running' END",
        "timestamp": "strftime('%Y-%m-%dT%H:%M:%S.000Z', 1767600000 + n / 2 * 60, 'unixepoch')",
        "pass_rate": "CASE WHEN n % 10 THEN (n * 7919 % 101) / 100.0 END",
        "avg_score": "CASE WHEN n % 10 THEN (n * 104729 % 1009) / 1008.0 END",
        "cost_usd": "CASE WHEN n % 5 THEN (n * 31 % 997) / 100.0 END",
        "duration_s": "CASE WHEN n % 7 THEN n * 17 % 3600 END",
        "tags": "CASE WHEN n % 6 < 2 THEN '[\"baseline\"]' ELSE '[]' END",
        "sha": "printf('%040x', n)",
    }
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
    columns, content = ", ".join(RUN), ", ".join(values[column] for column in RUN)
    database.execute(f"INSERT INTO runs (id, {columns}, rev) {numbers} SELECT n, {content}, n FROM numbers", (runs,))
    targets = {column: column if column in RUN else "NULL" for column in TARGET} | {"run_key": "key"}
    content = ", ".join(targets[column] for column in TARGET)
    database.execute(f"INSERT INTO run_targets (run_pk, {', '.join(TARGET)}) SELECT id, {content} FROM runs")
    database.execute(
        f"INSERT INTO run_tags (run_pk, {', '.join(TAG)}) "
        "SELECT id, key, timestamp, 'baseline', '', 'baseline' FROM runs WHERE tags <> '[]'"
    )
    database.execute(
        "INSERT INTO places (run_pk, run_key, timestamp, source, path, status, ended, ended_count, name, "
        "authored_tags, fingerprint) SELECT id, key, timestamp, source, path, status, 1, 0, '', '[]', '' FROM runs"
    )
    file.run_script(database, "indexes.sql")
    database.execute("UPDATE meta SET last_rev = ?", (runs,))
    database.execute("COMMIT")
    return database
