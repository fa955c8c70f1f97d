"""Run, Trial and Score: the one shape that every format is read into.

Values are clean by the time they are here: texts are valid Unicode, integers fit 64 bits, numbers are
finite, times are UTC text `YYYY-MM-DDTHH:MM:SS.mmmZ`, durations are seconds, sizes are bytes, costs are
US dollars, and what a tool does not record is None.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

TrialStatus = Literal["passed", "failed", "errored", "skipped", "running", "cancelled"]
_SPAN = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

RunState = Literal["queued", "running", "cancelled", "ended", "failed"]


@dataclass(slots=True, kw_only=True)
class Score:
    """What one grader, evaluator or reward said of a trial."""

    name: str
    type: str | None = None
    score: float | None = None
    weight: float | None = None
    passed: bool | None = None
    reason: str | None = None  # first line, masked like an error


@dataclass(slots=True, kw_only=True)
class Trial:
    """One execution of a test. `trial` is unique in its run; a test is (suite, test_id)."""

    trial: str
    suite: str | None = None
    test_id: str | None = None
    category: str | None = None
    target: str | None = None
    agent: str | None = None
    agent_version: str | None = None
    model: str | None = None
    provider: str | None = None
    reasoning_effort: str | None = None
    attempt: int | None = None
    status: TrialStatus
    score: float | None = None
    error_type: str | None = None
    error: str | None = None
    exit_code: int | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_s: float | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    aiu: float | None = None
    turns: int | None = None
    tool_calls: int | None = None
    tool_failures: int | None = None
    peak_context_tokens: int | None = None
    lines_added: int | None = None
    lines_removed: int | None = None
    task_checksum: str | None = None
    folder: str | None = None  # where its files lie in the run's folder
    scores: list[Score] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Tags:
    """Tags of a run that were decided outside its rows; an empty list is a decision too."""

    tags: list[str]
    updated_at: str | None = None


@dataclass(slots=True, kw_only=True)
class Reported:
    """What the tool itself reported for one target."""

    pass_rate: float | None = None
    score: float | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """One run as read from its folder. Counts and rates are derived from `trials`, never read."""

    key: str
    run_id: str
    format: str
    layout: str
    experiment: str
    state: RunState
    timestamp: str
    started_at: str | None = None
    finished_at: str | None = None
    updated_at: str | None = None
    duration_s: float | None = None
    planned_count: int | None = None
    running_count: int | None = None
    size_bytes: int = 0
    code_sha: str | None = None
    host: str | None = None
    attempt: int | None = None
    error: str | None = None
    authored_tags: list[str] = field(default_factory=list)
    tags: Tags | None = None
    reported: Mapping[str, Reported] = field(default_factory=dict)
    derived_from: list[str] = field(default_factory=list)  # keys or ids of the runs that trials were copied from
    trials: list[Trial] = field(default_factory=list)
    configuration: tuple[str | None, str | None, str | None, str | None] | None = None
    """Target, agent, model and suite of a run that may have no trials yet."""
    rank: str = ""  # of several copies of a run the one with the greatest is shown; compared first
    edition: str = ""  # likewise, but compared last: for copies that differ only in where they lie
    # unreadable files of an otherwise readable run, and why: their rows are as they were, or missing
    broken: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False  # whether rows are missing because of these
    optional: Mapping[str, str] = field(default_factory=dict)  # likewise, but only values from these files are unknown
    doubts: Mapping[str, str] = field(default_factory=dict)  # readable files with values that cannot be right


def utc(text: str | None) -> str | None:
    """An ISO 8601 time as UTC text with milliseconds; None if it is not one. Naive times are taken as UTC."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        if text[-6:] == "+00:00" and len(text) > 29 and text[4] == text[7] == "-" and text[10] + text[19] == "T.":
            return f"{text[:23]}Z"
        if text[-1] == "Z" and text[4] == text[7] == "-" and text[10] == "T" and text[13:14] == text[16:17] == ":":
            if text[19:20] == "." and len(text) > 23:
                return f"{text[:23]}Z"
            if len(text) == 20:
                return f"{text[:19]}.000Z"
        if not text[:10].replace("-", "").isdigit() or text[4:5] != "-" or text[7:8] != "-":
            return None  # week dates and bare numbers
        return utc_text(time)
    except (ValueError, OverflowError):
        return None


def utc_text(time: datetime) -> str:
    """A time as UTC text with milliseconds. Raises OverflowError beyond the years 1 to 9999."""
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_now() -> str:
    """The time, as UTC text."""
    return utc_text(datetime.now(UTC))


def unix_time(seconds: int) -> str | None:
    """Seconds since 1970 as UTC text; None outside the years 1 to 9999."""
    try:
        return utc_text(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
    except OverflowError:
        return None


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one UTC text to another; None if either is unknown or they are in the wrong order."""
    if start is None or end is None or end < start:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def span_seconds(text: str) -> int:
    """Seconds in a span such as `30s`, `15m`, `1h`, `7d` or `2w`. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a span such as 30s, 15m, 1h, 7d or 2w")
    return int(match[1]) * _SECONDS[match[2]]


def joined(values: Iterable[str | None]) -> str | None:
    """Distinct known values, sorted and joined by `, `; None if there is none."""
    return ", ".join(sorted({value for value in values if value})) or None
