"""Opens an index, or a shared one."""

from datetime import UTC, tzinfo
from pathlib import Path

from indexer.project import is_shared
from indexer.queries.index import Index
from indexer.queries.names import STALE_AFTER


def open_index(path: str | Path, *, zone: tzinfo = UTC, stale_after: int = STALE_AFTER) -> Index:
    """The index at `path`, or the shared one at a URL `postgresql://…`.

    Raises IndexFileError if there is none, or something else is in its place.

    `zone` is for times without one; after `stale_after` seconds of silence, a run is not `live`.
    """
    if is_shared(path):
        from indexer.queries.shared_index import SharedIndex  # needs psycopg

        return SharedIndex(path, zone, stale_after)
    return Index(Path(path), zone, stale_after)
