"""Resolves names of runs: an id, a key, a prefix of these, `latest`, `live`, `tag:NAME`, a path, each with `~N`.

`latest` and `tag:` step through runs that ended, newest first; `live` is the newest running one that is not silent.
Prefixes are found by an index range; for ambiguous names, candidates that can be typed are listed, newest first.
"""

import os
import re
import shlex
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from indexer.errors import UnknownRunError, UnknownTrialError
from indexer.queries.filters import CUT, require_text
from indexer.records import utc_text

STALE_AFTER = 3600
"""Default seconds of silence after which a running run may have stopped."""

ENDED = "status IN ('completed', 'failed', 'cancelled')"
_ANCESTOR = re.compile(r"(.*)~(\d{1,9})", re.DOTALL)
_CANDIDATES = 10
_NEWEST = "ORDER BY timestamp DESC, key DESC LIMIT 1 OFFSET ?"
_TAGGED = f"""
SELECT r.id FROM run_tags s JOIN runs r ON r.id = s.run_pk WHERE s.tag = ? AND r.{ENDED}
ORDER BY s.timestamp DESC, s.run_key DESC LIMIT 1 OFFSET ?
"""


def resolve(database: sqlite3.Connection, name: str, stale_after: int = STALE_AFTER) -> int:
    """The internal id of the run that `name` stands for. Raises UnknownRunError, with candidates if there are any."""
    require_text("run", name)
    name = name.removesuffix(CUT)
    if (pk := _named(database, name, stale_after)) is not None:
        return pk
    if (match := _ANCESTOR.fullmatch(name)) and (
        pk := _before(database, match[1], int(match[2]), stale_after)
    ) is not None:
        return pk
    if match and _is_list(match[1]) and _newest(database, match[1], 0) is not None:
        raise UnknownRunError(f"{match[1]!r} has fewer than {match[2]} runs before its newest")
    if name == "live":
        raise UnknownRunError("no run is running now")
    if _is_list(name):
        raise UnknownRunError(f"no run that ended is called {name!r}; `indexer runs` lists all runs")
    raise UnknownRunError(f"no run is called {name!r}; `indexer runs` lists them")


def _before(database: sqlite3.Connection, name: str, count: int, stale_after: int) -> int | None:
    """The run `count` places before a named one, in its list: all ended runs, an experiment's or a tag's."""
    if (pk := _newest(database, name, count)) is not None or _is_list(name):
        return pk
    start = _named(database, name, stale_after)
    if start is None or count == 0:
        return start
    timestamp, key = database.execute("SELECT timestamp, key FROM runs WHERE id = ?", (start,)).fetchone()
    statement = f"SELECT id FROM runs WHERE (timestamp, key) < (?, ?) AND {ENDED} {_NEWEST}"
    return _first(database.execute(statement, (timestamp, key, count - 1)))


def _named(database: sqlite3.Connection, name: str, stale_after: int) -> int | None:
    if name == "live":
        return _live(database, stale_after)
    if _is_list(name):
        return _newest(database, name, 0)
    if pk := _first(database.execute("SELECT id FROM runs WHERE key = ?", (name,))):
        return pk
    experiment, slash, run_id = name.rpartition("/")
    exact = [("run_id = ?", [name])]
    if slash:
        exact.append(("experiment = ? AND (run_id = ? OR run_id = ?)", [experiment, run_id, f"{experiment}::{run_id}"]))
    for condition, values in exact:
        if (pk := _only(database, name, condition, values)) is not None:
            return pk
    if slash or name.startswith((".", "~")):
        pks = _at_path(database, name)
        if pks:
            return _only(database, name, f"id IN ({', '.join('?' * len(pks))})", list(pks))
    prefixes = [("run_id >= ? AND run_id < ?", _range(name)), ("key >= ? AND key < ?", _range(name))]
    if slash:
        names = [*_range(run_id), *_range(f"{experiment}::{run_id}")]
        ranges = "(run_id >= ? AND run_id < ? OR run_id >= ? AND run_id < ?)"
        prefixes.append((f"experiment = ? AND {ranges}", [experiment, *names]))
    for condition, values in prefixes if name else []:
        if (pk := _only(database, name, condition, values)) is not None:
            return pk
    return None


def _is_list(name: str) -> bool:
    return name == "latest" or name.startswith(("latest:", "tag:"))


def _newest(database: sqlite3.Connection, name: str, count: int) -> int | None:
    """The run `count` places before the newest in a list of ended runs: `latest`, `latest:EXPERIMENT`, `tag:NAME`."""
    if name == "latest":
        return _first(database.execute(f"SELECT id FROM runs WHERE {ENDED} {_NEWEST}", (count,)))
    kind, _, value = name.partition(":")
    if kind == "latest":
        statement = f"SELECT id FROM runs WHERE experiment = ? AND {ENDED} {_NEWEST}"
        return _first(database.execute(statement, (value, count)))
    return _first(database.execute(_TAGGED, (value, count))) if kind == "tag" else None


def _live(database: sqlite3.Connection, stale_after: int) -> int | None:
    """The newest run that has not ended and showed life lately."""
    lately = utc_text(datetime.now(UTC) - timedelta(seconds=stale_after))
    statement = "SELECT id FROM runs WHERE status = ? AND coalesce(updated_at, timestamp) >= ?"
    for status in ("running", "queued"):
        if (pk := _first(database.execute(f"{statement} {_NEWEST}", (status, lately, 0)))) is not None:
            return pk
    return None


def _at_path(database: sqlite3.Connection, name: str) -> set[int]:
    """The runs whose folder is at a path on this machine."""
    try:
        real = os.path.realpath(Path(name).expanduser())
    except (RuntimeError, ValueError):
        return set()
    found: set[int] = set()
    for source, place in database.execute("SELECT name, place FROM sources WHERE kind IN ('folder', 'git')").fetchall():
        root = os.path.realpath(place)
        if real.startswith(f"{root}/"):
            places = "SELECT run_pk FROM places WHERE source = ? AND path = ?"
            found |= {pk for (pk,) in database.execute(places, (source, real[len(root) + 1 :]))}
    return found


def _only(database: sqlite3.Connection, name: str, condition: str, values: list[Any]) -> int | None:
    order = f"ORDER BY timestamp DESC, key DESC LIMIT {_CANDIDATES + 1}"
    found = database.execute(f"SELECT id, run_id, key FROM runs WHERE {condition} {order}", values).fetchall()
    if len(found) > 1:
        shown = [key if [run_id for _, run_id, _ in found].count(run_id) > 1 else run_id for _, run_id, key in found]
        more = ", …" if len(found) > _CANDIDATES else ""
        raise UnknownRunError(f"{name!r} is ambiguous: {', '.join(map(shlex.quote, shown[:_CANDIDATES]))}{more}")
    return found[0][0] if found else None


def resolve_trial(database: sqlite3.Connection, pk: int, name: str) -> str:
    """The trial of a run that a name stands for: its own, a unique prefix of it, or a test with one trial in the run.

    Raises UnknownTrialError, with candidates that can be typed.
    """
    require_text("trial", name)
    name = name.removesuffix(CUT)
    in_run = "SELECT trial FROM trials WHERE run_pk = ?"
    of_test = "(test_id = ? OR suite || '/' || test_id = ?)"
    for condition, values in (
        ("trial = ?", [name]),
        (of_test, [name, name]),
        ("trial >= ? AND trial < ?", _range(name)),
    ):
        found = database.execute(f"{in_run} AND {condition} ORDER BY trial LIMIT {_CANDIDATES + 1}", (pk, *values))
        trials = [trial for (trial,) in found]
        if len(trials) > 1:
            more = ", …" if len(trials) > _CANDIDATES else ""
            raise UnknownTrialError(f"{name!r} is ambiguous: {', '.join(map(shlex.quote, trials[:_CANDIDATES]))}{more}")
        if trials:
            return str(trials[0])
    (key,) = database.execute("SELECT key FROM runs WHERE id = ?", (pk,)).fetchone()
    raise UnknownTrialError(f"no trial of {key} is called {name!r}; `indexer trials {shlex.quote(key)}` lists them")


def _first(cursor: sqlite3.Cursor) -> int | None:
    row = cursor.fetchone()
    return row[0] if row else None


def _range(prefix: str) -> list[str]:
    """The bounds of all texts that start with `prefix`."""
    return [prefix, prefix + "\U0010ffff"]
