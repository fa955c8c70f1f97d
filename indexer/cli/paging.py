"""Lists that are printed page by page: runs and trials."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from indexer import render
from indexer.cli import console
from indexer.errors import QueryError
from indexer.freshness import freshness, newer_sources
from indexer.queries.index import Index
from indexer.queries.pages import LARGEST_PAGE
from indexer.queries.runs import Rows

Content = TypeVar("Content")


class Pages(Iterable[Content]):
    """The rows of one page or of all; `count` and `next_cursor` are set once all were read.

    `page` returns a page for its `limit` and `cursor`.
    """

    def __init__(self, page: Callable[..., Rows[Content]], limit: int, cursor: str | None, *, every: bool):
        self._page, self._every = page, every
        self._limit, self._cursor = LARGEST_PAGE if every else limit, cursor
        self.count = 0
        self.next_cursor: str | None = None

    def __iter__(self) -> Iterator[Content]:
        while True:
            page = self._page(limit=self._limit, cursor=self._cursor)
            self.count += len(page)
            yield from page
            if not page.next_cursor or not self._every:
                self.next_cursor = page.next_cursor
                return
            self._cursor = page.next_cursor


def show(
    pages: Pages[Any],
    what: str,
    columns: Sequence[str],
    table: Callable[[Iterable[Any]], None],
    *,
    json: bool,
    as_csv: bool,
    filtered: bool,
) -> None:
    """Print rows as a table, as JSON lines or as CSV, and how to go on if more follow. Raises QueryError."""
    if json and as_csv:
        raise QueryError("--json and --csv: choose one")
    if json:
        for row in pages:
            console.document(row)
    elif as_csv:
        render.write_csv(sys.stdout, pages, columns)
    else:
        table(pages)
    if not pages.count:
        print(f"no {what} match" if filtered else f"no {what}", file=sys.stderr)
    if pages.next_cursor:
        print(f"more {what} follow: --all, or go on with --cursor {pages.next_cursor}", file=sys.stderr)


def tell_if_old(index: Index) -> None:
    """Warn if no writer is running and the sources look newer than the index."""
    fresh = freshness(index)
    if fresh["writer"] is None and (newer := newer_sources(index)):
        changed = render.visible(", ".join(newer))
        print(f"indexer: {render.freshness(fresh)}; changed since: {changed}; run indexer sync", file=sys.stderr)
