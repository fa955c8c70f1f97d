"""What a watcher asks the index: live and just-ended runs, what was read of them, and what could not be read."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from indexer.changes import Stamp
from indexer.records import utc_text

_FOLDER = "(f.path = '' OR f.path LIKE '%/' AND f.path NOT LIKE '//%')"
_LIVE = f"""
WITH live AS MATERIALIZED (
  SELECT p.id, p.path, max(f.mtime_ns) AS sign FROM places p JOIN _files f ON f.place_pk = p.id
  WHERE p.source = ? AND p.ref IS NULL AND p.ended = 0 GROUP BY p.id
)
SELECT live.path, rtrim(live.path || '/' || f.path, '/'), sign FROM live JOIN _files f ON f.place_pk = live.id
WHERE {_FOLDER} ORDER BY f.path <> '', sign DESC, f.mtime_ns DESC
"""
_BELOW = f"""
SELECT p.path || '/' || rtrim(f.path, '/') FROM places p JOIN _files f ON f.place_pk = p.id
WHERE p.source = ? AND p.path = ? AND p.ref IS NULL AND f.path >= ? || '/' AND f.path < ? || '0' AND {_FOLDER}
"""
_JUST_ENDED = """
SELECT path FROM (SELECT * FROM runs ORDER BY timestamp DESC, key DESC LIMIT 500)
WHERE source = ? AND ref IS NULL AND status NOT IN ('queued', 'running')
  AND coalesce(finished_at, updated_at, timestamp) >= ?
"""
_TOP_STAMPS = """
SELECT p.path, f.path, f.size, f.mtime_ns, f.ctime_ns, f.inode
FROM places p JOIN _files f ON f.place_pk = p.id
WHERE p.source = ? AND p.ref IS NULL AND instr(f.path, '/') = 0
"""

Ask = Callable[..., Sequence[Any]]
"""Takes a statement and its values; returns rows, empty while the index cannot be read."""


class LiveFolder(NamedTuple):
    """A folder of a live run, and the newest mtime of the run's files in nanoseconds since 1970."""

    run: str
    folder: str
    sign_of_life: int


class Stored:
    """What is indexed of one source on disk."""

    def __init__(self, ask: Ask, source: str):
        self._ask, self._source = ask, source

    def is_readable(self) -> bool:
        return bool(self._ask("SELECT 1"))

    def knows(self, path: str) -> bool:
        """Whether a run was read at a path."""
        query = "SELECT 1 FROM places WHERE source = ? AND path = ? AND ref IS NULL"
        return bool(self._ask(query, self._source, path))

    def live(self) -> list[LiveFolder]:
        """The folders of live runs, most recently active first."""
        return [LiveFolder(*row) for row in self._ask(_LIVE, self._source)]

    def folders_below(self, run: str, name: str) -> list[str]:
        """The folder of this name directly inside a run, and those below it that were searched."""
        return [path for (path,) in self._ask(_BELOW, self._source, run, name, name)]

    def just_ended(self) -> list[str]:
        """Those of the newest runs that ended within the last day."""
        yesterday = utc_text(datetime.now(UTC) - timedelta(days=1))
        return [path for (path,) in self._ask(_JUST_ENDED, self._source, yesterday)]

    def top_stamps(self) -> dict[str, list[tuple[str, Stamp]]]:
        """By run: the stamps of its folder and of the files directly inside."""
        found: dict[str, list[tuple[str, Stamp]]] = {}
        for path, name, *stamp in self._ask(_TOP_STAMPS, self._source):
            found.setdefault(path, []).append((f"{path}/{name}".rstrip("/"), Stamp(*stamp)))
        return found

    def unreadable(self) -> list[str]:
        """Paths of what could not be read."""
        query = "SELECT DISTINCT path FROM problems WHERE source = ? AND ref IS NULL AND path <> ''"
        return [path for (path,) in self._ask(query, self._source)]
