"""Large generated trees, with the truth that an index must reach."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.sources.objects import GitFolder
from tests.repos import RESULTS, git
from tests.worlds import World

pytestmark = pytest.mark.slow


def generate(shared: Path, place: Path, *arguments: object) -> list[dict[str, Any]]:
    tool = shared / "tools" / "gen_agentv_repo.py"
    truth = place.with_suffix(".truth")
    command = [sys.executable, tool, place, "--truth", truth, *arguments]
    subprocess.run([str(part) for part in command], check=True)
    return [json.loads(line) for line in truth.read_text().splitlines()]


def require(world: World, truth: list[dict[str, Any]]) -> None:
    runs = {run["run_id"]: run for run in world.select("SELECT * FROM runs")}
    assert len(runs) == len(truth)
    for fact in truth:
        run = runs[fact["run_id"]]
        for name, value in fact.items():
            if name == "targets":
                assert run["target"] == ", ".join(value)
            elif name == "tags":
                assert json.loads(run["tags"]) == value
            elif isinstance(value, float):
                assert run[name] == pytest.approx(value, rel=1e-9, abs=1e-6 if name == "cost_usd" else 0)
            else:
                assert run[name] == value, (name, fact["run_id"])


def test_runs_of_mixed_layouts_in_git(world: World, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = world.root / "generated.git"
    truth = generate(shared, repo, "--runs", 800, "--layout", "mixed")
    world.sources = [GitSource("team", repo)]
    world.sync()
    require(world, truth)
    adders = {}
    log = git("-C", str(repo), "log", "--reverse", "--format=%H %(trailers:key=AgentV-Run,valueonly)", RESULTS)
    for line in log.splitlines():
        sha, _, run_id = line.partition(" ")
        if run_id:
            adders[run_id] = sha
    assert {run["run_id"]: run["sha"] for run in world.select("SELECT run_id, sha FROM runs")} == adders

    opened: list[str] = []
    plain = GitFolder.read

    def read(self: GitFolder, path: str, limit: int) -> bytes | None:
        opened.append(self.path)
        return plain(self, path, limit)

    monkeypatch.setattr(GitFolder, "read", read)
    more = generate(shared, repo, "--append", 10, "--seed", 2, "--layout", "v3", "--start", 800)
    report = world.sync().sources[0]
    assert tuple(report.counts.values()) == (10, 0, 0)
    assert {path.removeprefix("metadata/") for path in opened} == {fact["path"] for fact in more}
    require(world, truth + more)
    world.synced()


REPEATS: list[tuple[str, tuple[object, ...]]] = [
    ("v6", ("--samples", 3, "--multi-target", 0)),  # in v6 the targets of a run write over each other's metrics
    ("v7", ("--samples", 3)),
    ("v9", ("--samples", 3)),
    ("v9", ("--samples", 3, "--repeat", "attempts", "--odd", 0.3)),
    ("v3", ("--odd", 0.3)),
    ("v6", ("--odd", 0.3)),
]
"""Executions in all three spellings, and runs named by hand whose files name another experiment than their path."""


@pytest.mark.parametrize(("layout", "arguments"), REPEATS)
def test_repeats_and_names_by_hand_in_git(
    world: World, shared: Path, layout: str, arguments: tuple[object, ...]
) -> None:
    repo = world.root / "generated.git"
    truth = generate(shared, repo, "--runs", 100, "--layout", layout, *arguments)
    world.sources = [GitSource("team", repo)]
    world.sync()
    require(world, truth)
    world.synced()


@pytest.mark.parametrize(("layout", "arguments"), [("v3", ()), ("v6", ()), ("v7", ()), ("v9", ()), *REPEATS])
def test_folders_of_each_layout(world: World, shared: Path, layout: str, arguments: tuple[object, ...]) -> None:
    place = world.root / "generated"
    truth = generate(shared, place, "--runs", 200, "--layout", layout, "--disk", *arguments)
    world.sources = [FolderSource("local", place)]
    world.sync()
    require(world, truth)
    report = world.sync().sources[0]
    assert tuple(report.counts.values()) == (0, 0, 0)
