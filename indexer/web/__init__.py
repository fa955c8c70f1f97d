"""The Datasette plugin: runs pages, dashboards and `/api` on the reading code of the command line.

Any Datasette that opens an index has them (`datasette results/index.db`); `indexer serve` starts one. Datasette
loads this module before it is complete itself, so everything else is imported when a hook is called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from datasette import hookimpl

if TYPE_CHECKING:
    import sqlite3

    from datasette.app import Datasette

Row = dict[str, Any]


@hookimpl  # type: ignore[untyped-decorator]
def register_routes(datasette: "Datasette") -> list[tuple[str, Callable[..., Any]]]:
    from indexer.web.api import ROUTES
    from indexer.web.pages import ROUTES as PAGES
    from indexer.web.reading import has_index

    return [*ROUTES, *PAGES] if has_index(datasette) else []


@hookimpl  # type: ignore[untyped-decorator]
def get_metadata(datasette: "Datasette") -> Row:
    """Titles, descriptions and units for the database that is an index."""
    from indexer.web.metadata import TABLES
    from indexer.web.reading import index_database

    name = index_database(datasette)
    about = {"tables": TABLES, "description": "Agent-evaluation runs. The index can be rebuilt at any time."}
    return {"databases": {name: about}} if name else {}


@hookimpl  # type: ignore[untyped-decorator]
def menu_links(datasette: "Datasette") -> list[Row]:
    from indexer.web.reading import index_database

    links = (
        {"Home": "/", "Runs": "/runs", "Trials": "/trials", "Dashboards": "/dashboards"}
        if index_database(datasette)
        else {}
    )
    return [{"href": datasette.urls.path(path), "label": label} for label, path in links.items()]


@hookimpl  # type: ignore[untyped-decorator]
def skip_csrf(scope: Row) -> bool:
    """`/api` only reads, and rejects other methods itself."""
    return str(scope.get("path", "")).startswith("/api")


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: "sqlite3.Connection", database: str, datasette: "Datasette") -> None:
    from indexer.queries.limits import limit
    from indexer.web.reading import index_database

    if database == index_database(datasette):
        limit(conn)


@hookimpl  # type: ignore[untyped-decorator]
def asgi_wrapper(datasette: "Datasette") -> Callable[[Any], Any]:
    from indexer.web.limits import own_queries_only
    from indexer.web.reading import reopening

    reopened = reopening(datasette)
    return lambda app: own_queries_only(reopened(app))
