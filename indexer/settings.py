"""`indexer.toml` and `INDEXER_*` variables as typed settings, and the sources they name.

Without a file, sources are found in the project's root: the folders that tools keep runs in, and the git
repository around it when one of its refs holds results.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pygit2
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentVariableError

from indexer.errors import SettingsError, SourceError
from indexer.formats import FOLDERS, UNLOADED, VERSIONS
from indexer.project import DB, Project
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.sources.kinds import RepoSettings, SourceSettings
from indexer.sources.repository import open_repository
from indexer.sources.settings import Strict


class Threshold(Strict):
    """The lowest score that passes where a format gives no verdict of its own."""

    agentv: float = Field(0.8, ge=0, le=1)
    pier: float = Field(1.0, allow_inf_nan=False)
    inspect: float = Field(1.0, allow_inf_nan=False)
    tasks: Mapping[str, Annotated[float, Field(allow_inf_nan=False)]] = Field({})
    """For Inspect tasks whose scores are on another scale."""


class Publish(Strict):
    """The shared index that this machine sends its runs to."""

    url: Annotated[str, Field(pattern=r"(?i)^postgres(ql)?://")] | None = None
    machine: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")] = os.uname().nodename
    sources: tuple[str, ...] = ()
    """Send only runs of these; empty means all."""


class Settings(BaseSettings):
    """The keys of `indexer.toml` that `project` does not parse; `INDEXER_ERRORS` and the like override them."""

    model_config = SettingsConfigDict(
        env_prefix="INDEXER_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True
    )

    errors: bool = True
    threshold: Threshold = Threshold()
    format: dict[str, dict[str, Any]] = {}
    aliases: dict[str, Annotated[str, Field(min_length=1)]] = {}
    source: tuple[Annotated[SourceSettings, Field(discriminator="kind")], ...] = ()
    repo: tuple[RepoSettings, ...] = ()
    publish: Publish = Publish()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file."""
        return env_settings, init_settings

    def options(self) -> Options:
        """The settings that decide how files are read."""
        return Options(
            agentv_threshold=self.threshold.agentv,
            pier_threshold=self.threshold.pier,
            inspect_threshold=self.threshold.inspect,
            inspect_tasks=dict(sorted(self.threshold.tasks.items())),
            errors=self.errors,
            formats=dict(sorted(self.format.items())),
            aliases=dict(sorted(self.aliases.items())),
        )


def load(project: Project) -> tuple[Settings, list[Source]]:
    """The settings of a project and its sources. Raises SettingsError, which names the key."""
    settings = _read(project)
    if project.config is None:
        sources = find_sources(project.root)
        if not sources:
            raise SettingsError(
                f"no runs found in {project.root}: no {_or(f'{folder}/' for folder in FOLDERS)}, and "
                f"{_why_not_git(project.root)}; change to a project's folder, or name sources in indexer.toml"
            )
        _require_outside(project.db, sources)
        _require_known(settings.publish, sources)
        return settings, sources
    if unknown := sorted(settings.format.keys() - VERSIONS.keys() - UNLOADED):
        raise SettingsError(
            f"{project.config}: format.{unknown[0]}: there is no such format; there are {', '.join(VERSIONS)}"
        )
    repos = [str(repo.path) for repo in settings.repo]
    names = [source.name for source in settings.source] + repos
    for name in names:
        if names.count(name) > 1:
            key = "repo.path" if name in repos else "source.name"
            raise SettingsError(f"{project.config}: {key}: two sources are called {name!r}")
    if not settings.source:
        raise SettingsError(f"{project.config}: source: name at least one [[source]]")
    sources = [each.source(project.root) for each in (*settings.source, *settings.repo)]
    _require_outside(project.db, sources)
    _require_known(settings.publish, sources)
    return settings, sources


def _require_known(publish: Publish, sources: Sequence[Source]) -> None:
    """Raises SettingsError if `publish.sources` names an unknown source: publishing removes the runs of all others."""
    if unknown := sorted(set(publish.sources) - {source.name for source in sources}):
        raise SettingsError(f"publish.sources: there is no source {unknown[0]!r}")


def _or(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}"


def _require_outside(db: Path, sources: Sequence[Source]) -> None:
    """Raises SettingsError if the index lies in a repository's own folder: sources are only read."""
    for source in sources:
        if source.keeps(db):
            raise SettingsError(f"{db} lies in the repository of source {source.name}; name another place with --db")


def find_sources(root: Path) -> list[Source]:
    """The sources found in a folder without settings."""
    sources: list[Source] = []
    folder = FolderSource("local", root)
    if folder.has_runs():
        sources.append(folder)
    try:
        git = _repository_around(root)
        if git is not None and git.has_runs():
            sources.append(git)
    except SourceError:
        pass  # an unreadable repository is only a source if the settings name it
    return sources


def _repository_around(root: Path) -> GitSource | None:
    """The repository that a folder lies in. Raises SourceError."""
    found = pygit2.discover_repository(str(root))
    if not found:
        return None
    return GitSource("git", Path(os.path.normpath(open_repository(Path(found)).workdir or found)))


def _why_not_git(root: Path) -> str:
    """Why the git repository around a folder is not a source."""
    try:
        git = _repository_around(root)
        if git is None:
            return "no git repository around it"
        git.open()
        return f"in git {git.nothing_found()}"
    except SourceError as error:
        return str(error)


def config_text(root: Path, sources: Sequence[Source], db: str = DB) -> str:
    """An `indexer.toml` in `root` that names the given sources."""
    lines = ["# What indexer reads; see docs/settings.md", f"db = {_toml(db)}", ""]
    for source in sources:
        path = os.path.relpath(source.place, root)
        lines += ["[[source]]", f'name = "{source.name}"', f'kind = "{source.kind}"', f"path = {_toml(path)}", ""]
    return "\n".join(lines)


def _toml(text: str) -> str:
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


def _read(project: Project) -> Settings:
    for key in sorted(project.content.keys() - Settings.model_fields.keys()):
        raise SettingsError(f"{project.config}: {key}: there is no such key")
    try:
        return Settings(**project.content)
    except EnvironmentVariableError as unreadable:
        raise SettingsError(f"environment: {unreadable}") from None
    except RecursionError:
        raise SettingsError("environment: an INDEXER_ variable is nested too deeply") from None
    except ValidationError as wrong:
        error = wrong.errors(include_url=False)[0]
        steps = list(error["loc"])
        if steps[:1] == ["source"]:
            del steps[2:3]  # its kind
        where = ".".join(map(str, steps)) or "settings"
        in_file = project.config is not None and str(steps[:1][0] if steps else "") in project.content
        variable = f"INDEXER_{'__'.join(map(str, steps)).upper()}"
        raise SettingsError(f"{f'{project.config}: {where}' if in_file else variable}: {_message(error)}") from None


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "union_tag_invalid":
        return f"kind {error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}"
    text = str(error["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
