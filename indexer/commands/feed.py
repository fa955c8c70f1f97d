"""Commands for programs that follow the index."""

from typing import Annotated

import typer

from indexer import render
from indexer.commands.app import Config, Db, app
from indexer.index.reader import open_index
from indexer.project import find_project


@app.command(epilog="Example: indexer changes --since TOKEN")
def changes(
    config: Config = None,
    db: Db = None,
    since: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="A `next` of before; else from the beginning.")
    ] = None,
) -> None:
    """Print what changed after a token as JSON lines, deletions included; the last line has the next token."""
    with open_index(find_project(config, db).db) as index:
        while True:
            page = index.changes(since)
            for change in page.changes:
                render.document(change)
            if page.next == since or not page.changes:
                break
            since = page.next
    render.document({"next": page.next})
