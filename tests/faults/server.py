"""Forks a process for each pass that it is told of on standard input, and tells how it ended."""

import ctypes
import json
import os
import signal
import sqlite3
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from indexer.errors import IndexerError
from indexer.passes import sync as passes
from indexer.protocols import Options
from indexer.store import file
from tests.observe import opened


def main(library: str) -> None:
    shim = ctypes.CDLL(library)
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as answer:
            child = os.fork()
            if child == 0:
                run(shim, json.loads(line), answer.fileno())
                os._exit(0)
            _, status = os.waitpid(child, 0)
            answer.seek(0)
            told = answer.read()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and not told:
            told = json.dumps({"error": None, "traceback": f"ended with status {status}", "calls": 0})
        outcome = json.loads(told) if told else {"error": None, "traceback": "", "calls": 0}
        print(json.dumps(outcome | {"killed": killed}), flush=True)


def run(shim: ctypes.CDLL, told: dict[str, Any], answer: int) -> None:
    """One pass in the forked process."""
    outcome: dict[str, Any] = {"error": None, "traceback": ""}
    if told.get("cache"):
        _keep_little(told["cache"])
    sources = opened([(kind, name, Path(path)) for kind, name, path in told["sources"]])
    kind, how, path, first, last = told["fault"]
    if told.get("git"):
        os.environ["FAULT"] = " ".join(told["fault"])
    else:
        shim.fault_arm(kind.encode(), how.encode(), path.encode(), ctypes.c_long(int(first)), ctypes.c_long(int(last)))
    try:
        report = getattr(passes, told["command"])(Path(told["db"]), sources, Options())
        outcome["error"] = "; ".join(filter(None, (source.error for source in report.sources))) or None
    except IndexerError as error:
        outcome["error"] = str(error)
    except BaseException:
        outcome["traceback"] = traceback.format_exc()
    outcome["calls"] = shim.fault_count()
    shim.fault_arm(b"", b"0", b"", ctypes.c_long(0), ctypes.c_long(0))
    os.write(answer, json.dumps(outcome).encode())


def _keep_little(pages: int) -> None:
    """Let the index be written with so few pages in memory that a pass, and its sorter, spill to disk."""
    plain = file.connect

    def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
        database = plain(path, write=write)
        if write:
            database.execute(f"PRAGMA cache_size = {pages}")
        return database

    file.connect = connect


if __name__ == "__main__":
    main(sys.argv[1])
