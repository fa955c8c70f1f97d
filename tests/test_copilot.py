"""copilot-experiments' own results tree, in all its generations."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from indexer.formats import copilot
from indexer.sources.folder import FolderSource
from tests.bundles import at
from tests.formats.memory import MemoryFolder
from tests.worlds import World

RUN = "20260105T090000Z_abc123"
PLACE = f"results/prompt-styles/{RUN}"
OWN = Path(__file__).parent / "fixtures/copilot"


def meta(number: int = 1, success: bool | None = True, **fields: Any) -> dict[str, Any]:
    return {"trial_no": number, "exit_code": 0, "duration_s": 2.5, "success": success} | fields


def metrics(**fields: Any) -> dict[str, Any]:
    return {"n_turns": 4, "n_tool_calls": 3, "n_tool_failures": 1, "models": ["m0", "m1"]} | fields


def run_json(variants: list[dict[str, Any]], status: str = "completed", **fields: Any) -> str:
    return json.dumps(
        {
            "run_id": RUN,
            "experiment_slug": "prompt-styles",
            "started_at": "2026-01-05T09:00:00.250000Z",
            "finished_at": "2026-01-05T09:01:00.250000Z",
            "git_base": "f" * 40,
            "status": status,
            "variants": variants,
        }
        | fields
    )


def variant(name: str = "Alpha One", **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": "m", "reasoning_effort": "low", "agent": None, "provider": None} | fields


def test_trials_under_the_variant_and_under_tasks(world: World) -> None:
    first = {"variant": variant(), "trials": [meta() | {"metrics": metrics()}, meta(2, False) | {"metrics": {}}]}
    world.write({f"{PLACE}/run.json": run_json([first]), f"{PLACE}/variants/alpha-one/variant.json": "{}"})
    (run,) = world.synced()
    assert (run["key"], run["format"], run["layout"]) == (
        f"copilot:prompt-styles/{RUN}",
        "copilot-experiments",
        "variants",
    )
    assert (run["status"], run["passed"], run["failed"], run["duration_s"]) == ("completed", 1, 1, 60.0)
    assert (run["target"], run["model"], run["code_sha"]) == ("Alpha One", "m, m1", "f" * 40)
    trials = world.select("SELECT * FROM trials ORDER BY trial")
    assert [(t["trial"], t["test_id"], t["suite"], t["attempt"], t["score"]) for t in trials] == [
        ("Alpha One/prompt-styles/001", "prompt-styles", None, 1, 1.0),
        ("Alpha One/prompt-styles/002", "prompt-styles", None, 2, 0.0),
    ]
    assert (trials[0]["turns"], trials[0]["tool_calls"], trials[0]["input_tokens"]) == (4, 3, None)
    assert world.column("SELECT name || ' ' || passed AS s FROM scores ORDER BY id") == ["verify 1", "verify 0"]
    tasks = [{"task_slug": "t1", "trials": [meta() | {"metrics": metrics(input_tokens=10, aiu=0.5)}]}]
    world.write({f"{PLACE}/run.json": run_json([{"variant": variant(), "tasks": tasks}], "partial")})
    (run,) = world.synced()
    assert (run["layout"], run["status"], run["input_tokens"]) == ("tasks", "completed", 10)
    assert world.column("SELECT trial FROM trials") == ["Alpha One/t1/001"]


def test_verdicts_and_states(world: World) -> None:
    trials = [
        meta(1, True, status="ok"),
        meta(2, False, status="copilot_failed", error="copilot exited 1"),
        meta(3, None, status="harness_error", error="RuntimeError: key FAKE-bearer-1 lost"),
        meta(4, None, status="copilot_failed"),
        meta(5, None),
    ]
    secret = variant(provider={"type": "openai", "bearer_token": "FAKE-bearer-1"}, env={"TOKEN": "FAKE-env-2"})
    world.write({f"{PLACE}/run.json": run_json([{"variant": secret, "trials": trials}], "failed")})
    (run,) = world.synced()
    assert run["status"] == "failed"
    rows = world.select("SELECT status, error_type, error, provider FROM trials ORDER BY attempt")
    assert [row["status"] for row in rows] == ["passed", "failed", "errored", "skipped", "skipped"]
    assert [row["error_type"] for row in rows] == [None, "copilot_failed", "harness_error", "copilot_failed", None]
    assert (rows[2]["error"], rows[2]["provider"]) == ("RuntimeError: key *** lost", "openai")
    assert "FAKE-" not in world.content()
    world.write({f"{PLACE}/run.json": run_json([], "running")})
    assert world.synced()[0]["status"] == "running"


def test_a_run_in_progress_has_only_the_files_of_its_trials(world: World) -> None:
    trial = f"{PLACE}/variants/alpha-one/tasks/t1/trials"
    world.write({f"{trial}/001/meta.json": json.dumps(meta()), f"{trial}/001/metrics.json": json.dumps(metrics())})
    world.write({f"{trial}/002/metrics.json": "{}", f"{trial}/001/workspace/run.json": "{}"})
    (run,) = world.synced()
    assert (run["key"], run["status"]) == (f"copilot:prompt-styles/{RUN}", "running")
    assert (run["timestamp"], run["passed"], run["ended_count"]) == ("2026-01-05T09:00:00.000Z", 1, 1)
    assert world.column("SELECT trial FROM trials ORDER BY trial") == ["alpha-one/t1/001", "alpha-one/t1/002"]
    world.write({f"{PLACE}/variants/alpha-one/variant.json": json.dumps(variant())})
    world.write({f"{trial}/002/meta.json": "{"})
    assert world.synced()[0]["target"] == "alpha-one"  # the last good rows
    assert world.column("SELECT path FROM problems") == [f"{trial}/002/meta.json"]
    world.write({f"{trial}/002/meta.json": json.dumps(meta(2, False))})
    (run,) = world.synced()
    assert (run["target"], run["passed"], run["failed"]) == ("Alpha One", 1, 1)


def test_an_error_waits_for_what_has_to_be_masked_in_it(world: World) -> None:
    told = {"error": "RuntimeError: my-own-word lost", "status": "harness_error"}
    world.write({f"{PLACE}/variants/v/trials/001/meta.json": json.dumps(meta() | told)})
    world.synced()
    assert world.column("SELECT error FROM trials") == [None]
    world.write({f"{PLACE}/variants/v/variant.json": json.dumps({"name": "v", "env": {"A_KEY": "my-own-word"}})})
    world.synced()
    assert world.column("SELECT error FROM trials") == ["RuntimeError: *** lost"]


def test_a_folder_of_a_trial_counts_once_it_has_a_file(world: World) -> None:
    trial = f"{PLACE}/variants/v/trials"
    world.write({f"{trial}/001/meta.json": json.dumps(meta())})
    assert world.synced()[0]["layout"] == "variants"
    world.write({f"{trial}/002/prompt.md": "-", f"{PLACE}/variants/v/tasks/t/trials/001/prompt.md": "-"})
    assert world.synced()[0]["layout"] == "variants"
    world.write({f"{PLACE}/run.json": run_json([])})
    assert world.synced()[0]["layout"] == "variants"


def test_a_run_id_used_by_two_experiments_gives_two_runs(world: World) -> None:
    world.write({f"{PLACE}/run.json": run_json([]), f"{PLACE}/variants/x/variant.json": "{}"})
    other = run_json([], experiment_slug="other")
    world.write({f"results/other/{RUN}/run.json": other})
    keys = [run["key"] for run in world.synced()]
    assert keys == [f"copilot:other/{RUN}", f"copilot:prompt-styles/{RUN}"]


def test_runs_in_git_and_its_history(world: World) -> None:
    sha = world.repo.commit(at(PLACE, {"run.json": run_json([{"variant": variant(), "trials": [meta()]}])}))
    (run,) = world.synced()
    assert (run["passed"], run["sha"]) == (1, sha)
    world.repo.commit({f"{PLACE}/run.json": "{"})
    assert world.synced()[0]["passed"] == 1
    assert world.column("SELECT path FROM problems") == [f"{PLACE}/run.json"]


def test_the_projects_own_fixture(world: World) -> None:
    world.sources = [FolderSource("local", OWN)]
    (run,) = world.synced()
    assert (run["passed"], run["failed"], run["errored"], run["input_tokens"]) == (2, 1, 1, 36000)


def test_every_trial_of_every_generation(world: World, shared: Path) -> None:
    shutil.rmtree(world.local)
    shutil.copytree(shared / "fixtures/copilot-lab", world.local)
    world.synced()
    assert world.column("SELECT count(*) FROM problems") == [0]
    for path in world.local.glob("results/*/*/run.json"):
        told = json.loads(path.read_text())
        trials = [
            trial
            for each in told["variants"]
            for group in [each, *each.get("tasks", [])]
            for trial in group.get("trials", [])
        ]
        key = f"copilot:{told['experiment_slug']}/{told['run_id']}"
        rows = world.select("SELECT t.* FROM trials t JOIN runs r ON r.id = t.run_pk WHERE r.key = ?", key)
        assert Counter((r["turns"], r["exit_code"], r["duration_s"]) for r in rows) == Counter(
            (t["metrics"]["n_turns"], t["exit_code"], t["duration_s"]) for t in trials
        )
        assert len(rows) == len(trials)
    expected = (shared / "fixtures/copilot-lab/expected_index.sql").read_text()
    for name, turns, calls, aiu in re.findall(
        r"INSERT INTO pier_trials VALUES\(\d+,(?:'[^']*',){5}'([^']+)',\w+,'\w+',(\w+),(\w+),\w+,([\w.]+)", expected
    ):
        (row,) = world.select("SELECT turns, tool_calls, aiu FROM trials WHERE trial = ?", name)
        assert [row["turns"], row["tool_calls"]] == [None if n == "NULL" else int(n) for n in (turns, calls)]
        assert row["aiu"] == (None if aiu == "NULL" else float(aiu))
    assert not [canary for canary in ("LEAK", "u:pw@h", "FAKE-") if canary in world.content()]


def test_trials_of_one_name_are_told_apart_and_large_files_are_read(world: World) -> None:
    same = [meta(1), meta(1, False), meta(1, padding="x" * (2 << 20))]
    world.write({f"{PLACE}/run.json": run_json([{"variant": variant(), "trials": same}])})
    world.synced()
    names = world.column("SELECT trial FROM trials ORDER BY trial")
    assert names == [f"Alpha One/prompt-styles/001{number}" for number in ("", "#2", "#3")]
    trial = f"{PLACE}/variants/alpha-one/tasks/t1/trials/001/meta.json"
    world.write({f"{PLACE.replace('abc123', 'def456')}/{trial.removeprefix(PLACE + '/')}": json.dumps(same[2])})
    world.synced()
    assert world.column("SELECT message FROM problems") == []
    assert world.column("SELECT count(*) FROM runs") == [2]


@pytest.mark.parametrize(
    ("path", "key"), [("results/styles/r1", "copilot:styles/r1"), ("styles/r1", "copilot:styles/r1"), ("r1", None)]
)
def test_a_run_that_cannot_be_read_is_known_by_its_names(path: str, key: str | None) -> None:
    assert copilot.key_from_names(MemoryFolder({f"{path}/run.json": "{"}, path)) == key
