"""What the index holds of one source, as the source asks it while it is walked."""

from collections.abc import Iterator, Mapping, Sequence

from indexer.changes import Stamp, Tip
from indexer.store.place_table import PlaceTable
from indexer.store.problems import Problems
from indexer.store.transaction import Transaction


class IndexedSource:
    """An Indexed: answers from the rows of one source, those of this pass included."""

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

    def stamps(self, path: str) -> Mapping[str, Stamp]:
        place = self._places.find(None, path)
        return self._places.stamps(place.pk) if place is not None else {}

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
        place = self._database.execute(below, (self._source, f"{path}/", f"{path}0")).fetchone()
        return place is not None or self._problems.covers(None, path)

    def places_named(self, name: str) -> set[tuple[str, str]]:
        self._transaction.flush()
        query = (
            "SELECT ref, path FROM places WHERE source = ?1 AND name = ?2 AND ref IS NOT NULL "
            "UNION SELECT ref, path FROM _added WHERE source = ?1 AND name = ?2"
        )
        return set(self._database.execute(query, (self._source, name)))
