"""Prepares the next batch while the one before is sent."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The same items; while one is used, the next is made in a thread, which also closes the generator."""
    with ThreadPoolExecutor(1) as pool:
        try:
            following = pool.submit(next, items, None)
            while (item := following.result()) is not None:
                following = pool.submit(next, items, None)
                yield item
        finally:
            pool.submit(items.close).result()
