"""Machines that publish while their senders and the server are killed, until nobody is: `round_` is one such time.

python -m tests.shared.team DB MACHINE URL SOURCES sends an index in small batches: what is killed.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from indexer.errors import IndexerError
from indexer.shared import part, sending
from indexer.shared.connection import connected
from tests.agentevals import Server, server
from tests.shared.changes import NAMES, Change, require_union, team
from tests.shared.machines import Machine, url_of

ROOT = Path(__file__).resolve().parent.parent.parent


def round_(folder: Path, server: Server, seed: int, kills: int, crashes: int) -> Counter[str]:
    """Changes, senders of which some are killed, and crashes of the server; then everybody sends, and it is right."""
    happens = random.Random(seed)
    url = url_of(server)
    machines = team(folder, url)
    change = Change(happens, machines)
    done = Counter[str]()
    crash_at = set(happens.sample(range(kills), min(crashes, kills)))
    for number in range(kills):
        for _ in range(happens.randrange(1, 6)):
            change.happen()
            done["changes"] += 1
        senders = []
        for name in happens.sample(NAMES, happens.randrange(1, 4)):
            machines[name].sync()
            senders.append(_started(machines[name]))
        time.sleep(happens.uniform(0.15, 0.7))
        if number in crash_at:
            server.crash()
            done["crashes of the server"] += 1
        for sender in senders:
            if sender.poll() is None:
                sender.send_signal(signal.SIGKILL)
                done["kills of senders"] += 1
            sender.wait(20)
        if number in crash_at:
            server.start()
    for machine in machines.values():
        machine.sync()
        _published(machine)
    require_union(machines, url)
    for machine in machines.values():
        assert machine.differences() == []
        assert machine.publish().sent == 0
    done["rounds"] += 1
    return done


def main(kills: int, seed: int) -> int:
    """So many rounds with a kill or several each, of which a tenth crashes the server; prints what was covered."""
    with tempfile.TemporaryDirectory(prefix="team-") as folder, server() as crashing:
        done = round_(Path(folder), crashing, seed, kills, kills // 10)
    for what, count in done.most_common():
        print(f"{count:8,} {what}")
    return 0


def _started(machine: Machine) -> "subprocess.Popen[bytes]":
    order = json.dumps({source.name: (source.rank, at) for at, source in enumerate(machine.sources)})
    command = [sys.executable, "-m", "tests.shared.team", str(machine.db), machine.name, machine.url, order]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def _published(machine: Machine) -> None:
    """Send as soon as the server takes it: after a crash it recovers first."""
    end = time.monotonic() + 60
    while True:
        try:
            machine.publish()
            return
        except IndexerError:
            assert time.monotonic() < end
            time.sleep(0.2)


if __name__ == "__main__":
    db, name, url, order = sys.argv[1:]
    part.BATCH = 2
    with connected(url) as connection:
        while True:
            sending.Sender(Path(db), name, json.loads(order)).send(connection)
            time.sleep(0.01)
