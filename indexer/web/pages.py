"""The addresses of all pages, and the pages that need no module of their own. Scripts only add to pages."""

import io
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, tzinfo
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from indexer import Index, files, render
from indexer.errors import IndexerError, QueryError
from indexer.freshness import freshness
from indexer.queries.filters import DECLARED
from indexer.queries.pages import SORTS
from indexer.queries.questions import QUESTIONS
from indexer.queries.runs import PUBLIC
from indexer.web.api import (
    READING,
    STATUS,
    arguments,
    asked,
    document,
    required,
    run_by_key,
    tagged,
    trials_asked,
    with_filters,
)
from indexer.web.boards import drift_page, failures_page, leaderboard_page
from indexer.web.dashboards import dashboards
from indexer.web.file_page import asked_file, file_page
from indexer.web.home import figures, home
from indexer.web.outputs import with_outputs
from indexer.web.reading import index_database, permitted, readers
from indexer.web.run_page import TRIALS, run_page, run_rows
from indexer.web.trial_page import trial_page

RARE = ("agent", "dataset", "test", "min_pass_rate", "commit")
"""Filters that are folded away."""
PAGE = 50
"""Runs on a page."""
MOST = 100_000
"""Most runs in a CSV file."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

Row = dict[str, Any]


def _runs(index: Index, request: Request, datasette: Datasette) -> Row:
    try:
        return _form(index) | _matching(index, request, datasette)
    except QueryError as error:  # shown above the form, which keeps its values
        several = [name for name, declared in DECLARED.items() if declared.several]
        given = {name: request.args.getlist(name) if name in several else request.args[name] for name in request.args}
        return _form(index) | {"values": given, "sort": "-timestamp", "runs": [], "wrong": str(error), "status": 400}


def _form(index: Index) -> Row:
    """The fixed part of the filter form."""
    sources = [source["name"] for source in index.sources() if source["kind"] != "repo"]
    return {"filters": DECLARED, "rare": RARE, "sorts": SORTS, "choices": {"source": sources}}


def _matching(index: Index, request: Request, datasette: Datasette) -> Row:
    """A page of runs. Raises QueryError."""
    values, filters = with_filters(request, ("cursor", "sort"), ("limit",))
    kept = {**filters, **{name: value for name, value in values.items() if name != "cursor"}}
    page = index.runs(limit=values.pop("limit", PAGE), **values, **filters)
    sort = values.get("sort", "-timestamp")
    asked_for = urlencode({name: value for name, value in kept.items() if name not in ("limit", "sort")}, doseq=True)
    return run_rows(index, page.runs, datasette) | {
        "values": kept,
        "sort": sort,
        "orders": {
            name: f"/runs?{asked_for}{'&' if asked_for else ''}sort={'' if sort == f'-{name}' else '-'}{name}"
            for name in SORTS
        },
        "next": page.next_cursor and f"/runs?{urlencode(kept | {'cursor': page.next_cursor}, doseq=True)}",
        "live": f"/runs/live?{urlencode({n: value for n, value in kept.items() if n != 'limit'}, doseq=True)}",
        "count": f"/api/count?{asked_for}",
        "csv": f"/runs.csv?{asked_for}&sort={sort}",
        "token": index.token(),
        "first": "cursor" not in values,
    }


def _live(index: Index, request: Request, datasette: Datasette) -> Row:
    """What changed since a token, and those of it that the page's filters let through."""
    values, filters = with_filters(request, ("token", "sort"))
    (token,) = required(values, "token")
    found = index.changes(token, limit=200)
    keys = [change["key"] for change in found.changes]
    return run_rows(index, index.matching(keys, **filters), datasette) | {"keys": keys, "token": found.next}


def _compare(index: Index, request: Request, datasette: Datasette) -> Row:
    chosen = request.args.getlist("run")
    if chosen:
        if len(chosen) != 2 or len(list(request.args)) != 1:
            raise QueryError(f"run: choose two runs to compare, not {len(chosen)}")
        runs = sorted((run_by_key(index, key) for key in chosen), key=lambda run: (run["timestamp"], run["key"]))
        found: Row = index.compare(*(run["key"] for run in runs))
    elif list(request.args):
        found = asked(index, request, QUESTIONS["compare"])
    else:
        raise QueryError("choose two runs to compare")
    return with_outputs(index, request, datasette, found)


def _history(index: Index, request: Request, datasette: Datasette) -> Row:
    found: Row = asked(index, request, QUESTIONS["history"])
    for target in found["targets"]:
        target["spark"] = render.sparkline(reversed(target["outcomes"]))
    return found


def _trials(index: Index, request: Request, datasette: Datasette) -> Row:
    given = trials_asked(request)
    page = index.trials(limit=TRIALS, **given)
    given.pop("cursor", None)
    kept = urlencode([*given.items(), ("cursor", page.next_cursor)], doseq=True)
    shown = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in given.items()]
    asked_for = defaultdict(str, {name: request.args[name] for name in request.args})
    return {"trials": page.trials, "given": shown, "asked": asked_for, "next": page.next_cursor and f"/trials?{kept}"}


async def _home(request: Request, datasette: Datasette) -> Response:
    arguments(request, ())
    told = await figures(datasette)

    def answer(index: Index) -> Row:
        found = home(index)
        return found | run_rows(index, found["newest"], datasette) | {"figures": told, "fresh": freshness(index)}

    context = await readers(datasette).ask(lambda index: answer(index.in_zone(_zone(request))))
    return await _rendered("home", context, 200, request, datasette)


def _dashboards(index: Index, request: Request, datasette: Datasette) -> Row:
    values = arguments(request, ("experiment",), ("days",))
    base = datasette.setting("base_url").rstrip("/")
    return dashboards(index, values.get("experiment"), values.get("days", 30), base) | {"values": values}


Wrong = Callable[[str, int, Request, Datasette], Awaitable[Response]]
View = Callable[[Request, Datasette], Awaitable[Response]]


async def _wrong_page(error: str, status: int, request: Request, datasette: Datasette) -> Response:
    return await _rendered("error", {"error": error}, status, request, datasette)


async def _wrong_document(error: str, status: int, request: Request, datasette: Datasette) -> Response:
    return document({"error": error}, status, request)


def _view(answer: View, wrong: Wrong = _wrong_page) -> View:
    """Checks permissions and renders IndexerErrors."""

    async def view(request: Request, datasette: Datasette) -> Response:
        await permitted(datasette, request)
        try:
            if request.method not in READING:
                return await wrong("only GET is allowed", 405, request, datasette)
            return await answer(request, datasette)
        except IndexerError as error:
            return await wrong(str(error), STATUS.get(type(error), 503), request, datasette)

    return view


def _page(name: str, answer: Callable[[Index, Request, Datasette], Row]) -> View:
    async def page(request: Request, datasette: Datasette) -> Response:
        context = await readers(datasette).ask(
            lambda index: answer(index.in_zone(_zone(request)), request, datasette) | {"fresh": freshness(index)}
        )
        return await _rendered(name, context, context.get("status", 200), request, datasette)

    return _view(page)


def _zone(request: Request) -> tzinfo:
    """The visitor's time zone, as the script told it; without a script UTC."""
    name = unquote(request.cookies.get("zone", "UTC"))
    try:
        return UTC if name in ("UTC", "Etc/UTC") else ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return UTC


async def _rendered(name: str, context: Row, status: int, request: Request, datasette: Datasette) -> Response:
    html = await _html(name, context, request, datasette)
    return tagged(html.encode("utf-8", "replace"), status, request, "text/html; charset=utf-8", HEADERS)


async def _html(name: str, context: Row, request: Request, datasette: Datasette) -> str:
    base = datasette.setting("base_url").rstrip("/")
    static = f"{base}/-/static-plugins/eval-indexer"
    html: str = await datasette.render_template(
        f"indexer_{name}.html",
        {"base": base, "static": static, "f": render, "zone": _zone(request), "database": index_database(datasette)}
        | context,
        request=request,
    )
    return html


async def _live_rows(request: Request, datasette: Datasette) -> Response:
    """JSON: `next` token, and `rows` by key; None where the page does not show the run (any more)."""
    context = await readers(datasette).ask(lambda index: _live(index.in_zone(_zone(request)), request, datasette))
    rows: dict[str, str | None] = dict.fromkeys(context["keys"])
    for run in context["runs"]:
        rows[run["key"]] = await _html("rows", context | {"runs": [run]}, request, datasette)
    return document({"next": context["token"], "rows": rows}, 200, request)


async def _csv(request: Request, datasette: Datasette) -> Response:
    """The runs that the filters select, as CSV, MOST at most."""
    values, filters = with_filters(request, ("sort",))
    text = io.StringIO()

    def write(index: Index) -> None:
        runs = index.in_zone(_zone(request)).each_run(sort=values.get("sort", "-timestamp"), **filters)
        render.write_csv(text, islice(runs, MOST), PUBLIC)

    await readers(datasette).ask(write)
    data = text.getvalue().encode("utf-8", "replace")
    headers = HEADERS | {"Content-Disposition": 'attachment; filename="runs.csv"'}
    return tagged(data, 200, request, "text/csv; charset=utf-8", headers)


async def _live_revision(request: Request, datasette: Datasette) -> Response:
    """JSON: the `rev` of a run; None once it is gone."""
    (key,) = required(arguments(request, ("key",)), "key")
    found = await readers(datasette).ask(lambda index: index.matching([key]))
    return document({"rev": found[0]["rev"] if found else None}, 200, request)


async def _file(request: Request, datasette: Datasette) -> Response:
    """One file of a run or trial as plain text, whatever it is."""
    data = await readers(datasette).ask(lambda index: files.content(*asked_file(index, request, datasette)[1]))
    return tagged(data, 200, request, "text/plain; charset=utf-8", HEADERS)


ROUTES: list[tuple[str, View]] = [
    (r"^/$", _view(_home)),
    (r"^/runs$", _page("runs", _runs)),
    (r"^/trials$", _page("trials", _trials)),
    (r"^/runs\.csv$", _view(_csv)),
    (r"^/runs/live$", _view(_live_rows, _wrong_document)),
    (r"^/run$", _page("run", run_page)),
    (r"^/run/live$", _view(_live_revision, _wrong_document)),
    (r"^/trial$", _page("trial", trial_page)),
    (r"^/view$", _page("file", file_page)),
    (r"^/file$", _view(_file)),
    (r"^/drift$", _page("drift", drift_page)),
    (r"^/failures$", _page("failures", failures_page)),
    (r"^/leaderboard$", _page("leaderboard", leaderboard_page)),
    (r"^/compare$", _page("compare", _compare)),
    (r"^/history$", _page("history", _history)),
    (r"^/dashboards$", _page("dashboards", _dashboards)),
]
