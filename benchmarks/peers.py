"""How long other tools take over HTTP for the first page of their lists of runs, which ours is compared with.

`scripts/peers` installs them. Each is started, asked, and stopped again. AgentV's dashboard listens on all
interfaces, so it lives in a network namespace of its own; the others listen on loopback.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parents[1] / ".peers"
_PATIENCE = 300.0  # seconds until a server must answer


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with a list of runs: the command that starts it (`{port}` and `{place}` are filled in), its query."""

    name: str
    command: tuple[str, ...]
    query: str
    runs: str  # the key of the list in its answer
    alone: bool = False  # in a network namespace of its own


_AGENTV = (str(PEERS / "node_modules/.bin/agentv"), "dashboard", "--single", "--port", "{port}")
AGENTV = Peer("agentv 4.42.4", _AGENTV, "/api/runs?limit=50", "runs", alone=True)
VIEWERS = tuple(
    Peer(f"{name} view {version}", (str(PEERS / f"python/bin/{name}"), "view", "{place}/jobs", "--jobs", "--no-build",
         "--port", "{port}"), "/api/jobs?page_size=50", "items")
    for name, version in (("pier", "0.3.1"), ("harbor", "0.26.0"))
)  # fmt: skip


def installed() -> bool:
    return all(Path(peer.command[0]).exists() for peer in (AGENTV, *VIEWERS))


def first_page(peer: Peer, place: Path, rounds: int) -> tuple[float, int]:
    """Seconds of the median request of a warm server with `place` as its folder, and the runs in its answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [part.format(port=port, place=place) for part in peer.command]
    ask = [sys.executable, "-m", "benchmarks.peers", str(place), str(port), peer.query, str(rounds), *arguments]
    if peer.alone:
        inside = 'ip link set lo up && exec "$0" "$@"'
        ask = ["unshare", "--map-root-user", "--net", "sh", "-c", inside, *ask]
    answer = json.loads(subprocess.run(ask, check=True, stdout=subprocess.PIPE, text=True).stdout)
    times = sorted(answer["seconds"])
    return times[len(times) // 2], len(answer["body"][peer.runs])


def agentv_project(place: Path, clone: Path | None = None) -> Path:
    """A project folder whose list of runs is that of a clone of a results repository, or without one, its own."""
    (place / ".agentv").mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "--quiet", place], check=True)
    if clone:
        settings = f"results:\n  mode: github\n  repo_path: {clone}\n  branch: agentv/results/v1\n"
        (place / ".agentv/config.yaml").write_text(settings)
    return place


def _ask(place: str, port: str, query: str, rounds: str, *command: str) -> dict[str, Any]:
    """Start a server in `place`, ask it once to warm it, then for the times."""
    environment = os.environ | {"HOME": f"{place}/home", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    Path(environment["HOME"]).mkdir(exist_ok=True)
    server = subprocess.Popen(
        command, cwd=place, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}{query}"
    try:
        _get_when_up(url, server)
        seconds = []
        for _ in range(int(rounds)):
            began = time.perf_counter()
            body = _get(url)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds, "body": json.loads(body)}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _get_when_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    began = time.monotonic()
    while True:
        try:
            _get(url)
        except OSError:
            if server.poll() is not None or time.monotonic() - began > _PATIENCE:
                raise
            time.sleep(0.1)
        else:
            return


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
        return bytes(answer.read())


def main(arguments: Sequence[str]) -> None:
    print(json.dumps(_ask(*arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
