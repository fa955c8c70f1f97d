"""The runs that AgentV itself publishes equal an independent reading of them, from git and from folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from indexer import open_index
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from tests import agentv_oracle as oracle
from tests.repos import git
from tests.worlds import World

BRANCH = "refs/heads/agentv/results/v1"


@pytest.fixture
def clone(world: World, shared: Path) -> Path:
    place = world.root / "own.git"
    git("clone", "--quiet", "--mirror", str(shared / "fixtures/agentv-own/results.bundle"), str(place))
    return place


def require(world: World, expected: list[dict[str, Any]]) -> None:
    """Every run, trial and score of the index is as expected, and there are no others."""
    found = {run["key"]: run for run in world.synced()}
    assert found.keys() == {run["key"] for run in expected}
    with open_index(world.db) as index:
        for run in expected:
            row = found[run["key"]]
            trials = run.pop("trials")
            assert {name: row[name] for name in run if name != "cost_usd"} == {
                name: value for name, value in run.items() if name != "cost_usd"
            }
            assert row["cost_usd"] == pytest.approx(run["cost_usd"])
            rows = index.trials(run["key"], limit=1000).trials
            assert sorted(by_test(rows, trials[0]), key=repr) == sorted(by_test(trials, trials[0]), key=repr)
    assert world.select("SELECT * FROM problems") == []


def by_test(trials: Sequence[Mapping[str, Any]], names: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: trial[name] for name in names} for trial in trials]


def test_every_published_run_is_read_as_agentv_wrote_it(world: World, clone: Path) -> None:
    checkout = world.root / "checkout"
    git("clone", "--quiet", "--branch", "agentv/results/v1", str(clone), str(checkout))
    files = (path for path in checkout.rglob("*") if path.is_file() and ".git" not in path.parts)
    tree = {str(path.relative_to(checkout)): path.read_bytes() for path in files}
    expected = list(oracle.runs(tree))
    assert len(expected) == 70
    assert sum(run["trial_count"] for run in expected) == 93  # of 91 rows, one of which was executed three times
    world.sources = [GitSource("team", clone)]
    require(world, list(oracle.runs(tree)))
    assert world.column("SELECT count(*) FROM runs WHERE sha IS NULL") == [0]
    world.sources = [FolderSource("local", checkout)]
    require(world, list(oracle.runs(tree)))


def test_trailers_of_published_runs_name_them(world: World, clone: Path) -> None:
    world.sources = [GitSource("team", clone)]
    log = git("-C", str(clone), "log", "--format=%(trailers:key=AgentV-Run,valueonly)", BRANCH)
    named = {line for line in log.splitlines() if line}
    world.sync()
    assert len(named) == 70
    with open_index(world.db) as index:
        assert {index.run(name)["run_id"] for name in named} == named
