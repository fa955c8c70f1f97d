"""Drift, leaderboard and failures as pages: each answer links to its runs and trials."""

from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index
from indexer.errors import QueryError
from indexer.queries.filters import DECLARED
from indexer.queries.leaderboard import DIMENSIONS
from indexer.queries.questions import QUESTIONS
from indexer.web.api import asked

Row = dict[str, Any]
_SHOWN = ("experiment", "target", "model", "dataset", "test", "tag", "since", "until")
"""Filters in the forms; the others are only read from the address."""


def drift_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What fell, each with a link that compares both sides."""
    found = _answered("drift", index, request)
    if "groups" in found:
        found["groups"] = [{**row, "address": compare_address(row["compare"])} for row in found["groups"]]
    return found


def failures_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What fails most often, each leading to its trials."""
    return _answered("failures", index, request)


def leaderboard_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """One dimension as a table, two as a matrix; each cell leads to its runs."""
    found = _answered("leaderboard", index, request)
    rows = found.get("leaderboard", [])
    by, across = request.args.get("by"), request.args.get("across")
    if not by:
        by, across = "experiment", across or "target"
    for row in rows:
        row["address"] = _runs_address({name: row.get(name) for name in (by, across) if name}, request)
    matrix = None
    if across and rows:
        cells = {(row[by], row[across]): row for row in rows[:-1]}
        downs = sorted({down for down, _ in cells}, key=str)
        overs = sorted({over for _, over in cells}, key=str)
        matrix = {"downs": downs, "overs": overs, "cells": cells}
    found["values"] |= {"by": [by], "across": [across or ""]}
    return found | {"by": by, "across": across, "dimensions": DIMENSIONS, "matrix": matrix, "rows": rows}


def compare_address(sides: Row | None) -> str | None:
    """The address that compares both sides of a fall."""
    if sides is None:
        return None
    given = [(side, f"{name}={value}") for side in ("a", "b") for name, value in sides[side].items()]
    common = [(name, value) for name, value in sides.items() if name not in ("a", "b")]
    return f"/compare?{urlencode([*given, *common], doseq=True)}"


def _answered(name: str, index: Index, request: Request) -> Row:
    """The answer to a question, or the error to show above the form, which keeps its values."""
    question = QUESTIONS[name]
    form: Row = {
        "question": question,
        "filters": {each: DECLARED[each] for each in question.filters if each in _SHOWN},
        "values": {each: request.args.getlist(each) for each in request.args},
    }
    try:
        found = asked(index, request, question)
    except QueryError as error:
        return form | {"wrong": str(error), "status": 400}
    return form | ({name: found} if question.rows else found)


def _runs_address(group: Row, request: Request) -> str | None:
    """The address of a group's runs; None if no filter selects them."""
    if any(name not in DECLARED or value is None for name, value in group.items()):
        return None
    asked_for = {name: list(filter(None, request.args.getlist(name))) for name in request.args if name in DECLARED}
    return f"/runs?{urlencode({**asked_for, **group}, doseq=True)}"
