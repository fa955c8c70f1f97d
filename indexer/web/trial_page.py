"""One trial: what graders said, its whole error, its files, and the same test before."""

import bisect
from contextlib import suppress
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import IndexerError
from indexer.queries.types import RunRow, TrialRow
from indexer.web.api import arguments, required, trial_by_name
from indexer.web.reading import PROJECTS

Row = dict[str, Any]
_NAMES = "SELECT trial FROM trials WHERE run_pk = (SELECT id FROM runs WHERE key = :key) ORDER BY trial"
_BEFORE = """
SELECT r.key, r.run_id, t.trial, t.status, t.score, t.timestamp
FROM trials t JOIN runs r ON r.id = t.run_pk
WHERE t.test_id = :test AND t.suite IS :suite AND t.target IS :target AND t.timestamp < :timestamp AND r.on_boards
ORDER BY t.timestamp DESC, t.trial LIMIT 1
"""


def trial_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What the page of a trial shows, by the key of its run and its own name."""
    key, name = required(arguments(request, ("key", "trial")), "key", "trial")
    run, trial = trial_by_name(index, key, name)
    names = [row["trial"] for row in index.select(_NAMES, key=key)]
    at = bisect.bisect_left(names, name)
    test = {"test": trial["test_id"], "suite": trial["suite"], "target": trial["target"]}
    before = index.select(_BEFORE, **test, timestamp=trial["timestamp"]) if trial["test_id"] else []
    return {
        "run": run,
        "trial": trial,
        "previous": names[at - 1] if at else None,
        "following": names[at + 1] if at + 1 < len(names) else None,
        "before": before[0] if before else None,
        **_from_files(datasette, run, trial),
    }


def _from_files(datasette: Datasette, run: RunRow, trial: TrialRow) -> Row:
    """The whole error and the files, where they may be shown; what the index has where they cannot be read."""
    project = PROJECTS.get(datasette)
    found: Row = {"error": trial["error"], "files": [], "cut": False, "unreadable": "", "place": None}
    if project is None:
        return found
    with suppress(IndexerError):  # a run in git or in a database has no folder on this machine
        found["place"] = files.place(project, run, trial)
    try:
        return found | {
            "files": (listed := files.of_trial(project, run, trial)),
            "cut": len(listed) >= files.MOST,
            "error": files.whole_error(project, run, trial) if trial["error"] else None,
        }
    except IndexerError as error:
        return found | {"unreadable": str(error)}
