"""Runs each command in docs/questions.md in the playground and writes what it prints under it.

python -m tests.questions PAGE PROJECT COMMAND
"""

import re
import subprocess
import sys
from pathlib import Path

_BLOCK = re.compile(r"```console\n(\$ ([^\n]+)\n)(?:.*?)```", re.DOTALL)


def renewed(text: str, project: Path, command: Path) -> str:
    """The page with the output of its commands, which begin with `indexer`."""

    def run(block: re.Match[str]) -> str:
        words = f"{command}{block[2].removeprefix('indexer')}"
        done = subprocess.run(words, shell=True, cwd=project, capture_output=True, text=True, check=True)
        said = done.stdout.replace(str(project.parent.parent), "…")
        return f"```console\n{block[1]}{said.rstrip()}\n```"

    return _BLOCK.sub(run, text)


if __name__ == "__main__":
    page, project, command = map(Path, sys.argv[1:])
    page.write_text(renewed(page.read_text(), project.resolve(), command.resolve()))
