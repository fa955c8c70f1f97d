"""`/api`: JSON over HTTP, read-only, on the same reading code as the command line.

Keys are query parameters, since they hold `/` and `::`. Wrong values are 400, unknown names 404, tokens that are
too old 409, an index that cannot be read 503; all with `{"error": "…"}`. Answers have an ETag; an unchanged one
is a 304 without content. `/api` itself lists the addresses and their parameters (OpenAPI).
"""

import gzip
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from indexer import Index, files
from indexer.errors import (
    IndexerError,
    QueryError,
    StaleTokenError,
    UnknownRunError,
    UnknownTestError,
    UnknownTrialError,
)
from indexer.freshness import freshness
from indexer.project import Project
from indexer.queries.compare import side_of
from indexer.queries.filters import DECLARED, Filters, number
from indexer.queries.question import Question
from indexer.queries.questions import QUESTIONS
from indexer.queries.types import RunDetails, TrialRow
from indexer.render import seconds_since
from indexer.web.openapi import openapi
from indexer.web.reading import PROJECTS, permitted, readers

FAILING_FOR = 3600
"""Seconds after which a failing source makes the index unhealthy."""
READING = ("GET", "HEAD")
_TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")
_SHORT = 1_400
"""Bytes that fit a packet uncompressed."""
STATUS = {QueryError: 400, UnknownRunError: 404, UnknownTestError: 404, UnknownTrialError: 404, StaleTokenError: 409}

Row = dict[str, Any]
View = Callable[[Request, Datasette], Awaitable[Response]]
Answer = Callable[[Index, Request, Project | None], Row]
"""Answers a request. Files are only shown with a project."""
_SEVERAL = ("trial_status", "error_type")


def arguments(request: Request, names: Collection[str], numbers: Collection[str] = ()) -> Row:
    """The non-empty query parameters, those in `numbers` as numbers. If repeated, the first counts.

    Raises QueryError.
    """
    if unknown := [name for name in request.args if name not in names and name not in numbers]:
        raise QueryError(f"there is no parameter {unknown[0]!r}; the parameters are {', '.join([*names, *numbers])}")
    texts = {name: request.args[name] for name in request.args}
    kept = {name: text for name, text in texts.items() if text or name == "suite"}  # empty: no suite
    return {name: _number(text, name) if name in numbers else text for name, text in kept.items()}


def filters_of(request: Request, names: Collection[str] = tuple(DECLARED)) -> Filters:
    """The filters among the query parameters, several values as a list. Raises QueryError."""
    found: Row = {}
    for name in (name for name in names if name in request.args):
        texts = list(filter(None, request.args.getlist(name)))
        if texts:
            kind = DECLARED[name].kind
            found[name] = texts if DECLARED[name].several else _number(texts[0], name) if kind == "number" else texts[0]
    return cast("Filters", found)


def with_filters(request: Request, names: Collection[str], numbers: Collection[str] = ()) -> tuple[Row, Filters]:
    """Split the query parameters: those named, and filters of runs. Raises QueryError."""
    values = arguments(request, (*names, *(name for name in DECLARED if name not in numbers)), numbers)
    return {name: value for name, value in values.items() if name not in DECLARED}, filters_of(request)


def _number(text: str, name: str) -> float:
    if name in DECLARED:
        return number(name, text)
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        return int(text)
    raise QueryError(f"{name}: {text!r} is not a number")


def _flag(text: str, name: str) -> bool:
    if text not in ("0", "1", "false", "true"):
        raise QueryError(f"{name}: {text!r} is neither true nor false")
    return text in ("1", "true")


def required(values: Row, *names: str) -> list[Any]:
    """The values of parameters that must be given. Raises QueryError."""
    for name in names:
        if name not in values:
            raise QueryError(f"{name}: must be given")
    return [values.pop(name) for name in names]


def _runs(index: Index, request: Request, project: Project | None) -> Row:
    values, filters = with_filters(request, ("cursor", "sort"), ("limit",))
    page = index.runs(**values, **filters)
    return {"runs": page.runs, "next_cursor": page.next_cursor}


def run_by_key(index: Index, key: str) -> RunDetails:
    """A run by its exact key. Raises UnknownRunError."""
    run = index.run(key)
    if run["key"] != key:
        raise UnknownRunError(f"there is no run with the key {key!r}")
    return run


def trial_by_name(index: Index, key: str, name: str) -> tuple[RunDetails, TrialRow]:
    """A run by its exact key, and its trial by its exact name. Raises UnknownRunError, UnknownTrialError."""
    run = run_by_key(index, key)
    trial = index.trial(key, name)
    if trial["trial"] != name:
        raise UnknownTrialError(f"{run['run_id']} has no trial {name!r}")
    return run, trial


def _run(index: Index, request: Request, project: Project | None) -> Row:
    (key,) = required(arguments(request, ("key",)), "key")
    return {**run_by_key(index, key)}


def _count(index: Index, request: Request, project: Project | None) -> Row:
    _, filters = with_filters(request, ())
    return {"runs": index.count(**filters)}


def trials_asked(request: Request, names: Collection[str] = (), numbers: Collection[str] = ()) -> Row:
    """The arguments of `Index.trials` from the query parameters, and these further ones. Raises QueryError."""
    values, filters = with_filters(request, (*names, "error", *_SEVERAL, "cursor"), numbers)
    values |= {name: given for name in _SEVERAL if (given := list(filter(None, request.args.getlist(name))))}
    return {**values, **filters}


def _trials(index: Index, request: Request, project: Project | None) -> Row:
    given = trials_asked(request, ("key",), ("limit",))
    key = given.pop("key", None)
    page = index.trials(None if key is None else run_by_key(index, key)["key"], **given)
    return {"trials": page.trials, "next_cursor": page.next_cursor}


def _trial(index: Index, request: Request, project: Project | None) -> Row:
    key, name = required(arguments(request, ("key", "trial")), "key", "trial")
    run, trial = trial_by_name(index, key, name)
    found, unreadable = [], None
    try:
        found = files.of_trial(project, run, trial) if project is not None else []
    except IndexerError as error:  # the index still has what it read
        unreadable = str(error)
    return {**trial, "files": [file._asdict() for file in found], "unreadable": unreadable}


def asked(index: Index, request: Request, question: Question) -> Any:
    """The answer to a declared question, its parameters and filters taken from the address. Raises QueryError."""
    kinds = {name: each.kind for name, each in question.parameters.items()}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    values = arguments(request, [*(name for name in kinds if name not in numbers), *question.filters], numbers)
    given: Row = {}
    for name, kind in kinds.items():
        if kind == "side":
            required(dict(values), name)
            given[name] = side_of(list(filter(None, request.args.getlist(name))))
        elif name in values:
            given[name] = _flag(values[name], name) if kind == "flag" else values[name]
    required(given | {}, *(name for name, each in question.parameters.items() if each.required))
    return index.ask(question.name, **given, **filters_of(request, question.filters))


def _question(question: Question) -> Answer:
    def answer(index: Index, request: Request, project: Project | None) -> Row:
        found = asked(index, request, question)
        return {question.name: found} if question.rows else found

    return answer


def _values(index: Index, request: Request, project: Project | None) -> Row:
    (of,) = required(arguments(request, ("of",)), "of")
    return {"values": index.values(of)}


def _changes(index: Index, request: Request, project: Project | None) -> Row:
    found = index.changes(**arguments(request, ("since",), ("limit",)))
    return {"changes": found.changes, "next": found.next}


def _health(index: Index, request: Request, project: Project | None) -> Row:
    arguments(request, ())
    problems = index.problems()
    sources = [
        {**source, "lag_s": round(seconds_since(looked), 1) if (looked := source["looked_at"]) else None}
        for source in index.sources()
    ]
    failing = [
        source["name"]
        for source in index.sources()
        if source["failing_since"] and seconds_since(source["failing_since"]) > FAILING_FOR
    ]
    return {
        "healthy": not failing,
        "failing": failing,
        **freshness(index),
        "sources": sources,
        "problems": problems,
    }


_ANSWERS: dict[str, Answer] = {
    "runs": _runs,
    "count": _count,
    "run": _run,
    "trials": _trials,
    "trial": _trial,
    "values": _values,
    "changes": _changes,
    "health": _health,
    **{name: _question(question) for name, question in QUESTIONS.items()},
}


def _view(answer: Answer) -> View:
    async def view(request: Request, datasette: Datasette) -> Response:
        await permitted(datasette, request)
        if request.method not in READING:
            return document({"error": "only GET is allowed"}, 405, request)
        try:
            content = await readers(datasette).ask(lambda index: answer(index, request, PROJECTS.get(datasette)))
        except IndexerError as error:
            return document({"error": str(error)}, STATUS.get(type(error), 503), request)
        return document(content, 503 if content.get("healthy") is False else 200, request)

    return view


def document(content: Row, status: int, request: Request) -> Response:
    """A JSON response with an ETag; an empty 304 if the client has it."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return tagged(body, status, request, "application/json; charset=utf-8")


def tagged(body: bytes, status: int, request: Request, content_type: str, headers: Row | None = None) -> Response:
    """A response that clients may cache, but must revalidate."""
    packed = len(body) > _SHORT and _TAKES_GZIP.search(request.headers.get("accept-encoding", ""))
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}{"-gzip" if packed else ""}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"} | (headers or {})
    headers |= {"Vary": "Accept-Encoding"}
    if status == 200 and tag in request.headers.get("if-none-match", ""):
        return Response(b"", 304, headers, content_type)
    if packed:
        body, headers = gzip.compress(body, 5, mtime=0), headers | {"Content-Encoding": "gzip"}
    return Response(body, status, headers, content_type)


async def _overview(request: Request, datasette: Datasette) -> Response:
    await permitted(datasette, request)
    if request.method not in READING:
        return document({"error": "only GET is allowed"}, 405, request)
    return document(openapi(), 200, request)


async def _unknown(request: Request, datasette: Datasette) -> Response:
    await permitted(datasette, request)
    addresses = ", ".join(f"/api/{name}" for name in _ANSWERS)
    return document({"error": f"no such address; the addresses are {addresses}"}, 404, request)


ROUTES: list[tuple[str, View]] = [(rf"^/api/{name}$", _view(answer)) for name, answer in _ANSWERS.items()]
ROUTES += [(r"^/api/?$", _overview), (r"^/api/.*$", _unknown)]
