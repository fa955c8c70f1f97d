"""Printing: tables that fit 80 columns on a terminal and are never cut in a pipe, documents, logs, progress."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from indexer.render import Row, visible

Change = Any
_UNLIMITED, _NARROWEST = 100_000, 8  # columns


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    dispensable: Sequence[str] = (),
) -> None:
    """Print rows under headings, without columns that are empty.

    On a terminal that is too narrow, `dispensable` columns go, in their order, then long texts are cut.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[visible(cell) for cell in row] for row in rows]
    used = [at for at in range(len(columns)) if not cells or any(row[at] for row in cells)]
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _UNLIMITED, no_color=not terminal or None, highlight=False)
    widths = {at: max(map(cell_len, [columns[at], *(row[at] for row in cells)])) for at in used}
    for name in dispensable:
        if name in columns and sum(widths.values()) + 2 * len(used) - 2 > console.width:
            used = [at for at in used if columns[at] != name]
            widths.pop(columns.index(name), None)
    flexible = [at for at in used if columns[at] not in right]
    while sum(widths.values()) + 2 * len(used) - 2 > console.width and flexible:
        widest = max(flexible, key=lambda at: widths[at])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    grid = Table(box=None, header_style="bold" if terminal else "", pad_edge=False, padding=(0, 2, 0, 0))
    for at in used:
        justify: Literal["left", "right"] = "right" if columns[at] in right else "left"
        grid.add_column(
            Text(visible(columns[at])), no_wrap=True, overflow="ellipsis", width=widths[at], justify=justify
        )
    for row in cells:
        grid.add_row(
            *(Text(_cut(row[at], widths[at]), style=_STYLES.get(row[at].partition(" ")[0], "")) for at in used)
        )
    with console.capture() as captured:
        console.print(grid)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _cut(text: str, width: int) -> str:
    """A name that is too long, without its middle, since names differ at both ends; the table cuts other texts."""
    if len(text) <= width or " " in text:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


_STYLES = {"failed": "red", "errored": "red", "cancelled": "yellow", "running": "cyan", "completed": "green"}


def document(value: object) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


@contextmanager
def log(stream: TextIO, form: str) -> Iterator[Callable[[str, Row], None]]:
    """A way to tell what happens: a line each, or on a terminal one line that is kept current."""

    def told(event: str, facts: Row) -> str:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if form == "json":
            return json.dumps({"time": time, "event": event, **facts}, ensure_ascii=False)
        return f"{time} {event} " + " ".join(f"{name}={visible(value)}" for name, value in facts.items())

    def line(event: str, facts: Row) -> None:
        print(told(event, facts), file=stream, flush=True)

    if form == "json" or not stream.isatty():
        yield line
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    with console.status("reading what is there", refresh_per_second=1) as shown:

        def current(event: str, facts: Row) -> None:
            if event not in ("changed", "ready", "built"):
                console.print(Text(told(event, facts)))
            said = " ".join(
                visible(value) if name == "source" else f"{name}={visible(value)}" for name, value in facts.items()
            )
            text = f"{datetime.now().astimezone():%H:%M:%S} {event} {said}"
            shown.update(Text(text[: console.width - 4]))

        yield current


@contextmanager
def progress(stream: TextIO) -> Iterator[Callable[[Any, Any], Iterator[Change]] | None]:
    """A way to show the reading of runs with their rate; None when `stream` is no terminal.

    How many there will be is not known: to count them first would walk every source twice.
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
