"""New falls: those that `drift` shows and a watcher has not reported yet."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from indexer.errors import IndexerError
from indexer.queries.opening import open_index
from indexer.statistics import SIGNIFICANT
from indexer.store import lock

_GROUP = ("target", "suite", "test_id", "measure")


class Falls:
    """The falls that a watcher has reported; they are kept in the lock file, so that a restart repeats none."""

    def __init__(self, db: Path):
        self._db = db
        self._judged: object = None

    def new(self, revision: object) -> Iterator[dict[str, Any]]:
        """The facts of the falls not reported yet, for the log; none if this revision of the index was judged."""
        if revision == self._judged or (found := _falls(self._db)) is None:
            return
        self._judged = revision
        reported = lock.told_falls(self._db)
        yield from (_facts(row) for identity, row in found.items() if identity not in reported)
        if found.keys() != set(reported):
            with suppress(OSError):  # they are reported again after a restart
                lock.note(self._db, {"told": list(found)})


def _falls(db: Path) -> dict[str, dict[str, Any]] | None:
    """The falls, keyed by group and first run; None while the index cannot be read."""
    try:
        with open_index(db) as index:
            groups = [row for row in index.drift(every=True)["groups"] if row["q_value"] < SIGNIFICANT]
    except IndexerError:
        return None
    return {_identity(row): row for row in groups}


def _identity(row: dict[str, Any]) -> str:
    return " ".join([*(str(row.get(name) or "-") for name in _GROUP), row["since"]["key"]])


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: row[name] for name in _GROUP if row.get(name) is not None}
    sides = {side: round(row[side][row["measure"]], 4) for side in ("before", "recent")}
    runs = {side: row[side]["run_id"] for side in ("since", "last_good")}
    return {**named, **sides, **runs, "q_value": row["q_value"]}
