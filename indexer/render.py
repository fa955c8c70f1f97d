"""Values as people read them, on a terminal and on a page."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

Row = Mapping[str, Any]
_BLOCKS = "▁▂▃▄▅▆▇█"


def visible(value: object) -> str:
    """Text as one printable line: control characters and line breaks are written as escapes, None as nothing."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{100 * bounds[0]:.0f}-{percent(bounds[1])}"


def points(difference: float) -> str:
    """A difference of two rates in percentage points."""
    return f"{100 * difference:+.0f}"


MEASURES = {"quality_rate": "passed", "errors": "errors", "score": "score"}
"""Display names of drift's measures."""


def level(row: Row, side: str) -> str:
    """One side of a fall: the rate or mean of its measure, and over how many executions."""
    value = row[side][row["measure"]]
    shown = score(value) if row["measure"] == "score" else percent(value)
    return f"{shown} of {row[side]['executions']}"


def signed(difference: float) -> str:
    """A difference of two scores."""
    return f"{difference:+.3f}"


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


def local(time: str | None, zone: tzinfo | None = None) -> str:
    """A UTC text in a zone, by default this machine's, to the second; `--since` accepts it."""
    if time is None:
        return ""
    moment = datetime.fromisoformat(time)
    with suppress(OverflowError):  # near the years 1 and 9999 it stays UTC
        moment = moment.astimezone(zone)
    return moment.isoformat(timespec="seconds")


def age(time: str | None) -> str:
    """How long ago a UTC text was."""
    return "" if time is None else f"{duration(seconds_since(time))} ago"


def lag(looked_at: str | None) -> str:
    """How long ago a UTC text was, without the word `ago`, for columns such as AGO, LAG and SILENT."""
    return "" if looked_at is None else duration(seconds_since(looked_at))


def seconds_since(time: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())


def silence(run: Row) -> float:
    """Seconds since the last sign of life of a run that has not ended; 0 for one that has."""
    live = run["status"] in ("queued", "running")
    return seconds_since(run["updated_at"] or run["timestamp"]) if live else 0.0


def is_live(run: Row, stale_after: int) -> bool:
    """Whether a run is still going: one silent for longer than `stale_after` seconds may have stopped."""
    return run["status"] in ("queued", "running") and silence(run) <= stale_after


def progress(run: Row) -> str:
    """How far a run has come: `4/10, 2 running`."""
    of = "" if run["planned_count"] is None else f"/{run['planned_count']}"
    running = f", {run['running_count']} running" if run["running_count"] else ""
    return f"{run['ended_count']}{of}{running}"


def status(run: Row, stale_after: int) -> str:
    """A run's status; for a live run its progress, and whether it may have stopped."""
    if run["status"] not in ("queued", "running"):
        return str(run["status"])
    if silence(run) > stale_after:
        return f"stopped? {progress(run)}"
    return progress(run) if run["running_count"] else f"{run['status']} {progress(run)}"


def size(count: int | None) -> str:
    """A number of bytes as people say it: 1.2 MB."""
    if count is None:
        return ""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"


def passed(run: Row) -> str:
    """Passed of counted trials."""
    return f"{run['passed']}/{run['trial_count']}"


def reason(trial: Row) -> str:
    """Why a trial did not pass: its error, else the graders that failed it, else all scores."""
    if trial["error"] or trial["error_type"]:
        return ": ".join(filter(None, (trial["error_type"], trial["error"])))
    low = [score for score in trial["scores"] if score["passed"] == 0]
    if low:
        return "; ".join(": ".join(filter(None, (score["name"], score["reason"]))) for score in low)
    if trial["status"] in ("passed", "running"):
        return ""
    return ", ".join(f"{score['name']} {score['score']:g}" for score in trial["scores"] if score["score"] is not None)


def write_csv(file: TextIO, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Rows as comma-separated values under the names of their columns."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(", ".join(v) if isinstance(v := row[name], list) else v for name in columns)


def freshness(fresh: Row) -> str:
    """How old the index is and who keeps it current, as one line; `fresh` is what `freshness.freshness` gives."""
    as_of = f"index as of {local(fresh['as_of'])} ({age(fresh['as_of'])})" if fresh["as_of"] else "index of unknown age"
    return f"{as_of}, {writer(fresh['writer'])}"


def writer(holder: Row | None) -> str:
    """Who writes the index."""
    if holder is None:
        return "no writer running; start `indexer watch`"
    if "pid" not in holder:
        return "written by machines that publish"
    swept = f", last sweep {age(holder['swept'])}" if "swept" in holder else ""
    who = f"`indexer {holder.get('command')}` (process {holder.get('pid')} on {holder.get('host')})"
    refused = f"; not watching ({holder['refused']}), sweeps find changes" if holder.get("refused") else ""
    return f"kept current by {who} since {age(holder.get('since'))}{swept}{refused}"
