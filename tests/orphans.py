"""Watchers that are killed while git waits for a remote that hangs: nothing of git may stay."""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.worlds import World

ALLOWED = 5.0
"""Seconds after which no process of a killed watcher may be left."""
_SETTINGS = '[[source]]\nname = "team"\nkind = "git"\nurl = "ssh://nowhere/results.git"\nfetch_every = "1s"\n'
# a git that has a helper of its own, as ssh is one; both say who they are
_HANGING = """#!/bin/sh
case "$*" in *ls-remote*|*fetch*) ;; *) exec {git} "$@" ;; esac
echo $$ >>"{told}"
sh -c 'echo $$ >>"{told}"; exec sleep 1000' &
wait
"""


def kill(root: Path, number: int, seed: int = 0) -> list[int]:
    """Kill so many watchers at random moments. Returns the processes that were left of them, which are ended."""
    world, chance, left = World(root), random.Random(seed), list[int]()
    told, hanging = root / "told", root / "bin" / "git"
    hanging.parent.mkdir()
    git = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    hanging.write_text(_HANGING.format(git=git, told=told))
    hanging.chmod(0o755)
    (root / "indexer.toml").write_text(_SETTINGS)
    environment = os.environ | {
        "PATH": f"{hanging.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(root / "cache")
    }  # fmt: skip
    code = "from indexer.cli.main import main; main()"
    command = [sys.executable, "-c", code, "watch", "--config", str(root / "indexer.toml"), "--db", str(world.db)]
    for _ in range(number):
        told.write_text("")
        watcher = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(told.read_text().split()) < chance.choice((1, 2)):
            assert watcher.poll() is None
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        watcher.kill()
        watcher.wait()
        end = time.monotonic() + ALLOWED
        while (alive := _alive(told)) and time.monotonic() < end:
            time.sleep(0.01)
        left += alive
        for process in alive:
            os.kill(process, 9)
    return left


def _alive(told: Path) -> list[int]:
    return [int(pid) for pid in told.read_text().split() if Path(f"/proc/{pid}").exists()]


def main(number: int) -> int:
    """Kill so many watchers, told on standard output. Returns 1 if anything was left."""
    with tempfile.TemporaryDirectory(prefix="orphans-") as folder:
        left = kill(Path(folder), number, time.time_ns())
    print(f"{number:,} watchers killed, {len(left):,} processes left after {ALLOWED:.0f} s")
    return 1 if left else 0
