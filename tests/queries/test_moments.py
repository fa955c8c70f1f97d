"""Dates, times and spans as people write them."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from indexer.queries.moments import _months_before, moment


@pytest.mark.parametrize(
    ("now", "months", "then"),
    [
        ("2026-03-15", 1, "2026-02-15"),
        ("2026-03-31", 1, "2026-02-28"),
        ("2024-03-31", 1, "2024-02-29"),
        ("2026-01-05", 1, "2025-12-05"),
        ("2026-12-05", 12, "2025-12-05"),
    ],
)
def test_months_ago_are_months_of_the_calendar(now: str, months: int, then: str) -> None:
    assert _months_before(datetime.fromisoformat(now), months) == datetime.fromisoformat(then)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize(("word", "days"), [("today", 0), ("yesterday", 1), (" today ", 0)])
def test_today_and_yesterday_begin_at_midnight_where_the_reader_is(zone: str, word: str, days: int) -> None:
    place = ZoneInfo(zone)

    def midnight() -> str:
        day = datetime.now(place).date() - timedelta(days=days)
        return f"{datetime.combine(day, time(), place).astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"

    before = midnight()
    assert moment(word, "since", place) in (before, midnight())  # the day may end meanwhile
