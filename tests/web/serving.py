"""`indexer serve` as a process, and what it answers."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.commands import COMMAND
from tests.worlds import SETTINGS, World


def configured(world: World) -> Path:
    """A settings file for the sources of a world."""
    config = world.root / "indexer.toml"
    config.write_text(SETTINGS.format(db=world.db, repo=world.repo.path, local=world.local))
    return config


class Answer:
    """What came back for one request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A server on loopback; stopped by its process id."""

    def __init__(self, *command: str | Path, cwd: Path | None = None):
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the object
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            cwd=cwd,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.stop()[1])
        self.address = line.strip().rstrip("/")
        self._place = urlsplit(self.address).netloc

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> tuple[int, str]:
        """The exit code, and what it complained about."""
        if self.process.poll() is None:
            self.process.terminate()
        if self._complaints.closed:
            return self.process.returncode, ""
        self.process.communicate(timeout=20)
        with self._complaints:
            self._complaints.seek(0)
            return self.process.returncode, self._complaints.read()

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request; header names have `_` for `-`."""
        connection = HTTPConnection(self._place, timeout=20)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def serving(world: World) -> Server:
    """The index of a world, served with its settings."""
    return Server(COMMAND, "serve", "--config", configured(world))
