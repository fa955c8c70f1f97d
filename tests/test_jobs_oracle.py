"""Every trial of real and generated jobs equals an independent reading of its files."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from indexer import open_index
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from tests import pier_oracle as oracle
from tests.repos import Repo
from tests.worlds import World

FIXTURES = ("pier/jobs", "pier/jobs-harbor", "harbor-0.26/1-multistep-step-error/jobs",
            "harbor-0.26/3-broken-trajectory/jobs", "harbor-0.26/5-model-name-while-running/jobs")  # fmt: skip


def require(world: World, jobs: Path) -> int:
    """Every trial of the jobs in a folder; returns how many there are."""
    count = 0
    runs = {run["path"].rpartition("/")[2]: run for run in world.synced()}
    with open_index(world.db) as index:
        for job in sorted(jobs.iterdir()):
            expected = oracle.trials(job)
            found = {t["trial"]: t for t in index.trials(runs[job.name]["key"], limit=1000).trials}
            assert found.keys() == expected.keys()
            for name, trial in expected.items():
                assert seen(found[name], trial) == trial, (job.name, name)
            count += len(expected)
    return count


def seen(row: Mapping[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in wanted}
    if "scores" in wanted:
        found["scores"] = [(score["name"], score["score"]) for score in row["scores"]]
    return found


@pytest.mark.parametrize("name", FIXTURES)
def test_jobs_of_the_real_tools(world: World, shared: Path, name: str) -> None:
    jobs = shared / "fixtures" / name
    shutil.copytree(jobs, world.local / "jobs")
    for twice in ("p-live-snapshot", "p-resumed-before"):
        shutil.rmtree(world.local / "jobs" / twice, ignore_errors=True)  # another state of a job that is there
    assert require(world, world.local / "jobs")


def test_a_failed_step_makes_its_trial_errored(world: World, shared: Path) -> None:
    shutil.copytree(shared / "fixtures" / FIXTURES[2], world.local / "jobs")
    (run,) = world.synced()
    assert (run["passed"], run["errored"], run["trial_count"], run["pass_rate"]) == (1, 2, 3, pytest.approx(1 / 3))
    assert (run["cost_usd"], run["input_tokens"]) == (pytest.approx(0.4), 400)
    kinds = world.column("SELECT error_type FROM trials WHERE status = 'errored' ORDER BY error_type")
    assert kinds == ["AgentAuthenticationError", "RewardFileNotFoundError"]


def test_one_model_has_one_name_while_it_runs_and_when_it_has_finished(world: World, shared: Path) -> None:
    shutil.copytree(shared / "fixtures" / FIXTURES[4], world.local / "jobs")
    world.sync()
    assert world.column("SELECT DISTINCT model FROM trials") == ["anthropic/claude-x"]
    assert world.column("SELECT DISTINCT target FROM trials WHERE status <> 'running'") == [
        "fake-llm/anthropic/claude-x"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("flavor", ["pier", "harbor"])
def test_generated_jobs_from_folders_and_from_git(world: World, shared: Path, flavor: str) -> None:
    place = world.local / "jobs"
    shares = ("inflight", "cancelled", "legacy", "errors", "multistep", "no-verifier")
    command = [sys.executable, shared / "tools/gen_pier_jobs.py", place, "--jobs", 60, "--trials", 8]
    command += ["--flavor", flavor, *(part for share in shares for part in (f"--{share}", 0.15))]
    subprocess.run([str(part) for part in command], capture_output=True, check=True)
    assert require(world, place) > 300
    repo = Repo(world.root / "jobs.git")
    repo.commit({str(p.relative_to(world.local)): p.read_bytes() for p in world.local.rglob("*") if p.is_file()})
    world.db.unlink()
    world.sources = [GitSource("team", repo.path)]
    assert require(world, place) > 300
    world.sources = [FolderSource("local", place)]
    assert require(world, place) > 300
