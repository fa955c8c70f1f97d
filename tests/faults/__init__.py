"""Passes in processes of their own in which system calls fail, end early or kill (shim.c)."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.observe import Named
from tests.worlds import lacking


class Fault(NamedTuple):
    """What happens to the calls `first` to `last`, counted from 1, of a kind on files whose path holds `path`.

    `kind` is write or read; `how` is kill, tear, short or the number of an error.
    """

    kind: str
    how: str | int
    path: Path | str
    first: int
    last: int = 1 << 40


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended: `killed`, or with what it said; `calls` were counted."""

    killed: bool
    error: str | None
    traceback: str
    calls: int


class Faults:
    """Starts passes by a process that was loaded once with the shim and forks."""

    def __init__(self, process: "subprocess.Popen[str]"):
        self._process = process

    def run(self, command: str, db: Path, sources: Sequence[Named], fault: Fault, **more: Any) -> Outcome:
        """`sync` or `rebuild` with a fault in it. `cache` has the pages that the pass may keep in memory.

        With `git` it is git's own calls that fail, not those of this program.
        """
        named = [(kind, name, str(path)) for kind, name, path in sources]
        told = {"command": command, "db": str(db), "sources": named, "fault": [str(each) for each in fault], **more}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


def shim(folder: Path) -> Path:
    """The library, made in a folder. Needs a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        lacking("a C compiler")
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], check=True)
    return library


@contextmanager
def faults() -> Iterator[Faults]:
    """Needs a C compiler."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        library = shim(Path(folder))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"LD_PRELOAD": str(library)},
        )
        try:
            yield Faults(process)
        finally:
            process.communicate()
