"""The building blocks of source settings; each kind's own settings are in its module."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from indexer.project import expanded
from indexer.records import span_seconds


def _span(text: str) -> str:
    span_seconds(text)
    return text


def _pause(text: str) -> str:
    return text if text == "0" else _span(text)


Pause = Annotated[str, AfterValidator(_pause)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s,][^\n,]*$")]


def _no_url(path: Path) -> Path:
    if re.match(r"[\w+.-]+:/", str(path)):
        raise ValueError('must be a folder on this machine; a remote repository has kind "git" and a url')
    return path


Place = Annotated[Path, AfterValidator(_no_url)]


class Strict(BaseModel):
    """Settings that reject unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def placed(root: Path, path: Path) -> Path:
    """A path of the settings, relative to `root`. Raises SettingsError."""
    return Path(os.path.normpath(root / expanded(path)))
