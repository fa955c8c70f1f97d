"""Forks a process for each command that it is told of on standard input, and prints the exit code."""

import gc
import json
import os
import sys
import time
import traceback
from importlib import import_module
from typing import Any

from indexer.cli.main import main

for _module in ("cli.commands", "files", "passes.check", "passes.sync", "settings", "shared.sending", "project"):
    import_module(f"indexer.{_module}")
for _module in ("rich.console", "rich.table", "typer.rich_utils"):
    import_module(_module)


def serve() -> None:
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(told: dict[str, Any]) -> None:
    """One command in the forked process, which ends here."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(told["files"], 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["environment"])
    time.tzset()
    sys.argv = told["words"]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
