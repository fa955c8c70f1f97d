"""The program that commands are added to, and the options that come from declarations."""

import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, cast
from zoneinfo import ZoneInfo

import typer

from indexer.errors import IndexerError
from indexer.project import find_project
from indexer.queries.filters import DECLARED, Filters
from indexer.queries.index import Index
from indexer.queries.opening import open_index
from indexer.queries.question import Parameter
from indexer.queries.values import COUNTED
from indexer.render import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indexer.project import Project

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A disposable SQLite index of agent-evaluation runs in git and on disk that answers at once.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings; else indexer.toml here or in a parent.")
]
Db = Annotated[
    str | None, typer.Option("--db", metavar="FILE", help="The index, or postgresql://…; else results/index.db.")
]
DbFile = Annotated[str | None, typer.Option("--db", metavar="FILE", help="The index; else results/index.db.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document; for lists one object a line.")]


def complete_run(incomplete: str) -> list[str]:
    """Complete an id of a run in a shell: the newest runs with this prefix."""
    return _completed("run", incomplete)


def _completing(name: str) -> Callable[[str], list[str]]:
    """Completes the values of a filter."""

    def complete(incomplete: str) -> list[str]:
        return _completed(name, incomplete)

    return complete


def _completed(name: str, incomplete: str) -> list[str]:
    """Values with this prefix; none without an index, since a shell cannot show an error."""
    try:
        with open_index(find_project().index) as index:
            return index.completions(name, incomplete)
    except IndexerError:
        return []


Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run id, key, prefix, path, latest, latest:EXPERIMENT, live, tag:NAME; ~N.",
        autocompletion=complete_run,
    ),
]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"indexer {version('eval-indexer')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of the program itself."""


_UNKNOWN = 10
"""The most unknown filter values that are named."""
_TYPES = {"text": str, "commit": str, "time": str, "number": float}


@contextmanager
def opened(project: "Project") -> "Iterator[Index]":
    """The project's index, with times in this machine's zone."""
    with open_index(project.index, zone=local_zone(), stale_after=project.stale_after) as index:
        yield index


def declared(
    filters: Collection[str],
    parameters: Mapping[str, Parameter] = MappingProxyType({}),
    spelled: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of declared filters, as `filters`, and of a question's parameters, by name.

    `spelled` are options named differently from their parameter.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        options = [_parameter(name, each, spelled.get(name)) for name, each in parameters.items()]
        options += [_filter(name) for name in filters]
        kept = [each for name, each in own.items() if name != "filters" and each.kind is not each.VAR_KEYWORD]
        ordered = sorted([*options, *kept], key=lambda each: each.default is not inspect.Parameter.empty)

        def run(**values: Any) -> None:
            wanted = {name: values.pop(name) for name in filters}
            given = {name: value for name, value in wanted.items() if value not in (None, [])}
            command(**values, filters=cast("Filters", given))

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in ordered}
        return run

    return decorate


def _option(
    name: str,
    kind: Any,
    help: str,
    default: Any,
    spelled: str | None = None,
    completing: Callable[[str], list[str]] | None = None,
) -> inspect.Parameter:
    option = typer.Option(spelled or f"--{name.replace('_', '-')}", help=help, autocompletion=completing)
    annotation = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _filter(name: str) -> inspect.Parameter:
    filter_ = DECLARED[name]
    if not filter_.several:
        return _option(name, _TYPES[filter_.kind] | None, filter_.help, None)
    how = "several: with all" if filter_.every else "several: any"
    help = f"{filter_.help.rstrip('.')}; {how}."
    return _option(name, list[str] | None, help, None, completing=_completing(name) if name in COUNTED else None)


def _parameter(name: str, parameter: Parameter, spelled: str | None) -> inspect.Parameter:
    if parameter.required:
        annotation = Annotated[str, typer.Argument(metavar=name.upper(), help=parameter.help)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    if parameter.kind == "flag":
        return _option(name, bool, parameter.help, False, spelled)
    kind = int if parameter.kind == "number" else str
    wanted = kind if parameter.default is not None else kind | None
    return _option(name, wanted, parameter.help, parameter.default, spelled)


@contextmanager
def told_unknown(index: Index, *filters: Filters) -> "Iterator[None]":
    """Print at the end, on standard error, which filter values match nothing, with the nearest names."""
    try:
        yield
    finally:
        unknown = [found for each in filters for found in index.nearest(each)]
        for name, value, nearest in unknown[:_UNKNOWN]:
            near = f"; nearest: {', '.join(nearest)}" if nearest else ""
            print(f"indexer: no {name} is called {visible(value)}{visible(near)}", file=sys.stderr)
        if len(unknown) > _UNKNOWN:
            print(f"indexer: {len(unknown) - _UNKNOWN:,} more values are unknown", file=sys.stderr)


def local_zone() -> tzinfo:
    """This machine's time zone, with daylight saving time if known."""
    asked = os.environ.get("TZ", "").removeprefix(":")
    named = asked or os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    try:
        if named in ("UTC", "Etc/UTC"):
            return UTC
        if named:
            return ZoneInfo(named)
        with open("/etc/localtime", "rb") as rules:
            return ZoneInfo.from_file(rules)
    except (ValueError, OSError, KeyError):  # TZ is a POSIX rule, or there is no zone
        return datetime.now().astimezone().tzinfo or UTC
