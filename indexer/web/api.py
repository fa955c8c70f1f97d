"""`/api`: JSON over HTTP, read-only, on the same reading code as the command line.

Keys are query parameters, since they hold `/` and `::`. Wrong values are 400, unknown names 404, tokens that are
too old 409, an index that cannot be read 503; all with `{"error": "…"}`. An answer has an ETag, and one that did not
change is a 304 without content.
"""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from indexer import Index
from indexer.errors import IndexerError, QueryError, StaleTokenError, UnknownRunError, UnknownTestError
from indexer.freshness import freshness
from indexer.render import seconds_since
from indexer.web.reading import permitted, readers

FAILING_FOR = 3600
"""Seconds from when on a source that fails makes the whole unhealthy."""
READING = ("GET", "HEAD")
STATUS = {QueryError: 400, UnknownRunError: 404, UnknownTestError: 404, StaleTokenError: 409}

Row = dict[str, Any]
View = Callable[[Request, Datasette], Awaitable[Response]]


def arguments(
    request: Request, names: Collection[str], numbers: Collection[str] = (), several: Collection[str] = ()
) -> Row:
    """The query parameters that are not empty: those in `numbers` as numbers, a list of each in `several`.

    Of any other one the first counts. Raises QueryError.
    """
    values: Row = {}
    for name in request.args:
        text = request.args[name]
        if name not in names and name not in numbers:
            raise QueryError(f"there is no parameter {name!r}; there are {', '.join([*names, *numbers])}")
        if name in names and name in several and (texts := list(filter(None, request.args.getlist(name)))):
            values[name] = texts
            continue
        if text == "" and name != "suite":  # an empty suite is none
            continue
        try:
            values[name] = text if name in names else _number(text, name)
        except ValueError:
            raise QueryError(f"{name}: {text!r} is no number") from None
    return values


def _number(text: str, name: str) -> float:
    if name == "min_pass_rate":
        return float(text)
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError
    return int(text)


def required(values: Row, *names: str) -> list[Any]:
    """The values of parameters that must be given. Raises QueryError."""
    for name in names:
        if name not in values:
            raise QueryError(f"{name}: must be given")
    return [values.pop(name) for name in names]


SEVERAL = ("experiment", "target", "model", "status", "source", "tag")
"""Filters of runs that take several values."""
FILTERS = (*SEVERAL, "since", "until", "commit")
PART = ("experiment", "target", "since", "until")


def _runs(index: Index, request: Request) -> Row:
    page = index.runs(**arguments(request, ("cursor", "sort", *FILTERS), ("limit", "min_pass_rate"), SEVERAL))
    return {"runs": page.runs, "next_cursor": page.next_cursor}


def run_by_key(index: Index, key: str) -> Row:
    """A run by its very key. Raises UnknownRunError."""
    run = index.run(key)
    if run["key"] != key:
        raise UnknownRunError(f"there is no run with the key {key!r}")
    return run


def _run(index: Index, request: Request) -> Row:
    (key,) = required(arguments(request, ("key",)), "key")
    return run_by_key(index, key)


def _trials(index: Index, request: Request) -> Row:
    values = arguments(request, ("key", "status", "cursor"), ("limit",))
    (key,) = required(values, "key")
    page = index.trials(key, **values)
    return {"trials": page.trials, "next_cursor": page.next_cursor}


def _compare(index: Index, request: Request) -> Row:
    values = arguments(request, ("a", "b", "target", "experiment"))
    return index.compare(*required(values, "a", "b"), **values)


def _history(index: Index, request: Request) -> Row:
    values = arguments(request, ("test", "suite", *PART), ("limit",))
    return index.history(*required(values, "test"), **values)


def _drift(index: Index, request: Request) -> Row:
    return index.drift(**arguments(request, ("window", "experiment", "target"), ("limit",)))


def _leaderboard(index: Index, request: Request) -> Row:
    return {"leaderboard": index.leaderboard(**arguments(request, PART, ("k",)))}


def _failures(index: Index, request: Request) -> Row:
    return {"failures": index.failures(**arguments(request, PART, ("limit",)))}


def _changes(index: Index, request: Request) -> Row:
    found = index.changes(**arguments(request, ("since",), ("limit",)))
    return {"changes": found.changes, "next": found.next}


def _health(index: Index, request: Request) -> Row:
    arguments(request, ())
    sources, problems = index.sources(), index.problems()
    for source in sources:
        source["lag_s"] = None if source["looked_at"] is None else round(seconds_since(source["looked_at"]), 1)
    failing = [s["name"] for s in sources if s["failing_since"] and seconds_since(s["failing_since"]) > FAILING_FOR]
    return {
        "healthy": not failing,
        "failing": failing,
        **freshness(index),
        "sources": sources,
        "problems": problems,
    }


_ANSWERS: dict[str, Callable[[Index, Request], Row]] = {
    "runs": _runs,
    "run": _run,
    "trials": _trials,
    "compare": _compare,
    "history": _history,
    "drift": _drift,
    "leaderboard": _leaderboard,
    "failures": _failures,
    "changes": _changes,
    "health": _health,
}


def _view(answer: Callable[[Index, Request], Row]) -> View:
    async def view(request: Request, datasette: Datasette) -> Response:
        await permitted(datasette, request)
        if request.method not in READING:
            return document({"error": "only GET is allowed"}, 405, request)
        try:
            content = await readers(datasette).ask(lambda index: answer(index, request))
        except IndexerError as error:
            return document({"error": str(error)}, STATUS.get(type(error), 503), request)
        return document(content, 503 if content.get("healthy") is False else 200, request)

    return view


def document(content: Row, status: int, request: Request) -> Response:
    """JSON with an ETag; nothing but 304 if that is what the client has."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return tagged(body, status, request, "application/json; charset=utf-8")


def tagged(body: bytes, status: int, request: Request, content_type: str, headers: Row | None = None) -> Response:
    """An answer that clients may keep as long as they ask whether it is current."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"} | (headers or {})
    if status == 200 and tag in request.headers.get("if-none-match", ""):
        return Response(b"", 304, headers, content_type)
    return Response(body, status, headers, content_type)


ROUTES: list[tuple[str, View]] = [(rf"^/api/{name}$", _view(answer)) for name, answer in _ANSWERS.items()]
