"""What commands print: tables that fit 80 columns on a terminal and are never cut in a pipe."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Row = dict[str, Any]
Change = Any
_BLOCKS = "▁▂▃▄▅▆▇█"
_UNLIMITED, _NARROWEST = 100_000, 8  # columns


def visible(value: object) -> str:
    """Text as one printable line: control characters and line breaks are written as escapes, None as nothing."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
        grid.add_column(columns[at], no_wrap=True, overflow="ellipsis", width=widths[at], justify=justify)
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


def percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{100 * bounds[0]:.0f}-{percent(bounds[1])}"


def sparkline(outcomes: Iterable[Row]) -> str:
    """A block for each verdict, as high as its score, full or empty where it has none; x for errors."""
    text = ""
    for outcome in outcomes:
        known = outcome["score"]
        height = float(outcome["status"] == "passed") if known is None else min(max(known, 0.0), 1.0)
        text += "x" if outcome["status"] == "errored" else _BLOCKS[round(height * (len(_BLOCKS) - 1))]
    return text


def dollars(value: float | None) -> str:
    return "" if value is None else f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def duration(seconds: float | None) -> str:
    """A span as people say it: 45 s, 12 m, 3 h, 5 d."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def age(time: str | None) -> str:
    """How long ago a UTC text was."""
    return "" if time is None else f"{duration(seconds_since(time))} ago"


def lag(looked_at: str | None) -> str:
    """How far the index may be behind."""
    return "" if looked_at is None else duration(seconds_since(looked_at))


def seconds_since(time: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


def status(run: Row, stale_after: int) -> str:
    """A run's status; one that should be live and was silent for longer than `stale_after` seconds may have stopped."""
    last = run["updated_at"] or run["timestamp"]
    silent = seconds_since(last) if run["status"] in ("queued", "running") else 0
    return f"stopped? (silent {duration(silent)})" if silent > stale_after else str(run["status"])


def passed(run: Row) -> str:
    """Passed of counted trials."""
    return f"{run['passed']}/{run['trial_count']}"


def freshness(told: Row) -> str:
    """How old the index is and who keeps it current, as one line; `told` is what `freshness.freshness` gives."""
    as_of = f"index as of {told['as_of']} ({age(told['as_of'])})" if told["as_of"] else "index of unknown age"
    return f"{as_of}, kept current by {writer(told['writer'])}"


def writer(holder: Row | None) -> str:
    """Who writes the index."""
    if holder is None:
        return "nobody; `indexer watch` would do it"
    swept = f", last sweep {age(holder['swept'])}" if "swept" in holder else ""
    who = f"`indexer {holder.get('command')}` (process {holder.get('pid')} on {holder.get('host')})"
    refused = f"; not watching ({holder['refused']}), sweeps find changes" if holder.get("refused") else ""
    return f"{who} since {age(holder.get('since'))}{swept}{refused}"


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
            if event == "error":
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

    from indexer.changes import Found, Known
    from indexer.sources import Source

    told = TextColumn("{task.description}  {task.completed:,.0f} runs  {task.fields[rate]} runs/s")
    with Progress(SpinnerColumn(), told, console=Console(file=stream), transient=True) as shown:

        def changes(source: Source, known: Known) -> Iterator[Change]:
            task = shown.add_task(visible(source.name), total=None, rate="-")
            for change in source.changes(known):
                yield change
                if isinstance(change, Found):
                    speed = shown.tasks[task].speed
                    shown.update(task, advance=1, rate=f"{speed:,.0f}" if speed else "-")

        yield changes
