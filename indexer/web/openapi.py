"""`/api` itself: the addresses below it and their parameters, as an OpenAPI document."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from indexer.queries.filters import DECLARED, Filter
from indexer.queries.pages import SORTS
from indexer.queries.question import Parameter
from indexer.queries.questions import QUESTIONS
from indexer.queries.values import COUNTED

Row = dict[str, Any]
_CURSOR = Parameter(help="Where a page ended: next_cursor of the one before.")
_LIMIT = Parameter(help="Rows on a page, 1 to 1000.", kind="number", default=50)
_PAGE = {"cursor": _CURSOR, "limit": _LIMIT}
_KEY = Parameter(help="The key of a run.", required=True)
_SORT = Parameter(help=f"{', '.join(SORTS)}; with - in front for descending.", default="-timestamp")
_TRIALS: Mapping[str, Parameter] = {
    "key": Parameter(help="Only trials of the run with this key."),
    "trial_status": Parameter(help="Trials of this status; several are alternatives."),
    "error_type": Parameter(help="Trials with an error of this type; several are alternatives."),
    "error": Parameter(help="A piece of an error or of a grader's reason."),
}
ADDRESSES: Mapping[str, tuple[str, Mapping[str, Parameter], tuple[str, ...]]] = {
    "runs": (
        "A page of runs: runs, next_cursor.",
        {**_PAGE, "sort": _SORT},
        tuple(DECLARED),
    ),
    "count": ("How many runs there are: runs.", {}, tuple(DECLARED)),
    "run": ("One run, with targets, places and commits.", {"key": _KEY}, ()),
    "trials": (
        "A page of trials: trials, each with scores, and next_cursor.",
        {**_TRIALS, **_PAGE},
        tuple(DECLARED),
    ),
    "trial": (
        "One trial, with scores and files, each with path and size, the most useful first.",
        {"key": _KEY, "trial": Parameter(help="The name of a trial of the run.", required=True)},
        (),
    ),
    "values": (
        "The values of a filter: values, each with value and runs, that of the newest run first.",
        {"of": Parameter(help=f"{', '.join(COUNTED)}.", required=True)},
        (),
    ),
    "changes": (
        "What changed after a token: changes, each with key, deleted and, unless it is gone, run; and the next token.",
        {"since": Parameter(help="A token: next of the answer before."), "limit": _LIMIT},
        (),
    ),
    "health": ("Sources with lag_s, problems, and who writes; 503 when a source has been failing for an hour.", {}, ()),
    **{name: (each.help, each.parameters, each.filters) for name, each in QUESTIONS.items()},
}
"""By name: what an address answers, its parameters, and its filters."""


def openapi() -> Row:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "indexer", "version": version("eval-indexer")},
        "paths": {f"/api/{name}": {"get": _operation(name, *each)} for name, each in ADDRESSES.items()},
    }


def _operation(name: str, says: str, parameters: Mapping[str, Parameter], filters: Iterable[str]) -> Row:
    given = [_parameter(each, parameter) for each, parameter in parameters.items()]
    given += [_filter(each, DECLARED[each]) for each in filters]
    wrong = {"description": 'An error: {"error": "why"}.'}
    return {
        "operationId": name,
        "summary": says,
        "parameters": given,
        "responses": {
            "200": {"description": says},
            "304": {"description": "The answer has the ETag of If-None-Match."},
            "4XX": wrong,
            "503": wrong,
        },
    }


def _parameter(name: str, parameter: Parameter) -> Row:
    kinds = {"number": "integer", "flag": "boolean"}
    schema: Row = {"type": kinds.get(parameter.kind, "string")}
    if parameter.kind == "side":
        schema = {"type": "array", "items": schema}
    if parameter.default is not None:
        schema["default"] = parameter.default
    told = {"name": name, "in": "query", "description": parameter.help, "schema": schema}
    return told | ({"required": True} if parameter.required else {})


def _filter(name: str, declared: Filter) -> Row:
    schema: Row = {"type": "number" if declared.kind == "number" else "string"}
    if declared.choices:
        schema["enum"] = list(declared.choices)
    if declared.several:
        schema = {"type": "array", "items": schema}
    return {"name": name, "in": "query", "description": declared.help, "schema": schema}
