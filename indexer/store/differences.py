"""Compares two indexes row by row, by what readers can see.

Ignores what may differ between an index and a rebuild: internal ids, `rev`, `deletions`, fingerprints,
the times in `sources` and `problems`, and runs that an open problem covers.
"""

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from indexer.store.rows import ERRORS, FAILURES, REPEAT, RUN, SCORE, TAG, TARGET, TRIAL_ROW, VALUES

_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "runs": (f"SELECT {', '.join(RUN)} FROM {{0}}.runs", ("key",)),
    "trials": (
        f"SELECT r.key, {', '.join(f't.{column}' for column in TRIAL_ROW)} "
        "FROM {0}.trials t JOIN {0}.runs r ON r.id = t.run_pk",
        ("key", "trial"),
    ),
    "scores": (
        f"SELECT r.key, t.trial, {', '.join(f's.{column} AS {column}' for column in SCORE)}, "
        "row_number() OVER (PARTITION BY s.trial_pk ORDER BY s.id) AS number FROM {0}.scores s "
        "JOIN {0}.trials t ON t.id = s.trial_pk JOIN {0}.runs r ON r.id = t.run_pk",
        ("key", "trial", "number"),
    ),
    "run_targets": (
        f"SELECT {', '.join(TARGET)} FROM {{0}}.run_targets",
        ("run_key", "target", "agent", "model", "suite"),
    ),
    "_repeats": (
        f"SELECT r.key, {', '.join(f'x.{column}' for column in REPEAT)} "
        "FROM {0}._repeats x JOIN {0}.runs r ON r.id = x.run_pk",
        ("key", *REPEAT),
    ),
    "_errors": (f"SELECT {', '.join(ERRORS)} FROM {{0}}._errors", ("run_key",)),
    "run_tags": (f"SELECT {', '.join(TAG)} FROM {{0}}.run_tags", ("run_key", "tag")),
    "places": (
        "SELECT p.run_key, p.source, p.path, p.ref, p.timestamp, p.sha, p.status, p.ended, p.ended_count, "
        "p.last_activity, p.name, p.tags, p.tags_at, p.authored_tags, p.rank, p.edition, r.key AS run "
        "FROM {0}.places p LEFT JOIN {0}.runs r ON r.id = p.run_pk",
        ("run_key", "source", "path", "ref"),
    ),
    "run_commits": (
        "SELECT run_key, repo, sha, committed_at, subject FROM {0}.run_commits "
        "WHERE repo NOT IN (SELECT name FROM partly)",
        ("run_key", "repo", "sha"),
    ),
    "sources": (
        "SELECT s.name, s.kind, s.place, "
        # an unreadable ref keeps its old tip
        "CASE WHEN NOT EXISTS (SELECT 1 FROM {0}.problems p "
        "WHERE p.source = s.name AND p.ref IS NOT NULL AND p.path = '') THEN s.tip END AS tip, "
        "s.error IS NOT NULL AS failing, "
        "s.runs - (SELECT count(DISTINCT p.run_key) FROM {0}.places p "
        "WHERE p.source = s.name AND p.run_key IN (SELECT key FROM covered)) AS runs FROM {0}.sources s",
        ("name",),
    ),
    "problems": (
        "SELECT source, path, ref, kind, message FROM {0}.problems "
        # without doubts about runs that are left out
        "WHERE lasting <> 4 OR run_key NOT IN (SELECT key FROM covered)",
        ("source", "path", "ref", "kind"),
    ),
}
_COVERED = """
CREATE TEMP TABLE covered AS
SELECT run_key AS key FROM {0}.problems WHERE run_key IS NOT NULL AND lasting NOT IN (1, 4) UNION
SELECT run_key FROM {1}.problems WHERE run_key IS NOT NULL AND lasting NOT IN (1, 4) UNION
SELECT pl.run_key FROM {0}.places pl JOIN {0}.problems pr ON pr.source = pl.source
WHERE (pr.ref IS NULL OR pr.ref IS pl.ref)
  AND (pr.path IN ('', pl.path, pl.ref || ' history') OR substr(pl.path, 1, length(pr.path) + 1) = pr.path || '/') UNION
SELECT pl.run_key FROM {0}.places pl JOIN {0}.sources s ON s.name = pl.source WHERE s.failing_since IS NOT NULL
"""
_PARTLY = """
CREATE TEMP TABLE partly AS SELECT source AS name FROM {0}.problems UNION SELECT source FROM {1}.problems UNION
SELECT name FROM {0}.sources WHERE failing_since IS NOT NULL
"""


_REPEATED = """
SELECT suite, test_id, target, sum(verdicts), sum(passed) FROM (
  SELECT t.suite, t.test_id, t.target, sum(t.verdicts) AS verdicts, sum(t.passed) AS passed
  FROM a._repeats t JOIN a.runs r ON r.id = t.run_pk WHERE r.on_boards
  GROUP BY t.suite, t.test_id, t.target, t.task_checksum, t.reasoning_effort, t.agent_version, r.code_sha,
           iif(t.agent_version IS NULL OR r.code_sha IS NULL, r.id, 0)
  HAVING sum(t.verdicts) > 1
) GROUP BY suite, test_id, target
HAVING sum(verdicts) >= 5 AND 2.0 * sum(passed * (verdicts - passed)) / sum(verdicts * (verdicts - 1)) >= 0.1
"""
"""The view `flaky_tests`, computed from `_repeats`."""
_JUDGED = "t.status IN ('passed', 'failed')"
_COUNTED = "t.status IN ('passed', 'failed', 'errored')"
_DERIVED = {
    "ended_count": "coalesce(sum(t.status <> 'running'), 0)",
    "trial_count": f"coalesce(sum({_COUNTED}), 0)",
    **{
        status: f"coalesce(sum(t.status = '{status}'), 0)"
        for status in ("passed", "failed", "errored", "skipped", "cancelled")
    },
    "test_count": f"count(DISTINCT iif({_COUNTED}, json_array(t.suite, t.test_id), NULL))",
    "exceptions": "coalesce(sum(t.error_type IS NOT NULL OR t.status = 'errored'), 0)",
    "pass_rate": f"1.0 * sum(t.status = 'passed') / nullif(sum({_COUNTED}), 0)",
    "quality_rate": f"1.0 * sum(t.status = 'passed') / nullif(sum({_JUDGED}), 0)",
    "quality_score": f"avg(iif({_JUDGED}, t.score, NULL))",
    "avg_score": f"avg(iif({_JUDGED}, t.score, iif(t.status = 'errored', 0, NULL)))",
    "cost_usd": "sum(t.cost_usd)",
    **{f"{kind}_tokens": f"sum(1.0 * t.{kind}_tokens)" for kind in ("input", "cached", "output")},
}
"""Columns of `runs`, and what they are by SQL over a run's trials `t`."""
_FRACTIONS = ("quality_score", "avg_score", "cost_usd")
"""Columns with fractions: SQLite's sums of them are rounded."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One row that is not the same: which table, which row, and how."""

    table: str
    row: str
    how: str


def differences(index: Path, fresh: Path) -> Iterator[Difference]:
    """Where `index` differs from `fresh`, in the order of tables and rows."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for name, path in (("a", index), ("b", fresh)):
            database.execute(f"ATTACH ? AS {name}", (f"file:{quote(str(path.absolute()))}?mode=ro",))
        database.execute("BEGIN")
        for script in (_COVERED, _PARTLY):
            database.execute(script.format("a", "b"))
        for table, (query, identity) in _TABLES.items():
            yield from _in_table(database, table, query, identity)
        yield from _kept_counts(database)
        yield from _derived(database)
    finally:
        database.close()


def _derived(database: sqlite3.Connection) -> Iterator[Difference]:
    """Find runs whose counts and sums differ from SQL over their trials: a second way to derive them."""
    columns = ", ".join(f"r.{name}, {expression}" for name, expression in _DERIVED.items())
    largest = "max(coalesce(max(abs(t.score)), 0), coalesce(max(t.cost_usd), 0))"
    query = f"SELECT r.key, {largest}, {columns} FROM a.runs r LEFT JOIN a.trials t ON t.run_pk = r.id GROUP BY r.id"
    for key, most, *values in database.execute(query):
        for name, stored, counted in zip(_DERIVED, values[::2], values[1::2], strict=True):
            if not _alike(stored, counted, most if name in _FRACTIONS else 0):
                yield Difference("runs", key, f"{name}: {stored!r}, trials say {counted!r}")


def _alike(stored: float | None, counted: float | None, most: float) -> bool:
    """Whether two numbers are equal up to rounding, which grows with the largest number in the sum.

    A sum that does not fit 64 bits is stored as NULL; one that overflowed in SQLite matches any number.
    """
    if stored is None:
        return counted is None or abs(counted) >= 2**63
    if counted is None:
        return False
    return math.isclose(stored, counted, rel_tol=1e-9, abs_tol=max(1e-300, 1e-9 * most)) or not math.isfinite(counted)


def _kept_counts(database: sqlite3.Connection) -> Iterator[Difference]:
    """Find kept counts that differ from the index's own rows."""
    pairs = (
        ("_failures", "SELECT * FROM a._failures", FAILURES.format("a")),
        ("_values", "SELECT * FROM a._values", VALUES.format("a")),
        ("_repeats", _REPEATED, "SELECT suite, test_id, target, verdicts, passed FROM a.flaky_tests"),
    )
    for table, kept, counted in pairs:
        for one, other, how in ((kept, counted, "is not what rows say"), (counted, kept, "is not kept")):
            for row in database.execute(f"SELECT * FROM ({one}) EXCEPT SELECT * FROM ({other})"):
                yield Difference(table, " ".join(str(part) for part in row), how)


def _in_table(database: sqlite3.Connection, table: str, query: str, identity: tuple[str, ...]) -> Iterator[Difference]:
    uncovered = ""
    if identity[0] in ("key", "run_key"):
        uncovered = f"WHERE {identity[0]} NOT IN (SELECT key FROM covered)"
    sides: list[dict[tuple[Any, ...], dict[str, Any]]] = []
    for one, other in (("a", "b"), ("b", "a")):
        only = f"SELECT * FROM ({query.format(one)}) EXCEPT SELECT * FROM ({query.format(other)})"
        cursor = database.execute(f"SELECT * FROM ({only}) {uncovered}")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        sides.append({tuple(row[column] for column in identity): row for row in rows})
    mine, theirs = sides
    for row in sorted(mine.keys() | theirs.keys(), key=repr):
        name = " ".join(str(part) for part in row if part is not None)
        if row not in theirs:
            yield Difference(table, name, "only in the index")
        elif row not in mine:
            yield Difference(table, name, "missing in the index")
        else:
            old, new = mine[row], theirs[row]
            changed = [f"{c}: {old[c]!r}, sources say {new[c]!r}" for c in new if old[c] != new[c]]
            yield Difference(table, name, "; ".join(changed))
