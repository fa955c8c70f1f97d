"""Machines with indexes of their own that publish to one database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from indexer.shared.connection import connected
from indexer.shared.sending import Sender, Sent
from tests.agentevals import Server
from tests.repos import Repo
from tests.worlds import World


class Machine(World):
    """A world that publishes under a name; `repo` may be one that several share."""

    def __init__(self, root: Path, name: str, url: str, repo: Repo | None = None):
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)
        if repo is not None:
            self.repo = repo
            self.sources[0] = type(self.sources[0])("team", repo.path)  # type: ignore[call-arg]
        self.name, self.url = name, url

    def sender(self, *sources: str) -> Sender:
        order = {source.name: (source.rank, at) for at, source in enumerate(self.sources)}
        return Sender(self.db, self.name, order, sources)

    def publish(self, *sources: str) -> Sent:
        with connected(self.url) as connection:
            return self.sender(*sources).send(connection)

    def differences(self, *sources: str) -> list[str]:
        with connected(self.url) as connection:
            return self.sender(*sources).differences(connection)


def url_of(server: Server) -> str:
    """A new database, as people name it."""
    database = server.new(None)
    return f"postgresql:///{database.name}?host={server.folder}&user=postgres"


def asked(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), values or None).fetchall()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        yield database
