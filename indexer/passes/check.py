"""Checks that the index equals a fresh read of its sources, row by row."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from indexer.errors import IndexFileError
from indexer.passes.sync import reader, rebuild
from indexer.passes.walk import Progress
from indexer.protocols import Options
from indexer.sources import Source
from indexer.store import file
from indexer.store.differences import Difference, differences


def check(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None = None) -> list[Difference]:
    """Where the index differs from its sources; empty if nowhere.

    Sources may change while they are read, and a watcher may be writing, so a difference counts only if a
    second look finds it too. Raises IndexFileError, and SourceError when a source cannot be opened.
    """
    file.require_ours(db)
    if fault := file.fault(db, reader(options)):
        raise IndexFileError(f"{db}: {fault.why}; `indexer sync` makes a new one")
    found = _look(db, sources, options, progress)
    return sorted(found & _look(db, sources, options, progress)) if found else []


def _look(db: Path, sources: Sequence[Source], options: Options, progress: Progress | None) -> set[Difference]:
    with tempfile.TemporaryDirectory(prefix="indexer-check-") as folder:
        fresh = Path(folder) / "index.db"
        rebuild(fresh, sources, options, progress)
        return set(differences(db, fresh))
