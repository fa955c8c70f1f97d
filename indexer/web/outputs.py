"""What one test said on both sides of a comparison: an execution of each, side by side."""

from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import IndexerError
from indexer.queries.compare import side_of
from indexer.queries.types import TrialRow
from indexer.web.api import filters_of, run_by_key
from indexer.web.file_page import readable
from indexer.web.reading import PROJECTS

Row = dict[str, Any]
LINES = 300
"""Lines or steps of a side that are shown."""
_LONGEST = 2_000  # characters of an address that is repeated in each row
_FELL, _ROSE = (("passed",), ("failed", "errored")), (("failed", "errored"), ("passed",))
_ANY = ("passed", "failed", "errored")


def with_outputs(index: Index, request: Request, datasette: Datasette, found: Row) -> Row:
    """A comparison, with an address for each test alone; with both outputs if there is a single test."""
    asked = [(name, value) for name in request.args for value in request.args.getlist(name)]
    if "run" in request.args:
        asked = [("a", found["a"]["key"]), ("b", found["b"]["key"])]
    for row in found["tests"]:
        alone = {"test": f"{row['suite'] or ''}/{row['test_id']}"}  # unambiguous if a suite has this test too
        alone |= {"target": row["target"]} if row.get("target") else {}
        address = (
            f"/compare?{urlencode([*((name, value) for name, value in asked if name not in alone), *alone.items()])}"
        )
        row["address"] = address if len(address) <= _LONGEST else None
    if len(found["tests"]) != 1 or "run" in request.args:
        return found
    (test,) = found["tests"]
    difference = test["difference"] or 0
    wanted = _FELL if difference < 0 else _ROSE if difference > 0 else (_ANY, _ANY)
    sides = [_output(index, datasette, request, *each, test) for each in zip("ab", wanted, strict=True)]
    return found | {"outputs": [side for side in sides if side]}


def _output(
    index: Index, datasette: Datasette, request: Request, name: str, statuses: tuple[str, ...], test: Row
) -> Row | None:
    """A side's newest execution with one of these statuses, else its newest, and its most useful file."""
    side = side_of(list(filter(None, request.args.getlist(name))))
    for each in (statuses, _ANY):
        if trial := index.execution(side, test, each, **filters_of(request)):
            return {"side": name.upper(), "trial": trial, **_file(index, datasette, trial)}
    return None


def _file(index: Index, datasette: Datasette, trial: TrialRow) -> Row:
    """A trial's most useful non-empty file, made readable; nothing if files may not be shown."""
    project = PROJECTS.get(datasette)
    if project is None:
        return {}
    run = run_by_key(index, trial["run_key"])
    try:
        name = next((file.path for file in files.of_trial(project, run, trial) if file.size), None)
        return {} if name is None else {"path": name, **readable(*files.ending(project, run, name, trial), LINES)}
    except IndexerError as error:
        return {"unreadable": str(error)}
