"""Finds a project's root, settings file and index: what every command needs first.

The settings file is read here, once. Only `db` and `stale_after` are parsed here, so that read-only commands start
without loading what only writers need; `settings` parses the rest.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import SettingsError
from indexer.records import span_seconds

if TYPE_CHECKING:
    from typing import TypeGuard

CONFIG = "indexer.toml"
DB = "results/index.db"
SHARED = ("postgresql://", "postgres://")
"""How the URL of a shared index begins."""
_NO_FILE = re.compile(r"\w[\w+.-]*:/|(^|\s)password\s*=", re.IGNORECASE)
"""Matches what looks like a connection string rather than a file; it may hold a password."""
RUN_FOLDERS = ("jobs", "logs", "results", ".agentv/results")
"""Where the tools of the built-in formats keep runs: these folders mark a project's root without settings."""


@dataclass(frozen=True, slots=True)
class Project:
    """`root` is the folder of the settings file, else the nearest one with an index or runs, else the current one.

    `config` is None without a file.

    `content` is the rest of the file, without `db` and `stale_after`; `shared` is the URL of a shared index to read
    instead of `db`.
    """

    root: Path
    config: Path | None
    db: Path
    stale_after: int  # seconds
    content: Mapping[str, Any] = field(default_factory=dict)
    shared: str | None = None

    @property
    def index(self) -> str | Path:
        """What reading commands open."""
        return self.shared or self.db


def find_project(config: Path | None = None, db: str | Path | None = None) -> Project:
    """The project around the current folder: that of the nearest settings file, else the nearest folder with runs.

    Options override `INDEXER_*`, which override the settings file.

    Raises SettingsError if a named file is missing or cannot be read, or if a value is wrong.
    """
    named = config or _environment_path("INDEXER_CONFIG")
    if named is not None and not named.is_file():
        raise SettingsError(f"{named}: there is no such settings file")
    here = Path.cwd()
    path = (
        named.absolute() if named else next((p / CONFIG for p in (here, *here.parents) if (p / CONFIG).is_file()), None)
    )
    root = path.parent if path else _root_around(here)
    content = _read(path) if path else {}
    scalars = {key: _text(path, key, content.pop(key)) for key in ("db", "stale_after") if key in content}
    in_file = scalars.get("db", DB)
    for where, name in (("--db", db), ("INDEXER_DB", os.environ.get("INDEXER_DB")), (f"{path}: db", in_file)):
        if name is not None and _NO_FILE.search(str(name)) and (where.endswith(": db") or not is_shared(name)):
            if where.endswith(": db"):
                raise SettingsError(f"{where}: not a file; name a shared index with --db or INDEXER_DB")
            raise SettingsError(f"{where}: neither a file nor postgresql://…")
    shared = next((name for name in (db, os.environ.get("INDEXER_DB")) if name), None)
    shared = shared if is_shared(shared) else None
    if shared is not None and shared == db:
        require_no_password("--db", shared)
    chosen = Path(db).absolute() if db and not is_shared(db) else None
    if chosen is None and (path_from_environment := _environment_path("INDEXER_DB")) and shared is None:
        chosen = path_from_environment.absolute()
    if chosen is None:
        chosen = root / expanded(in_file)
    from_environment = os.environ.get("INDEXER_STALE_AFTER")
    stale_after = from_environment or scalars.get("stale_after", "1h")
    try:
        return Project(root, path, Path(os.path.realpath(chosen)), span_seconds(stale_after), content, shared)
    except ValueError as error:
        where = "INDEXER_STALE_AFTER" if from_environment else f"{path}: stale_after"
        raise SettingsError(f"{where}: {error}") from None


def is_shared(place: object) -> "TypeGuard[str]":
    """Whether an index is given as the URL of a PostgreSQL database."""
    return isinstance(place, str) and place.lower().startswith(SHARED)


def require_no_password(option: str, url: str) -> None:
    """Raises SettingsError for a password: everybody on the machine can see a command line."""
    from indexer.postgresql import address

    if address(url).has_password:
        raise SettingsError(
            f"{option}: other users can see a password on the command line; use PGPASSFILE, a service, or a variable: "
            "INDEXER_DB, INDEXER_PUBLISH__URL"
        )


def _root_around(here: Path) -> Path:
    """The nearest folder that holds an index or folders of runs, up to the root of the git worktree; else `here`.

    The home folder and `/` count only as the current folder: such folders there usually belong to other programs.
    """
    home = Path("~").expanduser()
    for folder in (here, *here.parents):
        if folder != here and folder in (home, folder.parent):
            break
        if (folder / DB).is_file() or any(_may_hold_runs(folder / name) for name in RUN_FOLDERS):
            return folder
        if (folder / ".git").exists():
            break
    return here


def _may_hold_runs(folder: Path) -> bool:
    """Whether a folder holds anything that may be a run: a folder or an Inspect log."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() or entry.name.endswith(".eval") for entry in entries)
    except OSError:
        return False


def expanded(path: str | Path) -> Path:
    """A path of the settings with `~` expanded. Raises SettingsError."""
    try:
        if "\0" in str(path):
            raise SettingsError(f"path {str(path)!r} holds a NUL character")
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingsError(f"path {path}: there is no such user") from None


def _environment_path(name: str) -> Path | None:
    return Path(value) if (value := os.environ.get(name)) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except RecursionError:
        raise SettingsError(f"{path}: it is nested too deeply") from None
    except ValueError as error:  # invalid TOML or UTF-8, or a number too large
        raise SettingsError(f"{path}: {error}") from None


def _text(path: Path | None, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{path}: {key}: must be text")
    return value
