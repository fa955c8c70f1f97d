"""The command that sends the index to a shared one."""

import sys
from typing import Annotated

import typer

from indexer import interrupts, render
from indexer.cli import console
from indexer.cli.app import Config, Json, app
from indexer.errors import QueryError, SettingsError
from indexer.project import find_project, is_shared, require_no_password


@app.command(epilog="Example: indexer publish postgresql://db.example.org/evals")
def publish(
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="postgresql://…; else publish.url of the settings.")
    ] = None,
    config: Config = None,
    forget: Annotated[
        str | None, typer.Option(metavar="MACHINE", help="Remove all that a machine has sent, and do nothing else.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the runs to be sent and removed.")] = False,
    json: Json = False,
) -> None:
    """Send the changes of the index to a shared one in PostgreSQL; `indexer watch` keeps sending."""
    from indexer.settings import load
    from indexer.shared.connection import connected
    from indexer.shared.sending import forget as forgotten
    from indexer.shared.sending import sender

    if forget is not None and dry_run:
        raise QueryError("--forget and --dry-run: choose one")
    if url is not None:
        require_no_password("URL", url)
    project = find_project(config)
    settings, sources = load(project)
    place = url or settings.publish.url
    if place is None:
        raise SettingsError("publish: name a shared index, postgresql://…, as the argument or as publish.url")
    if not is_shared(place):
        raise SettingsError("publish: the URL of a shared index begins with postgresql://")
    mine = sender(project.db, settings, sources)
    with connected(place) as connection, interrupts.handled():
        if forget is not None:
            told = {"machine": forget, "removed": forgotten(connection, forget)}
            said = f"{forget}: {told['removed']:,} removed"
        elif dry_run:
            to_send, to_remove = mine.pending(connection)
            told = {"machine": settings.publish.machine, "sent": to_send, "removed": to_remove}
            said = f"{settings.publish.machine}: {to_send:,} would be sent, {to_remove:,} removed"
        else:
            with console.counting(sys.stderr, "publish") as shown:
                report = mine.send(connection, shown)
            told = {"machine": settings.publish.machine, "sent": report.sent, "removed": report.removed}
            said = f"{settings.publish.machine}: {report.sent:,} sent, {report.removed:,} removed"
            for key, why in report.refused.items():
                print(f"indexer: not sent: {render.visible(f'{key}: {why}')}", file=sys.stderr)
    console.document(told) if json else print(render.visible(said))
