"""One file of a run or trial as people read it: text with line numbers, JSON indented, a transcript step by step.

What is shown is text and nothing else, whatever the file holds; of a large one the end.
"""

import json
from contextlib import suppress
from typing import Any, NamedTuple

from datasette.app import Datasette
from datasette.utils.asgi import Request

from indexer import Index, files
from indexer.errors import UnknownRunError
from indexer.web.api import arguments, required, run_by_key, trial_by_name
from indexer.web.reading import PROJECTS

Row = dict[str, Any]
LINES = 2_000
"""Lines or steps that are shown."""
_LONGEST = 20_000  # characters of a line or of a part of a step
_TOGETHER = 4_000_000  # characters of a page
_SPEAKERS = ("source", "role", "type")


class Step(NamedTuple):
    """One step of a transcript: who, what in short, and its parts by name."""

    who: str
    what: str
    parts: list[tuple[str, str]]

    def text(self) -> str:
        """All that is shown of it."""
        return "\n".join((self.who, self.what, *(text for _, text in self.parts)))


def content(index: Index, request: Request, datasette: Datasette, *, ending: bool = False) -> tuple[Row, bytes]:
    """What names a file, and its bytes; of a large one its end, if `ending`. Raises UnknownRunError."""
    values = arguments(request, ("key", "path", "trial", "search") if ending else ("key", "path", "trial"))
    key, path = required(values, "key", "path")
    project = PROJECTS.get(datasette)
    if project is None:
        raise UnknownRunError("files of runs are only shown by `indexer serve` on loopback")
    run, trial = (run_by_key(index, key), None) if "trial" not in values else trial_by_name(index, key, values["trial"])
    named = {"key": key, "path": path} | ({"trial": values["trial"]} if trial else {})
    return {"run": run, "trial": trial, "path": path, "named": named}, files.content(
        project, run, path, trial, ending=ending
    )


def file_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What the page of a file shows: all of it, or the lines and steps that have what is searched for."""
    named, data = content(index, request, datasette, ending=True)
    sought = request.args.get("search") or ""
    return {**named, "search": sought, "is_whole": len(data) < files.LARGEST} | readable(data, LINES, sought)


def readable(data: bytes, most: int, search: str = "") -> Row:
    """A file as `steps`, the first, or as `lines`, the last, each with its number; how many were `left_out`.

    With `search` only those in which it is found, in whatever case.
    """
    text = data.decode("utf-8-sig", "replace")
    found, folded = _document(text), search.casefold()
    if steps := list(enumerate(map(_step, _steps(found)), 1)):
        steps = [(number, step) for number, step in steps if folded in step.text().casefold()]
        shown = _within_budget(steps[:most])
        return {"size": len(data), "steps": shown, "lines": None, "left_out": len(steps) - len(shown)}
    if isinstance(found, dict | list) and "\n" not in text.strip():
        indented = _indented(found)
        text = indented if len(indented) <= _TOGETHER else text
    lines = list(enumerate(text.removesuffix("\n").split("\n") if text else [], 1))
    lines = [(number, line) for number, line in lines if folded in line.casefold()] if folded else lines
    last = [(number, cut(line)) for number, line in lines[-most:]]
    return {"size": len(data), "steps": None, "lines": last, "left_out": len(lines) - len(last)}


def cut(text: str) -> str:
    """A text of limited length; what was left out is said."""
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]}… and {more:,} more characters"


def _within_budget(steps: list[tuple[int, Step]]) -> list[tuple[int, Step]]:
    """The first steps, as many as a page takes."""
    left = _TOGETHER
    for at, (_, step) in enumerate(steps):
        left -= sum(len(name) + len(text) + 50 for name, text in step.parts)
        if left < 0:
            return steps[:at]
    return steps


def _document(text: str) -> Any:
    """The JSON that a text is, or the list of its lines where each is JSON; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    try:
        found = [json.loads(line) for line in lines[:-1]]
    except (ValueError, RecursionError):
        return None
    with suppress(ValueError, RecursionError):  # the last one may be in the middle of being written
        found.append(json.loads(lines[-1]))
    return found if found and all(isinstance(line, dict) for line in found) else None


def _steps(document: Any) -> list[Row]:
    """The steps of a trajectory (ATIF) or of a transcript of messages; none of any other document."""
    found = document
    if isinstance(document, dict):
        lists = (document.get(name) for name in ("steps", "messages"))
        found = next((each for each in lists if isinstance(each, list)), None)
    if not isinstance(found, list) or not found or not all(isinstance(step, dict) for step in found):
        return []
    return found if _speaker(found[0]) else []


def _step(step: Row) -> Step:
    parts = [(name[:200], _text(value)) for name, value in step.items() if value not in (None, "")]
    return Step(_speaker(step), _title(step), parts)


def _speaker(step: Row) -> str:
    return next((step[name] for name in _SPEAKERS if isinstance(step.get(name), str)), "")[:100]


def _title(step: Row) -> str:
    """What a step does, in a line: the tools that it calls, else how its text begins."""
    inside = step.get("message")
    step = inside if isinstance(inside, dict) else step
    calls = step.get("tool_calls")
    names = [_named(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if any(names):
        return ", ".join(filter(None, names))[:200]
    for name in ("message", "content", "text"):
        if said := _said(step.get(name)):
            return " ".join(said[:400].split())[:200]
    return ""


def _said(content: Any) -> str:
    """The text of a content, or of its parts, tools by their names."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = (part.get("text") or part.get("name") for part in parts)
    return " ".join(text for text in texts if isinstance(text, str))


def _named(call: Row) -> str:
    inside = call.get("function")
    named = [call.get("function_name"), call.get("name"), call.get("tool"), inside]
    named += [inside.get("name")] if isinstance(inside, dict) else []
    return next((name for name in named if isinstance(name, str)), "")


def _text(value: Any) -> str:
    return cut(value if isinstance(value, str) else _indented(value))


def _indented(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
