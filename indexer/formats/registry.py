"""Loads the formats of this program and of other packages from the entry point group `indexer.formats`.

An entry point's name is the prefix of its runs' keys. Built-in formats are asked first, others by name. A format that
cannot be loaded, or whose name is taken, is left out and reported in one line; a later exception costs only the run
being read. So no third-party package can end a pass.
"""

import dataclasses
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from indexer.earlier import Earlier
from indexer.masking import error_line
from indexer.protocols import PROTOCOL, Conventions, Folder, Format, Options, Unreadable, never_divided, undivided
from indexer.records import Run, RunState, TrialStatus, utc

_GROUP, _OWN = "indexer.formats", "eval-indexer"
_KEY = re.compile(r"[a-z][a-z0-9-]{0,30}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_NEEDED = frozenset(
    {"key", "run_id", "format", "layout", "experiment", "timestamp", "size_bytes", "rank", "edition", "trial", "name"}
)
_TIMES = frozenset({"timestamp", "started_at", "finished_at", "updated_at"})
_WANTED = (
    "KEY", "VERSION", "NAME", "CONVENTIONS", "ANCHORS", "recognises", "is_file", "opened", "inputs", "inner_runs",
    "overlay", "run_of_overlay", "run_folder", "key_from_names", "is_unique", "read",
)  # fmt: skip


def load() -> tuple[tuple[Format, ...], list[tuple[str, str]]]:
    """The formats in the order in which they are asked, and each unusable entry point: its name, and a line why."""
    formats: list[Format] = []
    wrong: list[tuple[str, str]] = []
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: (not _is_own(entry), entry.name, entry.value)):
        try:
            formats.append(_loaded(entry, {form.KEY for form in formats}))
        except (Exception, SystemExit) as error:
            why = str(error) if isinstance(error, _Unusable) else f"{type(error).__name__}: {_said(error)}"
            wrong.append((entry.name, f"format {entry.name} ({entry.value}) is not used: {why}"))
    if not any(not isinstance(form, Guarded) for form in formats):
        wrong.append((_OWN, f"the formats of this program are not registered: install it, pip install {_OWN}"))
    return tuple(formats), wrong


class _Unusable(Exception):
    """What is wrong with a format."""


def _is_own(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == _OWN


def _loaded(entry: EntryPoint, keys: set[str]) -> Format:
    found = entry.load()
    if lacking := [name for name in _WANTED if not hasattr(found, name)]:
        raise _Unusable(f"it lacks {', '.join(lacking)}; docs/formats.md says what a format has")
    if wrong := next(_wrong_types(found), None):
        raise _Unusable(wrong)
    if getattr(found, "PROTOCOL", PROTOCOL) != PROTOCOL:
        raise _Unusable(f"it is for protocol {found.PROTOCOL}, and this program speaks {PROTOCOL}")
    if entry.name != found.KEY or not _KEY.fullmatch(entry.name):
        raise _Unusable(f"its KEY is {found.KEY!r}, which must be the name of its entry point, in lower case")
    if entry.name in keys:
        raise _Unusable("another format has this name")
    return cast("Format", found) if _is_own(entry) else Guarded(found)


def _wrong_types(form: Any) -> Iterator[str]:
    """What is wrong with a format's constants."""
    for name, kind in (("KEY", str), ("NAME", str), ("VERSION", int), ("CONVENTIONS", Conventions)):
        if not isinstance(getattr(form, name), kind):
            yield f"its {name} is not of type {kind.__name__}"
    if isinstance(form.VERSION, int) and not 0 <= form.VERSION < 2**31:
        yield "its VERSION is not between 0 and 2**31 - 1"
    several = {"ANCHORS": form.ANCHORS}
    if isinstance(form.CONVENTIONS, Conventions):
        fields = [field.name for field in dataclasses.fields(Conventions) if field.name != "trailers"]
        several |= {f"CONVENTIONS.{name}": getattr(form.CONVENTIONS, name) for name in fields}
        if not isinstance(form.CONVENTIONS.trailers, Mapping):
            yield "its CONVENTIONS.trailers is not a mapping"
    for name, values in several.items():
        if isinstance(values, str) or not all(isinstance(value, str) and value for value in values):
            yield f"its {name} is not a collection of non-empty strings"


class Guarded:
    """A format of another package: an exception costs only the run being read."""

    def __init__(self, form: Format):
        self._form = form
        self.KEY, self.VERSION, self.NAME = form.KEY, form.VERSION, form.NAME
        self.CONVENTIONS: Conventions = form.CONVENTIONS
        self.ANCHORS = frozenset(form.ANCHORS)

    def recognises(self, folder: Folder) -> bool:
        return self._asked("recognises", folder) is True

    def is_file(self, name: str) -> bool:
        return self._asked("is_file", name) is True

    def opened(self, folder: Folder, name: str) -> Folder:
        return cast("Folder", self._required("opened", folder, name))

    def inputs(self, folder: Folder) -> list[str]:
        return self._names("inputs", folder)

    def inner_runs(self, folder: Folder) -> list[str]:
        there = folder.folders()
        return [name for name in self._names("inner_runs", folder) if name in there]

    inputs_of = staticmethod(undivided)
    read_trials = staticmethod(never_divided)

    def overlay(self, path: str) -> str | None:
        return self._text("overlay", path)

    def run_of_overlay(self, path: str) -> str | None:
        return self._text("run_of_overlay", path)

    def run_folder(self, anchor: str) -> str | None:
        return self._text("run_folder", anchor)

    def key_from_names(self, folder: Folder) -> str | None:
        return self._text("key_from_names", folder)

    def is_unique(self, name: str) -> bool:
        return self._asked("is_unique", name) is True

    def read(self, folder: Folder, options: Options, earlier: Earlier) -> Run | None:
        run = self._required("read", folder, options, earlier)
        if run is not None and (wrong := self._wrong(run)) is not None:
            raise Unreadable("", "format", f"format {self.KEY}: {wrong}")
        return cast("Run | None", run)

    def _wrong(self, run: Any) -> str | None:
        """Why no index can hold a run; None if it can."""
        try:
            return next(_faults(run, self.KEY), None)
        except Exception as error:  # not the structure of a Run
            return f"read returned a malformed Run: {type(error).__name__}"

    def _required(self, name: str, *arguments: Any) -> Any:
        """The format's answer. Any exception becomes Unreadable."""
        try:
            return getattr(self._form, name)(*arguments)
        except Unreadable as error:
            others = error.others if isinstance(error.others, dict | MappingProxyType) else {None: None}
            told = (error.path, error.kind, error.message, *others.keys(), *others.values())
            if all(isinstance(each, str) and _is_text(each) for each in told):
                raise
            raise Unreadable("", "format", f"format {self.KEY}: a malformed Unreadable in {name}") from None
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__} in {name}: {_said(error)}"
            raise Unreadable("", "format", f"format {self.KEY}: {said}") from None

    def _names(self, name: str, folder: Folder) -> list[str]:
        try:
            found = list(self._required(name, folder))
        except Unreadable:
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__} in {name}: {_said(error)}"
            raise Unreadable("", "format", f"format {self.KEY}: {said}") from None
        if not all(isinstance(each, str) and _is_text(each) for each in found):
            raise Unreadable("", "format", f"format {self.KEY}: {name} returned something that is not a name")
        return found

    def _asked(self, name: str, *arguments: Any) -> Any:
        """The format's answer about a name; None if it raises: then it is not one of its runs."""
        try:
            return getattr(self._form, name)(*arguments)
        except (Exception, SystemExit):
            return None

    def _text(self, name: str, *arguments: Any) -> str | None:
        found = self._asked(name, *arguments)
        return found if isinstance(found, str) and _is_text(found) else None


def _said(error: BaseException) -> str:
    """What an exception says, without secrets."""
    try:
        return error_line(str(error)) or ""
    except Exception:
        return "(no message)"


def _is_text(text: str) -> bool:
    """Whether a database accepts a text."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def _faults(run: Any, key: str) -> Iterator[str]:
    """Why no index can hold a run."""
    if not isinstance(run, Run):
        yield f"read returned a {type(run).__name__}, not a Run"
        return
    if not isinstance(run.key, str) or not run.key.startswith(f"{key}:"):
        yield f"the key {run.key!r} does not begin with {key}:"
    if run.state not in get_args(RunState):
        yield f"the state {run.state!r} is none of {', '.join(get_args(RunState))}"
    yield from _wrong_values(run, "run")
    names = [trial.trial for trial in run.trials]
    texts = [*run.authored_tags, *run.derived_from, *(run.tags.tags if run.tags else ())]
    texts += [text for told in (run.broken, run.optional, run.doubts) for each in dict(told).items() for text in each]
    texts += [text for text in (run.configuration or ()) if text is not None]
    if not all(isinstance(text, str) and _is_text(text) for text in texts):
        yield "a tag, a file or another name is not valid text"
    if run.configuration is not None and len(run.configuration) != 4:
        yield "the configuration does not have four parts"
    if run.tags is not None and run.tags.updated_at is not None:
        yield from _wrong_time("tags", "updated_at", run.tags.updated_at)
    for reported in dict(run.reported).values():
        yield from _wrong_values(reported, "what is reported")
    if len(set(names)) < len(names):
        yield "two trials have the same name"
    for trial in run.trials:
        if trial.status not in get_args(TrialStatus):
            yield f"the status {trial.status!r} is none of {', '.join(get_args(TrialStatus))}"
        yield from _wrong_values(trial, f"trial {trial.trial}")
        for score in trial.scores:
            yield from _wrong_values(score, f"a score of {trial.trial}")


@cache
def _plain_types(record: Any) -> dict[str, tuple[type, ...]]:
    """The types of those fields of a record that are texts and numbers; an integer is a number, too."""
    wider: dict[type, tuple[type, ...]] = {float: (float, int), int: (int,), str: (str,), bool: (bool,)}
    found = {}
    for name, hint in get_type_hints(record).items():
        of_union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = [kind for kind in of_union if kind is not type(None)]
        if len(kinds) == 1 and kinds[0] in wider:
            found[name] = wider[kinds[0]]
    return found


def _wrong_values(record: Any, called: str) -> Iterator[str]:
    hints = _plain_types(cast("Hashable", type(record)))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value is not None and field.name in hints and not isinstance(value, hints[field.name]):
            yield f"{called}: {field.name} is a {type(value).__name__}"
        elif isinstance(value, str):
            if not _is_text(value):
                yield f"{called}: {field.name} is not valid Unicode"
            if field.name in _TIMES:
                yield from _wrong_time(called, field.name, value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield f"{called}: {field.name} is beyond 64 bits"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{called}: {field.name} is not a finite number"
        elif value is None and field.name in _NEEDED:
            yield f"{called}: {field.name} is missing"


def _wrong_time(called: str, name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not _TIME.fullmatch(value) or utc(value) != value:
        yield f"{called}: {name} is not a time like 2026-01-05T09:00:00.000Z: {value!r}"
