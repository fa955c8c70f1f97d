"""Commands that write the index, or check it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer import interrupts, render
from indexer.cli import console
from indexer.cli.app import Config, Db, DbFile, Json, app
from indexer.errors import IndexerError, SettingsError
from indexer.project import CONFIG, Project, find_project, is_shared
from indexer.queries.opening import open_index

if TYPE_CHECKING:
    from indexer.passes.walk import Report
    from indexer.settings import Settings
    from indexer.sources import Source


@app.command(epilog="Example: indexer init")
def init(config: Config = None, db: DbFile = None) -> None:
    """Look at this folder and write an indexer.toml with the sources found; never overwrite one."""
    from indexer.settings import config_text, find_sources

    path = (config or Path(CONFIG)).absolute()
    if path.exists():
        raise IndexerError(f"{path} already exists and was left as it is")
    project = Project(path.parent, None, path.parent / "results/index.db", 0)
    sources = find_sources(project.root)
    index = os.path.relpath((file_of("init", db) or project.db).absolute(), project.root)
    for source in sources:
        print(f"{source.name}: {source.kind} {source.place}")
    if not sources:
        raise IndexerError(f"{project.root}: no runs found here, so there is nothing to write; see docs/settings.md")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(config_text(project.root, sources, index))
    except OSError as error:
        raise IndexerError(f"{path}: {(error.strerror or '').lower()}") from None
    print(f"wrote {path}\n")
    if not index.startswith("../"):
        print("The index is a cache; keep it out of git with these lines in .gitignore:")
        print("\n".join(f"/{index}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")), end="\n\n")
    print("next: indexer sync")


@app.command(epilog="Example: indexer sync && indexer runs")
def sync(config: Config = None, db: DbFile = None, json: Json = False) -> None:
    """Bring the index up to date with one pass over all sources."""
    _pass("sync", config, db, json)


@app.command(epilog="Example: indexer watch --log-format json")
def watch(
    config: Config = None,
    db: DbFile = None,
    log_format: Annotated[str, typer.Option(help="text or json: a line for each change.")] = "text",
) -> None:
    """Bring the index up to date and stay: follow folders and refs until SIGINT or SIGTERM."""
    from indexer.settings import load
    from indexer.watch.publishing import publisher
    from indexer.watch.service import Watcher

    if log_format not in ("text", "json"):
        raise SettingsError(f"log-format: {log_format!r} is neither text nor json")
    project = find_project(config, file_of("watch", db))
    settings, sources = load(project)
    _tell_unusable()
    with console.log(sys.stderr, log_format, project.stale_after) as log:
        publishing = publisher(project.db, settings, sources, log.line)
        Watcher(project.db, sources, settings.options(), log.line, log.live, publishing).run()


@app.command(epilog="Example: indexer rebuild --db /tmp/fresh.db")
def rebuild(config: Config = None, db: DbFile = None, json: Json = False) -> None:
    """Build a new index from its sources; readers see the old one until the new one is complete."""
    _pass("rebuild", config, db, json)


@app.command(epilog="Example: indexer check")
def check(config: Config = None, db: Db = None, json: Json = False) -> None:
    """Compare the index with a fresh read of its sources; print the differences, and exit 1 if there are any.

    With --db postgresql://… this machine's part of a shared index is compared with its index.
    """
    from indexer.passes.check import check as differences
    from indexer.settings import load

    project = find_project(config, db)
    settings, sources = load(project)
    if project.shared is not None:
        _check_part(project, settings, sources, project.shared, json=json)
        return
    with interrupts.handled(), console.progress(sys.stderr) as progress:
        found = differences(project.db, sources, settings.options(), progress)
    for difference in found:
        if json:
            console.document({"table": difference.table, "row": difference.row, "how": difference.how})
        else:
            print(render.visible(f"{difference.table}: {difference.row}: {difference.how}"))
    if found:
        raise typer.Exit(1)
    if not json:
        print("the index equals its sources")


def _check_part(project: Project, settings: "Settings", sources: "list[Source]", url: str, *, json: bool) -> None:
    from indexer.shared.connection import connected
    from indexer.shared.sending import sender

    with connected(url) as connection:
        found = sender(project.db, settings, sources).differences(connection)
    for key in found:
        console.document({"table": "runs", "row": key, "how": "differs"}) if json else print(
            render.visible(f"runs: {key}: differs")
        )
    if found:
        raise typer.Exit(1)
    if not json:
        print(f"the part of {settings.publish.machine} equals its index")


def file_of(command: str, db: str | None) -> Path | None:
    """The file that a command is to write. Raises SettingsError for the URL of a shared index."""
    if db is not None and is_shared(db):
        raise SettingsError(f"--db: {command} writes a file; a shared index is written by `indexer publish`")
    return None if db is None else Path(db)


def _tell_unusable() -> None:
    """Say which formats of other packages cannot be used."""
    from indexer.formats import UNUSABLE

    for _, line in UNUSABLE:
        print(f"indexer: {render.visible(line)}", file=sys.stderr)


def _pass(command: str, config: Path | None, db: str | None, json: bool) -> None:
    from indexer.passes import sync as passes
    from indexer.settings import load

    project = find_project(config, file_of(command, db))
    settings, sources = load(project)
    _tell_unusable()
    run = passes.sync if command == "sync" else passes.rebuild
    with interrupts.handled(), console.progress(sys.stderr) as progress:
        report = run(project.db, sources, settings.options(), progress)
    if report.built and command == "sync":
        print(f"built {project.db} from scratch: {report.built}", file=sys.stderr)
    if report.waiting:
        print(f"indexer: {render.visible(report.waiting)}", file=sys.stderr)
    _print_report(report, json=json)
    with open_index(project.db) as index:
        for row in index.sources():
            if row["note"]:
                print(f"indexer: source {render.visible(': '.join((row['name'], row['note'])))}", file=sys.stderr)
        for problem in index.problems():
            where = ": ".join(filter(None, (problem["source"], problem["ref"], problem["path"], problem["message"])))
            print(f"indexer: not read: {render.visible(where)}", file=sys.stderr)
    if report.failed:
        raise typer.Exit(1)


def _print_report(report: "Report", *, json: bool) -> None:
    """Print what a pass changed: a line per source, or one line if nothing."""
    for source in report.sources:
        if json:
            console.document({"source": source.name, **source.counts, "error": source.error})
        if source.error:
            said = render.visible(f"source {source.name}: {source.error}")
            print(f"indexer: {said}; its rows stay", file=sys.stderr)
    readable = [source for source in report.sources if not source.error and source.kind != "repo"]
    if json or not readable:
        return
    if report.built is None and not any(any(source.counts.values()) for source in readable):
        print(f"nothing changed in {', '.join(source.name for source in readable)}")
        return
    for source in readable:
        print(f"{source.name}: " + ", ".join(f"{number} {what}" for what, number in source.counts.items()))
