"""`indexer serve` as a process, asked over HTTP."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.measure import Line, in_turns
from indexer import Index


@contextmanager
def served(db: Path) -> Iterator[HTTPConnection]:
    """A connection to a server of an index."""
    command = [str(Path(sys.executable).with_name("indexer")), "serve", "--db", str(db)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    connection = HTTPConnection(urlsplit(process.stdout.readline().strip()).netloc)
    try:
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.wait()


def seconds(connection: HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return time.perf_counter() - began


def lines(db: Path, index: Index) -> Iterator[Line]:
    """Pages of `/api` against the same query without HTTP; HTML pages, ours and Datasette's, against one second."""
    deep = index.runs(limit=995)
    for _ in range(9):
        deep = index.runs(limit=995, cursor=deep.next_cursor)
    assert deep.next_cursor
    asked: dict[str, dict[str, str]] = {
        "first page": {},
        "200th page": {"cursor": deep.next_cursor},
        "filtered page": {"experiment": "e1", "tag": "baseline"},
    }
    with served(db) as connection:
        for name, filters in asked.items():
            path = f"/api/runs?{urlencode({'limit': 50} | filters)}"
            ours, floor = in_turns([partial(seconds, connection, path), partial(_direct, index, filters)], 21)
            yield Line(f"HTTP: {name} of 50, against the query", ours, floor, None)
        tables = f"/{db.stem}"
        for path in ("/runs", f"{tables}/runs", f"{tables}/trials", f"{tables}/runs?_sort_desc=pass_rate"):
            (ours,) = in_turns([partial(seconds, connection, path)], 5)
            yield Line(f"HTTP: {path}", ours, 1.0, 1.0)


def _direct(index: Index, filters: dict[str, Any]) -> float:
    began = time.perf_counter()
    index.runs(limit=50, **filters)
    return time.perf_counter() - began
