"""The table `run_commits`: which commits of a code repository name which runs."""

from indexer.changes import Naming
from indexer.records import unix_time
from indexer.store.runs import Runs
from indexer.store.transaction import Transaction

_BATCH = 500
_UNNAMED = """
FROM run_commits WHERE repo = ?
AND NOT EXISTS (SELECT 1 FROM temp._named n WHERE n.run_key = run_commits.run_key AND n.sha = run_commits.sha)
"""
_NEW = """
FROM temp._named n
WHERE NOT EXISTS (SELECT 1 FROM run_commits c WHERE c.repo = ? AND c.run_key = n.run_key AND c.sha = n.sha)
"""


def take_in(transaction: Transaction, runs: Runs, source: str, naming: Naming) -> bool:
    """Store the commits that name runs; if `naming` is complete, delete those it no longer lists.

    A run whose commits changed counts as changed. Returns whether any did.
    """
    database = transaction.database
    database.execute("DELETE FROM temp._named")
    batch = []
    for commit in naming.commits:
        time = None if commit.seconds is None else unix_time(commit.seconds)
        batch.append((commit.run_key, commit.sha, time, commit.subject))
        if len(batch) == _BATCH:
            database.executemany("INSERT OR IGNORE INTO temp._named VALUES (?, ?, ?, ?)", batch)
            batch.clear()
    database.executemany("INSERT OR IGNORE INTO temp._named VALUES (?, ?, ?, ?)", batch)
    gone = database.execute(f"SELECT DISTINCT run_key {_UNNAMED}", (source,)).fetchall() if naming.complete else []
    new = database.execute(f"SELECT DISTINCT n.run_key {_NEW}", (source,)).fetchall()
    if gone:
        transaction.run(f"DELETE {_UNNAMED}", (source,))
    if new:
        insert = "INSERT INTO run_commits (run_key, repo, sha, committed_at, subject)"
        columns = "SELECT n.run_key, ?1, n.sha, n.committed_at, n.subject"
        transaction.run(f"{insert} {columns} {_NEW.replace('?', '?1')} ORDER BY n.committed_at, n.sha", (source,))
    runs.changed_elsewhere({key for (key,) in gone + new})
    return bool(gone or new)
