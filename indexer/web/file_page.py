"""One file of a run or trial as people read it: text with line numbers, JSON indented, a transcript step by step.

What is shown is text and nothing else, whatever the file holds; of a large one the end.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import UnknownRunError
from indexer.web.api import arguments, required, run_by_key, trial_by_name
from indexer.web.reading import PROJECTS

Row = dict[str, Any]
LINES = 2_000
"""Lines that are shown."""
_STEPS = 1_000
_LONGEST = 20_000  # characters of a line or of a part of a step
_SPEAKERS = ("source", "role", "type")


class Step(NamedTuple):
    """One step of a transcript: who, what in short, and its parts by name."""

    who: str
    what: str
    parts: list[tuple[str, str]]


def content(index: Index, request: Request, datasette: Datasette) -> tuple[Row, bytes]:
    """What names a file, and its bytes. Raises UnknownRunError."""
    values = arguments(request, ("key", "path", "trial"))
    key, path = required(values, "key", "path")
    project = PROJECTS.get(datasette)
    if project is None:
        raise UnknownRunError("files of runs are only shown by `indexer serve` on loopback")
    run, trial = (run_by_key(index, key), None) if "trial" not in values else trial_by_name(index, key, values["trial"])
    named = {"key": key, "path": path} | ({"trial": values["trial"]} if trial else {})
    return {"run": run, "trial": trial, "path": path, "named": named}, files.content(project, run, path, trial)


def file_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What the page of a file shows."""
    named, data = content(index, request, datasette)
    text = data.decode("utf-8", "replace")
    found = _document(text)
    steps = list(_steps(found)) if found is not None else []
    if steps:
        return {**named, "size": len(data), "steps": steps[:_STEPS], "left_out": max(0, len(steps) - _STEPS)}
    if isinstance(found, dict | list) and "\n" not in text.strip():
        text = json.dumps(found, indent=2, ensure_ascii=False)
    lines = text.splitlines()
    shown = lines[-LINES:]
    first = len(lines) - len(shown) + 1
    numbered = [(first + at, line[:_LONGEST]) for at, line in enumerate(shown)]
    return {**named, "size": len(data), "lines": numbered, "left_out": first - 1}


def _document(text: str) -> Any:
    """The JSON that a text is, or the list of its lines where each is JSON; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None
    return lines if len(lines) > 1 and all(isinstance(line, dict) for line in lines) else None


def _steps(document: Any) -> Iterator[Step]:
    """The steps of a trajectory (ATIF) or of a transcript of messages; none of any other document."""
    found = document
    if isinstance(document, dict):
        found = next((document[name] for name in ("steps", "messages") if name in document), None)
    if not isinstance(found, list) or not all(isinstance(step, dict) for step in found):
        return
    for step in found:
        who = next((str(step[name]) for name in _SPEAKERS if isinstance(step.get(name), str)), "")
        if not who:
            return
        yield Step(who, _title(step), [(name, _text(value)) for name, value in step.items() if value not in (None, "")])


def _title(step: Row) -> str:
    """What a step does, in a line: the tools that it calls, else how its text begins."""
    calls = step.get("tool_calls")
    if isinstance(calls, list) and calls:
        names = (_named(call) for call in calls if isinstance(call, dict))
        return ", ".join(filter(None, names))[:200]
    text = next((step[name] for name in ("message", "content", "text") if isinstance(step.get(name), str)), "")
    return " ".join(text[:400].split())[:200]


def _named(call: Row) -> str:
    name = call.get("function_name") or call.get("name") or call.get("tool")
    inside = call.get("function")
    return str(name or (inside.get("name") if isinstance(inside, dict) else inside) or "")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
