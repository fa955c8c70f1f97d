"""Commands for programs and browsers that follow the index."""

import sys
from typing import Annotated

import typer

from indexer.cli import console
from indexer.cli.app import Config, Db, app
from indexer.project import find_project
from indexer.queries.opening import open_index


@app.command(epilog="Example: indexer changes --since TOKEN")
def changes(
    config: Config = None,
    db: Db = None,
    since: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The `next` of an earlier call; else from the beginning.")
    ] = None,
) -> None:
    """Print what changed after a token as JSON lines, deletions included; the last line has the next token."""
    with open_index(find_project(config, db).index) as index:
        while True:
            page = index.changes(since)
            for change in page.changes:
                console.document(change)
            if page.next == since or not page.changes:
                break
            since = page.next
    console.document({"next": page.next})


@app.command(epilog="Example: indexer serve --open")
def serve(
    config: Config = None,
    db: Db = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback, other machines reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    browse: Annotated[bool, typer.Option("--open", help="Open the home page in a browser.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A site whose pages may read /api: https://example.org; repeatable."),
    ] = None,
) -> None:
    """Serve pages about runs, trials and files, /api, and Datasette for everything else."""
    from indexer.web.server import is_loopback, serve

    def ready(address: str) -> None:
        if not is_loopback(host):
            print(f"indexer: everyone who can reach {host} can read this index; there is no password", file=sys.stderr)
        print(address, flush=True)
        if browse:
            typer.launch(address)

    serve(find_project(config, db), host, port, ready, allow_origin or [])
