"""An index of any size without sources: rows made inside SQLite."""

import sqlite3
from pathlib import Path

from indexer.store import file
from indexer.store.rows import FAILURES, RUN, SCORE, TAG, TARGET, TRIAL_ROW, VALUES

TESTS = 1_000
"""Distinct tests, where runs have trials."""
_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"


def make_index(path: Path, runs: int, trials: int = 0) -> sqlite3.Connection:
    """An index of that many runs with one target, a place and sometimes a tag each. Returns a writing connection.

    Every tenth rate is NULL, every fifth cost; every two consecutive runs share a timestamp. With
    `trials`, each run has as many, with a score each, and the counts and rates that follow from them.
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
        "started_at": "NULL",
        "finished_at": "NULL",
        "updated_at": "NULL",
        "added_at": "NULL",
        "author": "NULL",
        "code_sha": "NULL",
        "derived_from": "NULL",
        "host": "NULL",
        "model": "'m' || (n % 5)",
        "status": "CASE WHEN n % 11 THEN 'completed' ELSE 'running' END",
        "timestamp": "strftime('%Y-%m-%dT%H:%M:%S.000Z', 1767600000 + n / 2 * 60, 'unixepoch')",
        "pass_rate": "CASE WHEN n % 10 THEN (n * 7919 % 101) / 100.0 END",
        "avg_score": "CASE WHEN n % 10 THEN (n * 104729 % 1009) / 1008.0 END",
        "cost_usd": "CASE WHEN n % 5 THEN (n * 31 % 997) / 100.0 END",
        "duration_s": "CASE WHEN n % 7 THEN n * 17 % 3600 END",
        "tags": "CASE n % 6 WHEN 0 THEN '[\"baseline\", \"nightly\"]' WHEN 1 THEN '[\"baseline\"]' ELSE '[]' END",
        "sha": "printf('%040x', n)",
    }
    columns, content = ", ".join(RUN), ", ".join(values[column] for column in RUN)
    database.execute(f"INSERT INTO runs (id, {columns}, rev) {_NUMBERS} SELECT n, {content}, n FROM numbers", (runs,))
    if trials:
        _add_trials(database, trials)
    targets = {column: column if column in RUN else "NULL" for column in TARGET}
    targets |= {
        "run_key": "key",
        "on_boards": "status <> 'running'",
        "suite": "'suite'",
        "timed": "trial_count",
        "paid": "passed",
        "firsts": "65535",
    }
    targets |= {"scored": "passed + failed", "target_tests": "test_count"}
    targets["outcomes"] = "'[[1,0,' || (trial_count - passed) || '],[1,1,' || passed || ']]'"
    content = ", ".join(targets[column] for column in TARGET)
    database.execute(f"INSERT INTO run_targets (run_pk, {', '.join(TARGET)}) SELECT id, {content} FROM runs")
    database.execute(
        f"INSERT INTO run_tags (run_pk, {', '.join(TAG)}) "
        "SELECT r.id, r.key, r.timestamp, t.value, '', t.value FROM runs r, json_each(r.tags) t"
    )
    database.execute(
        "INSERT INTO places (run_pk, run_key, timestamp, source, path, status, ended, ended_count, name, "
        "authored_tags, rank, edition, format, fingerprint) "
        "SELECT id, key, timestamp, source, path, status, 1, 0, '', '[]', '', '', format, '' FROM runs"
    )
    file.run_script(database, "indexes.sql")
    database.execute("UPDATE meta SET last_rev = ?", (runs,))
    database.execute(f"INSERT INTO _failures {FAILURES.format('main')}")
    database.execute(f"INSERT INTO _values {VALUES.format('main')}")
    database.execute("COMMIT")
    return database


def _add_trials(database: sqlite3.Connection, trials: int) -> None:
    """Of all trials 70 in 100 pass, 20 fail and 10 error; a run has consecutive ones of `TESTS` tests."""
    number = f"(r.id * {trials} + n - 1)"
    chance = f"(({number} * 7919 + {number} / {TESTS} * 37) % 100)"
    values = dict.fromkeys(TRIAL_ROW, "NULL") | {
        "trial": f"'suite/test-' || ({number} % {TESTS}) || '/' || r.target || '/1'",
        "suite": "'suite'",
        "test_id": f"'test-' || ({number} % {TESTS})",
        "target": "r.target",
        "model": "r.model",
        "attempt": "1",
        "status": f"CASE WHEN {chance} < 70 THEN 'passed' WHEN {chance} < 90 THEN 'failed' ELSE 'errored' END",
        "score": f"CASE WHEN {chance} < 70 THEN 1.0 WHEN {chance} < 90 THEN 0.25 END",
        "error_type": f"CASE WHEN {chance} >= 90 THEN 'Error' || (n % 4) END",
        "error": f"CASE WHEN {chance} >= 90 THEN 'sandbox ' || {number} || ' did not answer in time' END",
        "started_at": "r.timestamp",
        "finished_at": "r.timestamp",
        "duration_s": "n * 1.5",
        "input_tokens": "1000 + n",
        "output_tokens": "200",
        "cost_usd": "0.01",
        "timestamp": "r.timestamp",
    }
    content = ", ".join(values[column] for column in TRIAL_ROW)
    database.execute(
        f"INSERT INTO trials (run_pk, {', '.join(TRIAL_ROW)}) {_NUMBERS} "
        f"SELECT r.id, {content} FROM runs r CROSS JOIN numbers ORDER BY r.id, n",
        (trials,),
    )
    database.execute(
        f"INSERT INTO scores (trial_pk, {', '.join(SCORE)}) SELECT id, 'contains', 'contains', score, 1.0, "
        "iif(status = 'errored', NULL, status = 'passed'), NULL FROM trials"
    )
    database.execute(
        "INSERT INTO _errors (timestamp, run_key, run_pk, text) "
        "SELECT r.timestamp, r.key, r.id, group_concat(lower(t.error), x'0a') "
        "FROM runs r JOIN trials t ON t.run_pk = r.id WHERE t.error IS NOT NULL GROUP BY r.id"
    )
    database.execute(
        """
        UPDATE runs SET
          (ended_count, trial_count, test_count, passed, failed, errored, exceptions, cost_usd, avg_score) = (
          SELECT count(*), count(*), count(*), sum(status = 'passed'), sum(status = 'failed'),
                 sum(status = 'errored'), sum(status = 'errored'), sum(cost_usd), total(score) / count(*)
          FROM (SELECT status, cost_usd, score FROM trials WHERE id > (runs.id - 1) * ?1 AND id <= runs.id * ?1)
        )
        """,
        (trials,),
    )
    database.execute(
        "UPDATE runs SET pass_rate = 1.0 * passed / trial_count, quality_score = (passed + failed * 0.25) "
        "/ nullif(passed + failed, 0)"
    )
