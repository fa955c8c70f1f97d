"""One file of a run or trial as people read it: text with line numbers, JSON indented, a transcript step by step.

Everything is shown as plain text, whatever the file holds. Of a large file, only the end is shown.
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
    """One step of a transcript: speaker, summary, and parts by name."""

    who: str
    what: str
    parts: list[tuple[str, str]]


def asked_file(index: Index, request: Request, datasette: Datasette, *further: str) -> tuple[Row, tuple[Any, ...]]:
    """What identifies a file, and the arguments to read it. Raises UnknownRunError."""
    values = arguments(request, ("key", "path", "trial", *further))
    key, path = required(values, "key", "path")
    project = PROJECTS.get(datasette)
    if project is None:
        raise UnknownRunError("files of runs are only shown by `indexer serve` on loopback")
    run, trial = (run_by_key(index, key), None) if "trial" not in values else trial_by_name(index, key, values["trial"])
    named = {"key": key, "path": path} | ({"trial": values["trial"]} if trial else {})
    return {"run": run, "trial": trial, "path": path, "named": named}, (project, run, path, trial)


def file_page(index: Index, request: Request, datasette: Datasette) -> Row:
    """What the page of a file shows: all of it, or the lines and steps that match the search."""
    named, place = asked_file(index, request, datasette, "search")
    search = request.args.get("search") or ""
    return {**named, "search": search} | readable(*files.ending(*place), LINES, search)


def readable(data: bytes, is_whole: bool, most: int, search: str = "") -> Row:
    """A file as its first `steps` or its last `lines`, each with its number; how many were `left_out`.

    With `search`, only those that contain it, ignoring case.
    """
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16" if utf_16 else "utf-8-sig", "replace")
    found, folded = _document(text), search.casefold()
    told = {"size": len(data), "is_whole": is_whole, "steps": None, "lines": None}
    if steps := list(enumerate(_steps(found), 1)):
        having = [(number, step) for number, step in steps if _has(step, folded)] if folded else steps
        shown = _within_budget([(number, _step(step, folded)) for number, step in having[:most]])
        return told | {"steps": shown, "left_out": len(having) - len(shown)}
    if isinstance(found, dict | list) and "\n" not in text.strip():
        indented = _indented(found)
        text = indented if len(indented) <= _TOGETHER else text
    text = text.removesuffix("\n")
    count = text.count("\n") + 1 if text else 0
    if folded:
        lines = [(at, line) for at, line in enumerate(text.split("\n"), 1) if folded in line.casefold()]
    else:
        last = text.rsplit("\n", most)[-most:] if text else []
        lines = list(enumerate(last, count - len(last) + 1))
    kept = [(number, cut(line, folded)) for number, line in lines[-most:]]
    return told | {"lines": kept, "left_out": (len(lines) if folded else count) - len(kept)}


def cut(text: str, folded: str = "") -> str:
    """Truncate a text, to the part around the first match if searched, and say how much was left out."""
    if len(text) <= _LONGEST:
        return text
    first = max(0, text.casefold().find(folded) - _LONGEST // 2) if folded else 0
    more = len(text) - _LONGEST - first
    part = f"{f'{first:,} characters before … ' if first else ''}{text[first : first + _LONGEST]}"
    return f"{part}… and {more:,} more characters" if more > 0 else part


def _has(value: Any, folded: str) -> bool:
    """Whether a text or a name in a decoded value contains the search."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif folded in str(each).casefold():
            return True
    return False


def _within_budget(steps: list[tuple[int, Step]]) -> list[tuple[int, Step]]:
    """The first steps that fit on a page; at least a part of the first one."""
    left = _TOGETHER
    for at, (number, step) in enumerate(steps):
        for part, (name, text) in enumerate(step.parts):
            left -= len(name) + len(text) + 50
            if left < 0:
                return steps[:at] or [(number, step._replace(parts=step.parts[:part]))]
    return steps


def _document(text: str) -> Any:
    """A text parsed as JSON, or as JSON lines; None if it is neither."""
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
    with suppress(ValueError, RecursionError):  # the last one may be half written
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


def _step(step: Row, folded: str) -> Step:
    parts = [(name[:200], _text(value, folded)) for name, value in step.items() if value not in (None, "")]
    return Step(_speaker(step), _title(step), parts)


def _speaker(step: Row) -> str:
    return next((step[name] for name in _SPEAKERS if isinstance(step.get(name), str)), "")[:100]


def _title(step: Row) -> str:
    """A step in one line: the tools that it calls, else the start of its text."""
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


def _text(value: Any, folded: str) -> str:
    return cut(value if isinstance(value, str) else _indented(value), folded)


def _indented(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
