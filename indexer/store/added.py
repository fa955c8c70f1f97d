"""The table `_added`: the commit that first added each folder to a ref, from git history.

Deleted folders stay in it, since one that comes back keeps its first commit.
"""

from collections.abc import Iterable

from indexer.changes import Added, History, plain_name
from indexer.records import unix_time
from indexer.store.transaction import Transaction

_BATCH = 500
_INSERT_ADDED = """
INSERT INTO _added VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET sha = excluded.sha, seconds = excluded.seconds, author = excluded.author
WHERE (excluded.seconds, coalesce(excluded.sha, '')) < (seconds, coalesce(sha, ''))
"""
_STALE = """
SELECT p.id, p.run_key, a.sha FROM places p
LEFT JOIN _added a ON a.source = p.source AND a.ref = p.ref AND a.path = p.path
WHERE p.source = ? AND p.ref = ? AND p.sha IS NOT a.sha
"""
_OF_PLACES = """
UPDATE places SET sha = a.sha FROM _added a
WHERE a.source = places.source AND a.ref = places.ref AND a.path = places.path AND places.source = ? AND places.ref = ?
"""
_OF_RUNS = """
UPDATE runs SET sha = a.sha, added_at = utc_of(a.seconds), author = a.author
FROM _added a JOIN places p ON p.source = a.source AND p.ref = a.ref AND p.path = a.path
WHERE runs.id = p.run_pk AND a.source = ? AND a.ref = ? AND a.sha IS NOT NULL
  AND (SELECT count(*) FROM places o WHERE o.run_pk = p.run_pk) = 1
"""
_ELSEWHERE = """
INSERT OR IGNORE INTO temp._touched SELECT run_key, 0 FROM places p
WHERE p.source = ? AND p.ref = ? AND p.sha IS NOT NULL
  AND (SELECT count(*) FROM places o WHERE o.run_pk = p.run_pk) > 1
"""


def take_in(transaction: Transaction, source: str, history: History) -> None:
    """Store the commits of a history; none of them if it could not be read to the end.

    Updates places whose commit changed; their runs are settled at the end of the pass.
    """
    database, ref = transaction.database, history.ref
    paths: set[str] = set()
    database.execute("SAVEPOINT history")
    if history.complete and not transaction.fresh:
        transaction.run("DELETE FROM _added WHERE source = ? AND ref = ?", (source, ref))
    for batch in _batches(history.added):
        transaction.changed = True
        database.executemany(
            _INSERT_ADDED, [(source, ref, *added, plain_name(added.path.rpartition("/")[2])) for added in batch]
        )
        if not history.complete:
            paths.update(added.path for added in batch)
    if history.error:
        database.execute("ROLLBACK TO history")
    database.execute("RELEASE history")
    if history.error:
        return
    transaction.flush()
    if transaction.fresh:
        _fill_in(transaction, source, ref)
        return
    queries: list[tuple[str, tuple[str, ...]]] = [(f"{_STALE} AND p.path = ?", (source, ref, path)) for path in paths]
    for query, parameters in [(_STALE, (source, ref))] if history.complete else queries:
        for pk, run_key, sha in database.execute(query, parameters).fetchall():
            transaction.run("UPDATE places SET sha = ? WHERE id = ?", (sha, pk))
            transaction.touch(run_key)
            transaction.note_places(run_key)


def _fill_in(transaction: Transaction, source: str, ref: str) -> None:
    """Set the commits of all places of a ref in a fresh index, and of runs without another place."""
    transaction.database.create_function("utc_of", 1, unix_time, deterministic=True)
    transaction.run(_OF_PLACES, (source, ref))
    transaction.run(_OF_RUNS, (source, ref))
    transaction.run(_ELSEWHERE, (source, ref))


def _batches(added: Iterable[Added]) -> Iterable[list[Added]]:
    batch: list[Added] = []
    for each in added:
        batch.append(each)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
