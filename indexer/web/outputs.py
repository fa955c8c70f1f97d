"""What one test said on both sides of a comparison: an execution of each, side by side."""

from typing import Any, cast
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import IndexerError
from indexer.queries.compare import side_of
from indexer.queries.filters import Filters
from indexer.queries.types import TrialRow
from indexer.queries.values import test_name
from indexer.web.api import filters_of, run_by_key
from indexer.web.file_page import readable
from indexer.web.reading import PROJECTS

Row = dict[str, Any]
LINES = 300
"""Lines or steps of a side that are shown."""
_BAD, _GOOD = ("failed", "errored"), ("passed",)


def with_outputs(index: Index, request: Request, datasette: Datasette, found: Row) -> Row:
    """A comparison, each test with the address at which it is compared alone; of a single test both outputs."""
    asked = [(name, value) for name in request.args for value in request.args.getlist(name)]
    if "run" in request.args:
        asked = [("a", found["a"]["key"]), ("b", found["b"]["key"])]
    for row in found["tests"]:
        alone = {"test": test_name(row["suite"], row["test_id"])}
        alone |= {"target": row["target"]} if row.get("target") else {}
        kept = [(name, value) for name, value in asked if name not in alone]
        row["address"] = f"/compare?{urlencode([*kept, *alone.items()])}"
    if len(found["tests"]) != 1 or "run" in request.args:
        return found
    (test,) = found["tests"]
    fell = (test["difference"] or 0) <= 0
    sides = [
        _output(index, datasette, request, name, test, _GOOD if (name == "a") == fell else _BAD) for name in ("a", "b")
    ]
    return found | {"outputs": [side for side in sides if side]}


def _output(
    index: Index, datasette: Datasette, request: Request, side: str, test: Row, statuses: tuple[str, ...]
) -> Row | None:
    """The newest execution of a side with one of these statuses, else the newest at all, and its most useful file."""
    name = side_of(list(filter(None, request.args.getlist(side))))
    wanted: Row = {**filters_of(request), "test": test_name(test["suite"], test["test_id"])}
    wanted |= {"target": test["target"]} if test.get("target") else {}
    run, wanted = (name, wanted) if isinstance(name, str) else (None, {**name, **wanted})
    for status in (list(statuses), None):
        page = index.trials(run, limit=1, trial_status=status, **cast("Filters", wanted))
        if page.trials:
            return {"side": side.upper(), "trial": page.trials[0], **_file(index, datasette, page.trials[0])}
    return None


def _file(index: Index, datasette: Datasette, trial: TrialRow) -> Row:
    """Its most useful file that is not empty, as people read it; none where files may not be shown."""
    project = PROJECTS.get(datasette)
    if project is None:
        return {}
    run = run_by_key(index, trial["run_key"])
    try:
        name = next((file.path for file in files.of_trial(project, run, trial) if file.size), None)
        if name is None:
            return {}
        data = files.content(project, run, name, trial, ending=True)
    except IndexerError as error:
        return {"unreadable": str(error)}
    return {"path": name, "is_whole": len(data) < files.LARGEST, **readable(data, LINES)}
