"""Real output of four AgentV versions holds the facts that were checked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from tests.repos import git
from tests.worlds import World

VERSIONS = ("v4.42.4", "v5.0.0-next.1", "2026-07-02", "v5.3.1")
OWN = Path(__file__).parent / "fixtures" / "agentv"


def facts(run: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: json.loads(run[name]) if name == "tags" else run[name] for name in names}


def require(world: World, expected: list[dict[str, Any]]) -> None:
    rows = {run["run_id"]: run for run in world.synced()}
    for fact in expected:
        assert facts(rows.pop(fact["run_id"]), fact) == fact
    assert all(run["status"] == "running" for run in rows.values())  # seen in a WIP ref only


def sources(world: World, shared: Path, version: str) -> list[Source]:
    fixtures = shared / "fixtures" / "agentv" / version
    clone = world.root / "clone.git"
    git("clone", "--quiet", "--mirror", str(fixtures / "results-repo.bundle"), str(clone))
    return [GitSource("team", clone), FolderSource("local", fixtures / "local-results")]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_place_alone(world: World, shared: Path, version: str) -> None:
    truth = json.loads((shared / "fixtures" / "truth.json").read_text())["agentv"][version]
    for name, source in zip(("git", "local"), sources(world, shared, version), strict=True):
        world.sources = [source]
        require(world, truth[name])
        assert world.column("SELECT count(*) FROM problems") == [0]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_places_at_once_are_one_row_with_two_places_and_the_tags_of_both(
    world: World, shared: Path, version: str
) -> None:
    truth = json.loads((shared / "fixtures" / "truth.json").read_text())["agentv"][version]
    world.sources = sources(world, shared, version)
    runs = {run["run_id"]: run for run in world.synced()}
    names = {place: {fact["run_id"]: fact for fact in truth[place]} for place in ("git", "local")}
    assert runs.keys() == names["git"].keys() | names["local"].keys()
    for run_id, run in runs.items():
        known = [facts[run_id] for facts in names.values() if run_id in facts]
        places = world.column("SELECT source FROM places WHERE run_key = ? ORDER BY source", run["key"])
        expected = ["local"] * (run_id in names["local"]) + ["team"] * (
            run_id in names["git"] or run_id.startswith("interrupted")
        )
        assert places == expected
        assert json.loads(run["tags"]) == sorted({tag for fact in known for tag in fact["tags"]})
        for column in ("passed", "failed", "errored", "status", "timestamp", "avg_score"):
            assert run[column] == known[-1][column]


def test_the_projects_own_fixtures(world: World) -> None:
    clone = world.root / "clone.git"
    git("clone", "--quiet", "--mirror", str(OWN / "results-repo.bundle"), str(clone))
    world.sources = [GitSource("team", clone), FolderSource("local", OWN / "local-results")]
    runs = {run["run_id"]: run for run in world.synced()}
    assert len(runs) == 8
    assert runs["baseline::2026-11-21T05-35-23-788Z"]["tags"] == '["baseline", "v2 prompt"]'
    assert runs["with_skills::2026-11-21T05-35-22-721Z"]["tags"] == '["regression", "slow"]'
    assert runs["interrupted::2026-11-21T05-37-30-281Z"]["status"] == "running"
    assert runs["interrupted::2026-11-21T05-37-30-281Z"]["source"] == "local"
    assert runs["2026-11-21T05-35-24-727Z"]["status"] == "failed"
    (error,) = world.select("SELECT DISTINCT error_type, error FROM trials WHERE status = 'errored'")
    assert error == {"error_type": "provider_error", "error": "CLI exited with code 3"}
