import os
from pathlib import Path

import pytest

from tests.worlds import World

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the user's settings and cache, nor the git repository that a hook may run it in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in list(os.environ):
        if name.startswith(("INDEXER_", "GIT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with output of the real tools and generators, which lies beside the project where it is developed."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip("no ../shared with the full fixtures here")
    return SHARED
