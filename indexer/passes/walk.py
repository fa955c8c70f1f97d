"""The core of a pass: walk the sources that have work, read what differs, and hand it to the store.

Sources are walked one after the other, git first; each change is read and written before the next is looked for, so
memory does not grow with the number of runs. Unreadable things never stop a pass; they become rows of `problems`.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import cast

from indexer import interrupts
from indexer.changes import Advance, Change, Found, Gone, History, Indexed, Missing, Naming, Same, Swept, Trouble
from indexer.earlier import Nothing
from indexer.errors import SourceError
from indexer.formats import UNLOADED, VERSIONS, also_claimed
from indexer.protocols import Options, RunFile, RunFolder, Unreadable
from indexer.records import Run
from indexer.sources import Source
from indexer.store.source_state import SourceState
from indexer.store.writer import Pass

RACY_NS = 20_000_000
"""In nanoseconds: a file that changed this shortly before it was read may change again without a new stamp."""

Progress = Callable[[Source, Indexed], Iterator[Change]]
"""Yields the changes of a source and shows how many runs were read."""
Work = Mapping[str, Collection[str] | None]
"""By source: the paths to look at, None for everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pass has to do: everything, or only `work`.

    With `fresh` the tables are empty. With `strict` a source that cannot be opened ends the pass; otherwise it keeps
    its rows.
    """

    sources: Sequence[Source]
    options: Options
    progress: Progress | None = None
    work: Work | None = None
    fresh: bool = False
    strict: bool = False

    def paths(self, source: str) -> Collection[str] | None:
        """The paths of a source to look at, empty if it has no work; None for everything."""
        return None if self.work is None else self.work.get(source, ())

    def has_work(self, source: str) -> bool:
        return self.work is None or source in self.work


@dataclass(slots=True)
class SourceReport:
    """What a pass changed in one source, in runs; `error` when it could not be opened."""

    name: str
    kind: str
    counts: Mapping[str, int]  # added, changed, removed
    runs: Sequence[str]  # ids of the first of these runs
    error: str | None = None
    looked: bool = True  # whether the whole source was walked


@dataclass(slots=True)
class Report:
    """What a pass did. `built` says why the index was built anew, if it was."""

    built: str | None
    waiting: str | None = None  # why it has to be rebuilt but was not
    changed: bool = False  # whether there is anything to commit
    sources: list[SourceReport] = field(default_factory=list)
    unsettled: list[tuple[str, str]] = field(default_factory=list)  # source and path to look at again

    @property
    def failed(self) -> bool:
        return any(source.error for source in self.sources)


def walk(database: sqlite3.Connection, plan: Plan, built: str | None = None) -> Report:
    """Carry out a plan inside the open transaction. Raises SourceError if it is strict, and Interrupted."""
    return _Walk(database, plan, built).run()


class _Walk:
    """One pass: the sources that were opened, and what could not be."""

    def __init__(self, database: sqlite3.Connection, plan: Plan, built: str | None):
        self._plan = plan
        self._by_name = {source.name: source for source in plan.sources}
        self._opened: set[str] = set()
        self._errors: dict[str, str] = {}
        self._report = Report(built)
        self._pass = Pass(database, plan.sources, self._reread, VERSIONS, UNLOADED, fresh=plan.fresh)

    def run(self) -> Report:
        plan = self._plan
        for source in sorted(plan.sources, key=lambda source: -source.rank):
            if plan.has_work(source.name):
                self._walk(source)
        self._pass.settle(plan.work)
        for source in plan.sources:
            counts, runs = self._pass.counts[source.name], self._pass.named[source.name]
            error = self._errors.get(source.name)
            looked = plan.has_work(source.name) and plan.paths(source.name) is None
            self._report.sources.append(SourceReport(source.name, source.kind, counts, runs, error, looked))
        self._report.changed = self._pass.changed
        return self._report

    def _walk(self, source: Source) -> None:
        plan, state = self._plan, self._pass.states[source.name]
        try:
            source.open()
            self._opened.add(source.name)
            state.opened(source)
            if plan.work is None:
                changes = plan.progress(source, state.indexed) if plan.progress else source.changes(state.indexed)
                racy = _take_in(changes, source, state, plan.options)
                if racy:  # read once more what had just changed when it was read
                    time.sleep(RACY_NS / 1e9)
                    again = source.changes(state.indexed, _unsettle(racy, state))
                    racy = _take_in(again, source, state, plan.options)
            else:
                changes = source.changes(state.indexed, plan.paths(source.name))
                racy = _take_in(changes, source, state, plan.options)
            self._report.unsettled += [(source.name, path) for path in _unsettle(racy, state)]
        except SourceError as error:
            if plan.strict:
                raise SourceError(f"source {source.name}: {error}; the index is as it was") from None
            state.fail(str(error))
            self._errors[source.name] = str(error)

    def _reread(self, name: str, path: str, ref: str | None) -> Run | None:
        """The run at a place, read again; None if it cannot be."""
        try:
            if name not in self._opened and not self._plan.has_work(name):
                self._by_name[name].open()
                self._opened.add(name)
            found = self._by_name[name].find(ref, path) if name in self._opened else None
            run = found.run.read(self._plan.options, Nothing()) if found else None
        except (Unreadable, SourceError):
            return None
        return None if run is None or run.partial else run


def _take_in(
    changes: Iterator[Change], source: Source, state: SourceState, options: Options
) -> list[tuple[str, list[str]]]:
    """Index what differs in one source. Returns run folders with files that changed just before they were read."""
    racy: list[tuple[str, list[str]]] = []
    with closing(cast("Generator[Change]", changes)):  # else an error would keep the generator and its resources open
        for change in changes:
            interrupts.check()
            if isinstance(change, Found):
                if names := _index(change, source, state, options):
                    racy.append((change.path, names))
            else:
                _note(change, state)
    return racy


def _note(change: Change, state: SourceState) -> None:
    match change:
        case Same(ref, path):
            state.same(ref, path)
        case Gone(ref, path):
            state.gone(ref, path)
        case Swept(ref):
            state.swept(ref)
        case Missing(ref):
            state.missing(ref)
        case Trouble():
            state.trouble(change)
        case History():
            state.history(change)
        case Naming():
            state.naming(change)
        case Advance(ref, tip):
            state.advance(ref, tip)


def _unsettle(racy: list[tuple[str, list[str]]], state: SourceState) -> list[str]:
    """Mark these files to be read again. Returns where to look: the parts of runs that contain them.

    A run's own folder is `path/`, with nothing after the slash.
    """
    parts: list[str] = []
    for path, names in racy:
        state.unsettle(path, names)
        inside = {f"{path}/{name.partition('/')[0]}" for name in names if not name.startswith("//")}
        parts += sorted(inside or {path})
    return parts


def _index(found: Found, source: Source, state: SourceState, options: Options) -> list[str]:
    """Read a run's changed trials, or all of it if that is not enough, and write its rows.

    Returns the files on disk that had just changed.
    """
    if found.trials is None or not isinstance(found.run, RunFolder):
        return _index_whole(found, state, options)
    began, earlier, run = time.time_ns(), state.found.earlier_of_some(found), None
    if earlier is not None:
        with suppress(Unreadable):  # the full read reports it
            run = found.run.read_trials(options, earlier, found.trials)
    if run is None or earlier is None:
        whole = source.find(None, found.path)
        if whole is None:  # gone, or unreadable right now: the next look decides
            state.found.keep(found)
            return [""]
        return _index_whole(whole, state, options)
    _doubt_claims(found, run)
    state.found.put_some(found, run, earlier)
    return _just_changed(found, began)


def _index_whole(found: Found, state: SourceState, options: Options) -> list[str]:
    """Read a run folder and write its rows. Returns the files on disk that had just changed."""
    if found.ref is not None and state.found.put_twin(found):
        return []
    began = time.time_ns()
    try:
        run = found.run.read(options, state.found.earlier(found))
    except Unreadable as error:
        state.found.unreadable(found, error)
        return []
    if run is None:
        state.found.no_run(found)
        return []
    _doubt_claims(found, run)
    state.found.put(found, run)
    return _just_changed(found, began)


def _doubt_claims(found: Found, run: Run) -> None:
    """Report a run that other formats claim too."""
    if isinstance(found.run, RunFolder | RunFile) and (others := also_claimed(found.run)):
        claimed = f"read as {found.run.reader}; also claimed by {', '.join(others)}"
        run.doubts = {**run.doubts, "": claimed}


def _just_changed(found: Found, began: int) -> list[str]:
    just = began - RACY_NS
    return [name for name, stamp in found.stamps.items() if max(stamp.mtime_ns, stamp.ctime_ns) > just]
