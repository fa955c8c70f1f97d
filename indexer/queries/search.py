"""Finds runs by a piece of one of their names, ignoring case.

Names other than a run's own are few and counted (`_values`), so the names that contain the piece, and their number of
runs, are known before any run is read. Few runs are found first and then sorted; with many, testing runs in the
page's order soon fills it.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.queries.engines import CONTAINS, ONE_OF_MANY
from indexer.store.rows import small_letters

FEW = 5_000
"""Most runs that are found first and then sorted."""
_OF_TARGETS = {"target": "target", "model": "model", "dataset": "suite"}
_NAMED = ("experiment", *_OF_TARGETS, "tag")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a name: the names in the index that have it, by filter, and the keys of its runs if these are few."""

    text: str
    names: Mapping[str, Sequence[str]]
    keys: Sequence[str] | None


def having(database: sqlite3.Connection, text: str) -> Piece:
    """Look up a piece of a name in the index."""
    folded, runs = text.casefold(), 0
    names: dict[str, list[str]] = {name: [] for name in _NAMED}
    for name, value, counted in database.execute("SELECT name, value, runs FROM _values"):
        if name in names and folded in value.casefold():
            names[name].append(value)
            runs += counted
    piece = Piece(text, names, None)
    if runs > FEW:
        return piece
    by_name = f"SELECT id FROM runs WHERE {CONTAINS.format('run_id')} LIMIT ?"  # a covering index
    found = database.execute(f"SELECT key FROM runs WHERE id IN ({by_name})", (small_letters(text), FEW + 1))
    keys = {key for (key,) in found}
    if len(keys) > FEW:
        return piece
    for query, names_of_one in _lookups(names):
        keys.update(key for (key,) in database.execute(query, (json.dumps(names_of_one),)))
    return Piece(text, names, sorted(keys))


def _lookups(names: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Queries for the keys of runs with some names, each with its names; only where there are any."""
    found = [(f"SELECT key FROM runs WHERE experiment {ONE_OF_MANY}", names["experiment"])]
    found += [
        (f"SELECT run_key FROM run_targets WHERE {column} {ONE_OF_MANY}", names[name])
        for name, column in _OF_TARGETS.items()
    ]
    found.append((f"SELECT run_key FROM run_tags WHERE tag {ONE_OF_MANY}", names["tag"]))
    return [(query, some) for query, some in found if some]


def condition(piece: Piece) -> tuple[str, list[Any]]:
    """A condition that one of the names of a run `r` contains a piece, and its values."""
    if piece.keys is not None:
        return (f"r.key {ONE_OF_MANY}", [json.dumps(piece.keys)]) if piece.keys else ("false", [])
    conditions, values = [CONTAINS.format("r.run_id")], list[Any]([small_letters(piece.text)])
    for table, columns in (
        ("", {"experiment": "r.experiment"}),
        ("run_targets", {name: f"x.{column}" for name, column in _OF_TARGETS.items()}),
        ("run_tags", {"tag": "x.tag"}),
    ):
        held = [f"{column} {ONE_OF_MANY}" for name, column in columns.items() if piece.names[name]]
        values += [json.dumps(piece.names[name]) for name in columns if piece.names[name]]
        if held:
            any_of = " OR ".join(held)
            conditions.append(
                f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_pk = r.id AND ({any_of}))" if table else any_of
            )
    return f"({' OR '.join(conditions)})", values
