"""Dates, times and spans as people write them."""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

from indexer.errors import QueryError
from indexer.records import span_seconds, utc_text

Moment = str | date | datetime
"""A date, a time, `today`, `yesterday`, or a span before now such as `7d` or `1mo`."""

_MONTHS = re.compile(r"(\d{1,4})\s*mo")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def moment(value: Moment, name: str, zone: tzinfo = UTC) -> str:
    """A time as UTC text. Raises QueryError that names the filter."""
    try:
        return utc_text(_time(value, datetime.now(zone)))
    except (ValueError, OverflowError, TypeError, AttributeError):
        raise QueryError(
            f"{name}: {value!r} is not a date (2026-11-22), time, today, yesterday or span (7d, 1mo)"
        ) from None


def _time(value: Moment, now: datetime) -> datetime:
    """Raises ValueError, OverflowError, TypeError."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=now.tzinfo)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=now.tzinfo)
    text = value.strip()
    if text in ("today", "yesterday"):
        return midnight - timedelta(days=text == "yesterday")
    if months := _MONTHS.fullmatch(text):
        return _months_before(now, int(months[1]))
    if not _DATE.match(text):
        return now.astimezone(UTC) - timedelta(seconds=span_seconds(text))  # in UTC: clocks may change in between
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=now.tzinfo)


def _months_before(now: datetime, months: int) -> datetime:
    """The same day of an earlier month, or its last one. Raises ValueError before the year 1."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    for day in range(now.day, 27, -1):
        try:
            return now.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue  # that month is shorter
    return now.replace(year=year, month=month + 1, day=min(now.day, 27))
