"""The kinds of sources as `indexer.toml` names them: what each is told, and the source that it makes.

A new kind is a module beside this one, and a class here.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from indexer.formats import REFS
from indexer.project import expanded
from indexer.records import span_seconds
from indexer.sources import Source
from indexer.sources.agentevals import SCHEMA, AgentevalsSource
from indexer.sources.clone import CloneSource
from indexer.sources.commits import CommitSource
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource


def _span(text: str) -> str:
    span_seconds(text)
    return text


def _pause(text: str) -> str:
    return text if text == "0" else _span(text)


Span = Annotated[str, AfterValidator(_span)]
Pause = Annotated[str, AfterValidator(_pause)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s,][^\n,]*$")]


def _no_url(path: Path) -> Path:
    if re.match(r"[\w+.-]+:/", str(path)):
        raise ValueError('a folder on this machine is wanted; a repository elsewhere is of kind "git" with its url')
    return path


Place = Annotated[Path, AfterValidator(_no_url)]


class Strict(BaseModel):
    """Settings that take no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FolderSettings(Strict):
    """A project or one of its run folders on disk."""

    name: Name
    kind: Literal["folder"]
    path: Place

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        return FolderSource(self.name, _placed(root, self.path))


class GitSettings(Strict):
    """Refs of an existing clone, bare or not, or of a repository elsewhere, of which a clone is kept."""

    name: Name
    kind: Literal["git"]
    path: Place | None = None
    url: Annotated[str, Field(min_length=1, pattern=r"^[^-\s][^\n]*$")] | None = None
    fetch_every: Pause = "30s"
    refs: tuple[Annotated[str, Field(min_length=1)], ...] = Field(REFS, min_length=1)
    wip: bool = True

    @model_validator(mode="after")
    def _one_place(self) -> "GitSettings":
        if (self.path is None) == (self.url is None):
            raise ValueError("name either path or url")
        return self

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        if self.url is not None:
            pause = None if self.fetch_every == "0" else span_seconds(self.fetch_every)
            return CloneSource(self.name, self.url, self.refs, self.wip, pause)
        assert self.path is not None
        return GitSource(self.name, _placed(root, self.path), self.refs, self.wip)


def _variable(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("the name of an environment variable is wanted; a connection string itself is dsn")
    return name


class AgentevalsSettings(Strict):
    """The PostgreSQL database of agentevals: its connection string, or the environment variable that holds it."""

    name: Name
    kind: Literal["agentevals"]
    dsn_env: Annotated[str, AfterValidator(_variable)] | None = None
    dsn: SecretStr | None = None
    database_schema: Annotated[str, Field(alias="schema", pattern=r"^[A-Za-z_]\w{0,62}$")] = SCHEMA

    @model_validator(mode="after")
    def _one_place(self) -> "AgentevalsSettings":
        if (self.dsn_env is None) == (self.dsn is None):
            raise ValueError("name one of dsn_env and dsn")
        return self

    def source(self, root: Path) -> Source:
        """The source."""
        if self.dsn is not None:
            return AgentevalsSource(self.name, self.dsn.get_secret_value(), self.database_schema)
        missing = f"the environment variable {self.dsn_env} is not set"
        return AgentevalsSource(self.name, os.environ.get(self.dsn_env or "") or None, self.database_schema, missing)


SourceSettings = FolderSettings | GitSettings | AgentevalsSettings


def _commit_page(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s@]*\{sha\}[^\s@]*", text):
        raise ValueError("must start with http:// or https://, hold {sha} and no password")
    return text


class RepoSettings(Strict):
    """A code repository whose commits name runs."""

    path: Place
    web_url: Annotated[str, AfterValidator(_commit_page)] | None = None

    def source(self, root: Path) -> Source:
        """The source; paths are relative to `root`. Raises SettingsError."""
        return CommitSource(str(self.path), _placed(root, self.path), self.web_url)


def _placed(root: Path, path: Path) -> Path:
    return Path(os.path.normpath(root / expanded(path)))
