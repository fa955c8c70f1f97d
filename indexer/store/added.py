"""Which commit first brought a folder to a ref, as git history tells it: the table `_added`.

Folders that are gone are kept, since one that comes back keeps its first commit.
"""

from collections.abc import Iterable

from indexer.changes import Added, History, plain_name
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


def take_in(transaction: Transaction, source: str, history: History) -> None:
    """Remember the commits that a history tells; nothing of it counts when it could not be read to the end.

    Places whose commit is another one now get it, and their runs are settled at the end of the pass.
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
    queries: list[tuple[str, tuple[str, ...]]] = [(f"{_STALE} AND p.path = ?", (source, ref, path)) for path in paths]
    for query, parameters in [(_STALE, (source, ref))] if history.complete else queries:
        for pk, run_key, sha in database.execute(query, parameters).fetchall():
            transaction.run("UPDATE places SET sha = ? WHERE id = ?", (sha, pk))
            transaction.touch(run_key)


def _batches(added: Iterable[Added]) -> Iterable[list[Added]]:
    batch: list[Added] = []
    for each in added:
        batch.append(each)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
