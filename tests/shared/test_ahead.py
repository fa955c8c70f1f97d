"""Items are made one ahead, and nothing is left of a broken run."""

import threading
from collections.abc import Iterator

import pytest

from indexer.shared.ahead import one_ahead


def test_all_items_in_order_each_made_while_the_one_before_is_used() -> None:
    made: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    used = []
    for number in one_ahead(items()):
        used.append(number)
        if number == 1:
            assert third.wait(10)  # made though the second is still in use
        assert len(made) <= number + 2
    assert used == [0, 1, 2, 3, 4]


def test_what_making_raises_is_raised_where_the_item_is_awaited() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no disk")

    ahead = one_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="no disk"):
        next(ahead)


def test_a_consumer_that_stops_waits_for_the_item_being_made() -> None:
    going_on, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert going_on.wait(10)
        ended.set()
        yield 2

    ahead = one_ahead(items())
    assert next(ahead) == 1
    threading.Timer(0.05, going_on.set).start()
    ahead.close()
    assert ended.is_set()
