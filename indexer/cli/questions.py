"""A command for each declared question: it parses, asks and prints."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from indexer.cli import answers, console
from indexer.cli.app import Config, Db, Json, app, declared, opened, told_unknown
from indexer.errors import QueryError, UnknownTestError
from indexer.project import find_project
from indexer.queries.compare import Name, group_of
from indexer.queries.filters import Filters
from indexer.queries.index import Index
from indexer.queries.pages import LARGEST_PAGE
from indexer.queries.question import Question
from indexer.queries.questions import QUESTIONS

FAILED_IF = 3
"""The exit code if what `--fail-if` names is true."""


def add(question: Question) -> None:
    """Add a question's command to the program."""

    def command(*, filters: Filters, config: Config = None, db: Db = None, json: Json = False, **given: Any) -> None:
        with opened(find_project(config, db)) as index, told_unknown(index, filters):
            found, more = _asked(index, question, given, filters)
            _show(question, found, index.stale_after, json=json)
        if more:
            largest = question.rows and given.get("limit") == LARGEST_PAGE
            how = "may be more: use filters" if largest else "are more: raise --limit"
            print(f"there {how} to see them", file=sys.stderr)

    command.__doc__ = question.help
    _register(question, command)


def _compare(
    *,
    filters: Filters,
    runs: Annotated[list[str] | None, typer.Argument(metavar="A B", help="Two runs, by any RUN name.")] = None,
    a: Annotated[
        list[str] | None, typer.Option(metavar="FILTER=VALUE", help="Side A: trials that match all these filters.")
    ] = None,
    b: Annotated[list[str] | None, typer.Option(metavar="FILTER=VALUE", help="Side B, likewise.")] = None,
    fail_if: Annotated[
        str | None, typer.Option("--fail-if", help="worse or errors: exit 3 if B is worse, or has more errors.")
    ] = None,
    config: Config = None,
    db: Db = None,
    json: Json = False,
) -> None:
    if fail_if not in (None, "worse", "errors"):
        raise QueryError(f"fail-if: {fail_if!r} is neither worse nor errors")
    groups = [group_of(texts) for texts in (a, b) if texts]
    sides: list[Name] = [*(runs or []), *groups]
    if len(sides) != 2 or (runs and len(runs) == 1 and a):
        raise QueryError("name two sides: A B, or --a FILTER=VALUE and --b FILTER=VALUE")
    with opened(find_project(config, db)) as index, told_unknown(index, filters, *groups):
        found = index.compare(*sides, **filters)
        _show(QUESTIONS["compare"], found, index.stale_after, json=json)
    _exit_if(fail_if, found)


def _asked(index: Index, question: Question, given: dict[str, Any], filters: Filters) -> tuple[Any, bool]:
    """The answer, and whether the limit cut it off, or may have if it is the largest."""
    limit = given.get("limit")
    if not question.rows or limit is None or not 1 <= limit < LARGEST_PAGE:
        found = index.ask(question.name, **given, **filters)
        more = found.get("more") if isinstance(found, dict) else len(found) == limit == LARGEST_PAGE
        return found, bool(more)
    found = index.ask(question.name, **given | {"limit": limit + 1}, **filters)
    return found[:limit], len(found) > limit


def _exit_if(fail_if: str | None, found: dict[str, Any]) -> None:
    """Exit as `--fail-if` asks. Raises UnknownTestError where nothing could be compared."""
    if fail_if is None:
        return
    nothing = "no shared" if fail_if == "worse" else "no shared tests"  # errors can be compared without verdicts
    if found["verdict"].startswith(nothing):
        raise UnknownTestError(f"fail-if {fail_if}: {found['verdict']}, so nothing was compared")
    verdicts = {"worse": (found["verdict"], found["score"]["verdict"]), "errors": (found["errors"]["verdict"],)}
    if {"worse", "more"}.intersection(verdicts[fail_if]):
        raise typer.Exit(FAILED_IF)


def _show(question: Question, found: Any, stale_after: int, *, json: bool) -> None:
    if not json:
        answers.PRINTED.get(question.name, answers.rows)(found, stale_after)
    elif question.rows:
        for row in found:
            console.document(row)
    else:
        console.document(found)


def _register(question: Question, command: Callable[..., None]) -> None:
    parameters = {name: each for name, each in question.parameters.items() if each.kind != "side"}
    app.command(question.name, epilog=f"Example: {question.example}")(
        declared(question.filters, parameters, spelled={"every": "--all"})(command)
    )


_compare.__doc__ = QUESTIONS["compare"].help
_register(QUESTIONS["compare"], _compare)
for _question in QUESTIONS.values():
    if _question.name != "compare":  # which takes its sides in two ways
        add(_question)
