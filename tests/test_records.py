import pytest

from indexer.derive import Tests, outcomes
from indexer.records import seconds_between, unix_time, utc


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-05T09:00:00.123Z", "2026-01-05T09:00:00.123Z"),
        ("2026-01-05T09:00:00.123999Z", "2026-01-05T09:00:00.123Z"),
        ("2026-01-05T11:00:00+02:00", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05T09:00:00Z", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05T09:00Z", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05T09Z", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05T090000.0Z", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05 09:00", "2026-01-05T09:00:00.000Z"),
        ("2026-01-05", "2026-01-05T00:00:00.000Z"),
        ("2026-02-30T09:00:00.123Z", None),
        ("2026-W02-3T09:00:01.000Z", None),
        ("20260105", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_times_become_utc_text(text: str | None, time: str | None) -> None:
    assert utc(text) == time


def test_times_since_1970_and_spans() -> None:
    assert unix_time(0) == "1970-01-01T00:00:00.000Z"
    assert unix_time(-1) == "1969-12-31T23:59:59.000Z"
    assert unix_time(10**18) is None
    assert seconds_between("2026-01-05T09:00:00.000Z", "2026-01-05T09:00:01.500Z") == 1.5
    assert seconds_between("2026-01-05T09:00:01.000Z", "2026-01-05T09:00:00.000Z") is None
    assert seconds_between(None, "2026-01-05T09:00:00.000Z") is None


def test_outcomes_of_a_test_under_several_configurations_are_added() -> None:
    few: Tests = {("s", "t"): (2, 1)}
    more: Tests = {("s", "t"): (3, 2), ("s", "u"): (1, 0), ("s", "v"): (1, 0)}
    assert outcomes([few, more]) == [(1, 0, 2), (5, 3, 1)]  # (executions, passed, tests)
    assert outcomes([few]) == [(2, 1, 1)]
    assert outcomes([]) == []
