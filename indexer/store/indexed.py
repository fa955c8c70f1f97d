"""What the index holds of one source, as the source asks it while it is walked."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from indexer.changes import Stamp, Tip
from indexer.store.place_table import PlaceTable
from indexer.store.problems import Problems
from indexer.store.transaction import Transaction


class IndexedSource:
    """Implements `Indexed` on the rows of one source, including those of this pass."""

    def __init__(self, transaction: Transaction, source: str, places: PlaceTable, problems: Problems):
        self._transaction, self._source = transaction, source
        self._database = transaction.database
        self._places, self._problems = places, problems

    def tips(self) -> Mapping[str, Tip]:
        rows = self._database.execute(
            'SELECT ref, "commit", tree, history, wip FROM _refs WHERE source = ? ORDER BY ref', (self._source,)
        )
        return {ref: Tip(commit, tree, history, bool(wip)) for ref, commit, tree, history, wip in rows}

    def fingerprint(self, ref: str | None, path: str) -> str | None:
        place = self._places.find(ref, path)
        return place.fingerprint if place else None

    def stamps(self, path: str, trials: Collection[str] | None = None) -> Mapping[str, Stamp]:
        place = self._places.find(None, path)
        return self._places.stamps(place.pk, trials) if place is not None else {}

    def trials(self, path: str) -> Collection[str]:
        place = self._places.find(None, path)
        query = "SELECT trial FROM trials WHERE run_pk = ?"
        return {name for (name,) in self._database.execute(query, (place.run_pk,))} if place is not None else ()

    def format_of(self, path: str) -> str | None:
        if self._transaction.fresh:  # nothing was read before
            return None
        query = "SELECT format FROM places WHERE source = ? AND path = ? AND ref IS NULL"
        row = self._database.execute(query, (self._source, path)).fetchone()
        return row[0] if row else None

    def run_above(self, path: str) -> str | None:
        above = [path[:at] for at, character in enumerate(path) if character == "/"]
        return next((each for each in reversed(above) if self._places.find(None, each) is not None), None)

    def fingerprints(self) -> Iterator[tuple[str, str]]:
        query = "SELECT path, fingerprint FROM places WHERE source = ? AND ref IS NULL ORDER BY path"
        return self._database.execute(query, (self._source,))

    def unfinished(self) -> Sequence[str]:
        query = "SELECT path FROM places WHERE source = ? AND ended = 0 AND ref IS NULL"
        return [path for (path,) in self._database.execute(query, (self._source,))]

    def below(self, path: str) -> Sequence[str]:
        self._transaction.flush()
        query = "SELECT path FROM places WHERE source = ? AND ref IS NULL"
        if not path:
            return [each for (each,) in self._database.execute(query, (self._source,))]
        bounds = (self._source, f"{path}/", f"{path}0")
        return [each for (each,) in self._database.execute(f"{query} AND path > ? AND path < ?", bounds)]

    def inside(self, path: str) -> bool:
        below = "SELECT 1 FROM places WHERE source = ? AND path > ? AND path < ? AND ref IS NULL"
        return self._database.execute(below, (self._source, f"{path}/", f"{path}0")).fetchone() is not None

    def unread(self, path: str) -> Collection[str]:
        return self._problems.unread(None, path)

    def places_named(self, name: str) -> set[tuple[str, str]]:
        self._transaction.flush()
        query = (
            "SELECT ref, path FROM places WHERE source = ?1 AND name = ?2 AND ref IS NOT NULL "
            "UNION SELECT ref, path FROM _added WHERE source = ?1 AND name = ?2"
        )
        return set(self._database.execute(query, (self._source, name)))
