"""Values as people read them, on a terminal and on a page."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any

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
    """A UTC text in a zone, else in this machine's, to the second; it can be typed for `--since`."""
    if time is None:
        return ""
    moment = datetime.fromisoformat(time)
    with suppress(OverflowError):  # at the ends of all times it stays UTC
        moment = moment.astimezone(zone)
    return moment.isoformat(timespec="seconds")


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


def freshness(fresh: Row) -> str:
    """How old the index is and who keeps it current, as one line; `fresh` is what `freshness.freshness` gives."""
    as_of = f"index as of {local(fresh['as_of'])} ({age(fresh['as_of'])})" if fresh["as_of"] else "index of unknown age"
    return f"{as_of}, kept current by {writer(fresh['writer'])}"


def writer(holder: Row | None) -> str:
    """Who writes the index."""
    if holder is None:
        return "nobody; `indexer watch` would do it"
    swept = f", last sweep {age(holder['swept'])}" if "swept" in holder else ""
    who = f"`indexer {holder.get('command')}` (process {holder.get('pid')} on {holder.get('host')})"
    refused = f"; not watching ({holder['refused']}), sweeps find changes" if holder.get("refused") else ""
    return f"{who} since {age(holder.get('since'))}{swept}{refused}"
