"""Printing: tables, which fit the terminal and are never cut in a pipe; documents, logs and progress."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TextIO

from indexer.queries.filters import CUT
from indexer.render import Row, is_live, visible
from indexer.render import progress as progress_of

if TYPE_CHECKING:
    from rich.console import Console

Change = Any
_NARROWEST = 8  # columns
_LINES = 10  # for live runs
_WHOLE = frozenset({"STATUS", "PROGRESS", "OF RUN", "OLDEST TO NEWEST", "SINCE"})
"""Headings of columns that are never cut."""
_TEXTS = frozenset({"REASON", "ERROR", "PLACE", "PATH", "VERDICT"})
"""Headings of columns with free text, which may be cut anywhere; all others hold names."""


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    wide: Sequence[str] = (),
    dispensable: Sequence[str] = (),
) -> None:
    """Print rows under headings, without columns that are empty.

    On a terminal, `wide` columns are shown while they fit, the first ones first, and omitted ones are named; then texts
    are truncated. Names are truncated only while they stay distinct, and commands accept a name with its `…`.
    If that is not enough, `dispensable` columns are omitted too.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(map(visible, columns))
    cells = [[visible(cell) for cell in row] for row in rows]
    used = [at for at in range(len(columns)) if not cells or any(row[at] for row in cells)]
    terminal = sys.stdout.isatty()
    longest = sum(max(map(cell_len, column)) + 2 for column in zip(columns, *cells, strict=True))
    console = Console(width=None if terminal else max(longest, 80), no_color=not terminal or None, highlight=False)
    widths, left_out = _fitted(columns, cells, used, console, right, (wide, dispensable))
    grid = Table(box=None, header_style="bold" if terminal else "", pad_edge=False, padding=(0, 2, 0, 0))
    for at in widths:
        justify: Literal["left", "right"] = "right" if columns[at] in right else "left"
        grid.add_column(Text(columns[at]), no_wrap=True, overflow="ellipsis", width=widths[at], justify=justify)
    for row in cells:
        grid.add_row(*(Text(_cut(row[at], widths[at]), style=_style(row[at])) for at in widths))
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        print(line.rstrip())
    if left_out:
        print(f"left out to fit this terminal: {', '.join(left_out)}", file=sys.stderr)


def _fitted(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    used: list[int],
    console: "Console",
    right: Sequence[str],
    may_go: tuple[Sequence[str], Sequence[str]],
) -> tuple[dict[int, int], list[str]]:
    """The widths of the columns that are shown, by their place, and the headings of those that are left out.

    The console is widened if truncated names would be equal.
    """
    from rich.cells import cell_len

    widths = {at: max(map(cell_len, [columns[at], *(row[at] for row in cells)])) for at in used}
    narrowest = {
        at: max(cell_len(columns[at]), _NARROWEST if columns[at] in _TEXTS else _apart({row[at] for row in cells}))
        for at in widths
        if columns[at] not in right and columns[at] not in _WHOLE
    }
    wide, dispensable = may_go
    further = {name: widths.pop(columns.index(name)) for name in wide if columns.index(name) in widths}
    for name in list(further):
        if _total(widths) + 2 + further[name] <= console.width:
            widths[columns.index(name)] = further.pop(name)
    left_out = list(further) if cells else []
    for name in dispensable:
        least = {at: min(width, narrowest.get(at, width)) for at, width in widths.items()}
        if columns.index(name) in widths and _total(least) > console.width:
            widths.pop(columns.index(name))
            left_out.append(name)
    while _total(widths) > console.width:
        flexible = [at for at, least in narrowest.items() if at in widths and widths[at] > least]
        if not flexible:
            console.width = _total(widths) + 2  # long lines are better than ambiguous names
            break
        widths[max(flexible, key=lambda at: widths[at])] -= 1
    return widths, left_out


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + 2 * len(widths) - 2


def _cut(text: str, width: int) -> str:
    """Truncate a text to a number of terminal columns, ending in `…`."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    end = min(len(text), width)  # most characters take at least one column; the others are added below
    while cell_len(text[:end]) >= width:
        end -= 1
    while end < len(text) and cell_len(text[: end + 1]) == cell_len(text[:end]):
        end += 1  # zero-width characters belong to the one before
    return f"{text[:end]}{CUT}"


def _apart(names: set[str]) -> int:
    """Terminal columns at which truncated names stay distinct."""
    from rich.cells import cell_len

    ordered = sorted(names)
    least = _NARROWEST
    for one, other in pairwise(ordered):
        common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        for name in (one, other):
            end = common + 1
            while end < len(name) and cell_len(name[: end + 1]) == cell_len(name[:end]):
                end += 1  # zero-width characters belong to the one before
            least = max(least, cell_len(name[:end]) + 1)
    return least


_STYLES = {
    "failed": "red", "errored": "red", "cancelled": "yellow", "stopped?": "yellow", "running": "cyan",
    "completed": "green", "passed": "green",
}  # fmt: skip


def _style(cell: str) -> str:
    return "cyan" if cell.endswith(" running") else _STYLES.get(cell.partition(" ")[0], "")


def document(value: object) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


class Log:
    """Prints events, one line each."""

    def __init__(self, line: Callable[[str, Row], None], live: Callable[[Sequence[Row]], None] | None = None):
        self.line = line
        self.live = live
        """Shows live runs on a terminal."""


@contextmanager
def log(stream: TextIO, form: str, stale_after: int) -> Iterator[Log]:
    """A watcher's log: lines, or on a terminal (unless `form` is json) a live display with a line per live run."""

    def told(event: str, facts: Row) -> str:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if form == "json":
            return json.dumps({"time": time, "event": event, **facts}, ensure_ascii=False)
        return f"{time} {event} " + " ".join(f"{name}={_said(value)}" for name, value in facts.items())

    def line(event: str, facts: Row) -> None:
        print(told(event, facts), file=stream, flush=True)

    if form == "json" or not stream.isatty():
        yield Log(line)
        return
    from rich.console import Console, Group
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    newest, running = Text("reading what is there"), list[Text]()
    with console.status("reading what is there", refresh_per_second=1) as shown:

        def current(event: str, facts: Row) -> None:
            if event not in ("changed", "ready", "built"):
                console.print(Text(told(event, facts)))
            said = " ".join(
                _said(value) if name == "source" else f"{name}={_said(value)}" for name, value in facts.items()
            )
            newest.plain = f"{datetime.now().astimezone():%H:%M:%S} {event} {said}"[: console.width - 4]
            shown.update(Group(newest, *running))

        def live(runs: Sequence[Row]) -> None:
            lines = [f"{visible(run['run_id'])}  {progress_of(run)}" for run in runs if is_live(run, stale_after)]
            running[:] = [Text(_cut(line, console.width - 4)) for line in lines[:_LINES]]
            shown.update(Group(newest, *running))

        yield Log(current, live)


def _said(value: object) -> str:
    return visible(", ".join(map(str, value)) if isinstance(value, list) else value)


@contextmanager
def progress(stream: TextIO) -> Iterator[Callable[[Any, Any], Iterator[Change]] | None]:
    """A progress display of the runs read and their rate; None if `stream` is not a terminal.

    The total is unknown: counting first would walk every source twice.
    """
    if not stream.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from indexer.changes import Found, Indexed
    from indexer.sources import Source

    columns = TextColumn("{task.description}  {task.completed:,.0f} runs  {task.fields[rate]} runs/s")
    with Progress(SpinnerColumn(), columns, console=Console(file=stream), transient=True) as shown:

        def changes(source: Source, indexed: Indexed) -> Iterator[Change]:
            task = shown.add_task(visible(source.name), total=None, rate="-")
            for change in source.changes(indexed):
                yield change
                if isinstance(change, Found):
                    speed = shown.tasks[task].speed
                    shown.update(task, advance=1, rate=f"{speed:,.0f}" if speed else "-")

        yield changes


@contextmanager
def counting(stream: TextIO, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar, called with (done, total); None if `stream` is not a terminal."""
    if not stream.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=stream), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
