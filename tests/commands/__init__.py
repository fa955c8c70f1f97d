"""The command as people and scripts use it: a process, its output, its exit code.

To save its imports, the process is forked; it ends without the interpreter's shutdown, which tests of `COMMAND` see.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

COMMAND = Path(sys.executable).with_name("indexer")
_AT_START = ("PYTHON", "LC_", "LANG", "HOME", "XDG_", "GIT_", "PATH")
"""Prefixes of variables that Python and its libraries read when they start: these need a process of their own."""


def indexer(where: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder. Its process is forked from one that has imported the program already."""
    words = [str(COMMAND), *map(str, arguments)]
    if any(name.startswith(_AT_START) for name in environment):
        return subprocess.run(words, cwd=where, capture_output=True, text=True, env={**os.environ, **environment})
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.poll() is None
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        told = {"words": words, "cwd": str(where), "environment": {**os.environ, **environment}, "files": files}
        server.stdin.write(json.dumps(told) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.read())


@cache
def _server() -> "subprocess.Popen[str]":
    """Ends by itself when this process does."""
    command = [sys.executable, "-m", "tests.commands.server"]
    root = Path(__file__).resolve().parent.parent.parent
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)


def done(where: Path, *arguments: object, **environment: str) -> str:
    process = indexer(where, *arguments, **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


def failed(code: int, where: Path, *arguments: object, stdout: bool = False) -> str:
    """What a command says that does its work and ends with an exit code."""
    process = indexer(where, *arguments)
    assert process.returncode == code, process
    return process.stdout if stdout else process.stderr


def refused(code: int, where: Path, *arguments: object, **environment: str) -> str:
    """The one line that a wrong call is answered with."""
    process = indexer(where, *arguments, **environment)
    assert (process.returncode, process.stdout) == (code, ""), process
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("indexer: ")
    return process.stderr
