"""Tells what a folder on disk is: a project, where only the parts that tools keep runs in are searched; one such part;
or a checkout of a results repository."""

import os
from collections.abc import Collection
from pathlib import Path

from indexer.changes import is_within
from indexer.errors import SourceError
from indexer.formats import FOLDERS, PUBLISHED, recognise
from indexer.project import CONFIG
from indexer.protocols import Unreadable
from indexer.sources import walkable
from indexer.sources.disk import root_folder

_MARKS = (*sorted({path.partition("/")[0] for path in FOLDERS if path.startswith(".")}), ".git", CONFIG)
"""What makes a folder a project."""
_INDEX = "results"
"""The part that may exist only because it holds the index."""


def parts(place: Path) -> tuple[str, ...]:
    """The folders inside that runs lie in; the empty path stands for the place itself."""
    if any(os.path.lexists(place / mark) for mark in _MARKS):
        return ("",) if not parts_there(place) and is_checkout(place) else FOLDERS
    if place.name in FOLDERS or not any(os.path.lexists(place / part) for part in FOLDERS):
        return ("",)
    return FOLDERS


def parts_there(place: Path) -> list[str]:
    """The parts of a project that are there."""
    there = [part for part in FOLDERS if os.path.isdir(place / part)]
    return [part for part in there if part != _INDEX or _has_folders(place / part)]


def nothing_found(place: str, looked_into: Collection[str], searched: Collection[str]) -> str:
    """A message about a folder without runs: where we looked, and what is there instead."""
    there = [part for part in looked_into if os.path.isdir(f"{place}/{part}")]
    looked = " and ".join(f"{part or '.'}/" for part in looked_into)
    if not there:
        return f"no runs: looked for {looked} in {place}, and none is there"
    folders = sum(is_within(path, part) or not part for path in searched for part in there)
    return f"no runs: looked into {looked} in {place}; none of {folders:,} folders holds a run of a known tool"


def is_checkout(place: Path) -> bool:
    """Whether it is a checkout of a results repository, in which runs lie directly or where formats publish them."""
    if not os.path.lexists(place / ".git"):
        return False
    try:
        root = root_folder(str(place))
        names = [name for name in root.folders() if walkable(name)]
        published = any(root.find(path) is not None for path in PUBLISHED)
        return published or any(recognise(child) for name in names if (child := root.find(name)))
    except (Unreadable, SourceError):
        return False


def _has_folders(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False
