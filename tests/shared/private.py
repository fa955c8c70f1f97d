"""A PostgreSQL of the playground's own, to which it publishes, until it is interrupted.

python -m tests.shared.private COMMAND PROJECT
"""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.agentevals import server
from tests.shared.machines import url_of


def main(command: Path, project: Path) -> None:
    """Publish the project's index, show what is there, and stay."""
    with server() as running:
        url = url_of(running)
        subprocess.run([command, "publish", url], cwd=project, check=True)
        print(f"\n$ indexer runs --limit 5 --db '{url}'", flush=True)
        subprocess.run([command, "runs", "--limit", "5", "--db", url], cwd=project, check=True)
        print(f"\nA private PostgreSQL runs until Ctrl-C. Try --db '{url}' with any command that reads.", flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
