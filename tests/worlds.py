"""A project to try things on: sources, an index, and its comparison with a rebuild."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from indexer.passes import sync as passes
from indexer.passes.check import check
from indexer.passes.walk import Report
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from tests.repos import Repo

Row = dict[str, Any]
SETTINGS = """
db = "{db}"
[[source]]
name = "team"
kind = "git"
path = "{repo}"
[[source]]
name = "local"
kind = "folder"
path = "{local}"
"""
"""Settings for the sources of a world, to be filled in with `db`, `repo` and `local`."""


class World:
    """A results repository `repo` and a folder `local` in a temporary place, and one index over them."""

    def __init__(self, root: Path):
        self.root = root
        self.db = root / "index" / "index.db"
        self.repo = Repo(root / "results.git")
        self.local = root / "local-results"
        self.local.mkdir()
        self.options = Options()
        self.sources: list[Source] = [GitSource("team", self.repo.path), FolderSource("local", self.local)]

    def write(self, files: Mapping[str, str]) -> None:
        """Write files below `local`."""
        for name, text in files.items():
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def sync(self) -> Report:
        return passes.sync(self.db, self.sources, self.options)

    def rebuild(self) -> Report:
        return passes.rebuild(self.db, self.sources, self.options)

    def synced(self, query: str = "SELECT * FROM runs ORDER BY key") -> list[Row]:
        """Sync, require that the index equals a rebuild, and select."""
        self.sync()
        differences = check(self.db, self.sources, self.options)
        assert not differences, differences
        return self.select(query)

    def select(self, query: str, *parameters: Any) -> list[Row]:
        database = sqlite3.connect(self.db)
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute(query, parameters)]
        finally:
            database.close()

    def execute(self, statement: str) -> None:
        """Change the index by hand."""
        with closing(sqlite3.connect(self.db, isolation_level=None)) as database:
            database.execute(statement)

    def content(self) -> str:
        """Everything that the index and its log hold, to look for what must not be there."""
        return b"".join(path.read_bytes() for path in self.db.parent.iterdir()).decode("latin-1")

    def column(self, query: str, *parameters: Any) -> list[Any]:
        return [next(iter(row.values())) for row in self.select(query, *parameters)]


def lacking(what: str) -> NoReturn:
    """Skip a test that needs something of the machine; where all of it has to be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"there is no {what}")
    pytest.skip(f"needs {what}")
