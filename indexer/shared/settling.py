"""Decides which machine's rows of a run are shown, and its tags and commit, by the ranking of places."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.records import utc_now
from indexer.shared import schema
from indexer.store import rows
from indexer.store.places import Place, added, merit, tags

if TYPE_CHECKING:
    import psycopg

_PLACES = """
SELECT p.run_key, p.machine, p.run_pk, p.source_rank, p.source_position, p.source, p.path, p.ref, p.ended,
       p.ended_count, p.last_activity, p.tags, p.tags_at, p.authored_tags, p.rank, p.edition, p.sha, p.seconds,
       p.added_author, p.wip
FROM _sent_places p WHERE p.run_key = ANY(%s) ORDER BY p.run_key
"""


class PlaceOfMachine(NamedTuple):
    """A place with the machine that it is on."""

    machine: str
    run_pk: int
    rank: int
    position: int
    place: Place


def best_first(places: Sequence[PlaceOfMachine]) -> list[PlaceOfMachine]:
    """`places.ranked` over all machines; ties go to the first machine by name."""
    by_name = sorted(places, key=lambda p: (p.position, p.place.path, p.place.ref or "", p.machine))
    return sorted(by_name, key=lambda p: merit(p.place, p.rank), reverse=True)


def settle(connection: "psycopg.Connection[Any]", keys: Sequence[str], machine: str) -> None:
    """Settle runs over the places of all machines, after one machine's rows changed."""
    if not keys:
        return
    there = dict[str, list[tuple[str, int]]]()
    for key, owner, pk in connection.execute(
        "SELECT key, machine, id FROM _sent_runs WHERE key = ANY(%s)", (list(keys),)
    ):
        there.setdefault(key, []).append((owner, pk))
    gone = [key for key in keys if key not in there]
    _note_deletions(connection, gone, list(there))
    contested = [key for key, owners in there.items() if [owner for owner, _ in owners] != [machine]]
    for key, places in _places(connection, contested):
        _show(connection, key, best_first(places), [pk for _, pk in there[key]])


def _places(connection: "psycopg.Connection[Any]", keys: Sequence[str]) -> Iterator[tuple[str, list[PlaceOfMachine]]]:
    found = connection.execute(_PLACES, (list(keys),)).fetchall() if keys else []
    for key, group in groupby(found, key=lambda row: row[0]):
        yield str(key), [PlaceOfMachine(row[1], row[2], row[3], row[4], Place(*row[5:])) for row in group]


def _show(connection: "psycopg.Connection[Any]", key: str, best: Sequence[PlaceOfMachine], ids: Sequence[int]) -> None:
    """Show the rows of the best place's machine, and none of the others."""
    shown = best[0].run_pk
    places = [each.place for each in best]
    chosen, (sha, added_at, author) = tags(places), added(places)
    (last,) = connection.execute("UPDATE _meta SET last_rev = last_rev + 1 RETURNING last_rev").fetchone() or (0,)
    connection.execute("UPDATE _sent_runs SET shown = false WHERE key = %s AND shown AND id <> %s", (key, shown))
    (timestamp,) = connection.execute(
        "UPDATE _sent_runs SET shown = true, settled_tags = %s, settled_sha = %s, settled_added_at = %s, "
        "settled_author = %s, rev = %s WHERE id = %s RETURNING timestamp",
        (rows.tags_text(chosen), sha, added_at, author, last, shown),
    ).fetchone() or ("",)
    for table in schema.OF_RUN:
        if "shown" in schema.sent_columns(table):
            differ = "run_pk = ANY(%s) AND shown <> (run_pk = %s)"
            update = f"UPDATE {schema.sent(table)} SET shown = (run_pk = %s) WHERE {differ}"
            connection.execute(update.encode(), (shown, list(ids), shown))
    connection.execute("DELETE FROM _sent_run_tags WHERE run_pk = ANY(%s)", (list(ids),))
    insert = f"INSERT INTO _sent_run_tags (run_pk, {', '.join(rows.TAG)}) VALUES (%s{', %s' * len(rows.TAG)})"
    for tag in rows.tag_rows(key, timestamp, chosen):
        connection.execute(insert.encode(), (shown, *tag))


def _note_deletions(connection: "psycopg.Connection[Any]", gone: Sequence[str], there: Sequence[str]) -> None:
    """Record runs that no machine has any more, for readers of the change feed."""
    connection.execute("DELETE FROM _deletions WHERE key = ANY(%s)", (list(there),))
    for key in gone:
        (last,) = connection.execute("UPDATE _meta SET last_rev = last_rev + 1 RETURNING last_rev").fetchone() or (0,)
        connection.execute(
            "INSERT INTO _deletions VALUES (%s, %s, %s) "
            "ON CONFLICT (key) DO UPDATE SET rev = excluded.rev, deleted_at = excluded.deleted_at",
            (key, last, utc_now()),
        )
