"""Job folders as they live: trials that end, retries, resumes, copies, torn files, and the same in git."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from indexer.sources.disk import DiskFolder
from indexer.sources.folder import FolderSource
from tests.bundles import at
from tests.jobs import JOB_ID, job, result, trial
from tests.worlds import World

KEY = f"pier:{JOB_ID}"
LIVE: dict[str, Any] = {"finished": False, "stats": {"n_running_trials": 1, "n_completed_trials": 1}}


def one(world: World) -> dict[str, Any]:
    (run,) = world.synced()
    return run


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened on disk."""
    opened: list[str] = []
    plain = DiskFolder.read

    def read(self: DiskFolder, path: str, limit: int) -> bytes | None:
        if self.size(path) is not None:
            opened.append(path)
        return plain(self, path, limit)

    monkeypatch.setattr(DiskFolder, "read", read)
    return opened


def test_a_job_that_runs_ends_and_is_resumed(world: World) -> None:
    world.write(at("jobs/j", job({"a__aaaaaaa": trial(), "b__bbbbbbb": ""}, **LIVE)))
    run = one(world)
    assert (run["status"], run["ended_count"], run["running_count"], run["finished_at"]) == ("running", 1, 1, None)
    world.write(at("jobs/j", {"b__bbbbbbb/result.json": trial("b", 0.0), "result.json": result()}))
    run = one(world)
    assert (run["status"], run["passed"], run["failed"], run["running_count"]) == ("completed", 1, 1, 0)
    shutil.rmtree(world.local / "jobs/j/b__bbbbbbb")
    world.write(at("jobs/j", job({"a__aaaaaaa": trial(), "b__ccccccc": ""}, **LIVE)))
    run = one(world)
    assert (run["key"], run["status"], run["ended_count"], run["failed"]) == (KEY, "running", 1, 0)


def test_a_retried_trial_replaces_its_row(world: World) -> None:
    world.write(at("jobs/j", job({"a__aaaaaaa": trial(reward=None, error="RuntimeError")}, **LIVE)))
    assert one(world)["errored"] == 1
    shutil.rmtree(world.local / "jobs/j/a__aaaaaaa")
    run = one(world)
    assert (run["errored"], run["trial_count"]) == (0, 0)
    world.write(at("jobs/j", {"a__aaaaaaa/config.json": "{}", "a__aaaaaaa/result.json": trial()}))
    assert one(world)["passed"] == 1
    assert world.column("SELECT error_type FROM trials") == [None]


def test_a_killed_job_stays_as_it_is(world: World) -> None:
    world.write(at("jobs/j", job({"a__aaaaaaa": trial(), "b__bbbbbbb": ""}, **LIVE)))
    before = one(world)
    assert one(world) == before
    assert before["status"] == "running"


def test_one_changed_trial_costs_reading_it_and_the_job(world: World, reads: list[str]) -> None:
    names = [f"t{n:03}__aaaaaaa" for n in range(300)]
    world.write(at("jobs/j", job({name: trial(name) for name in names}, total=300)))
    world.sync()
    ids = {row["trial"]: row["id"] for row in world.select("SELECT id, trial FROM trials")}
    scores = world.column("SELECT max(id) FROM scores")[0]
    reads.clear()
    world.write(
        {"jobs/j/t007__aaaaaaa/result.json": trial("t007__aaaaaaa", 0.25), "jobs/j/result.json": result(total=300)}
    )
    world.sync()
    trials_read = [path for path in reads if "/" in path]
    assert set(trials_read) == {"t007__aaaaaaa/result.json"}
    assert {path for path in reads if "/" not in path} == {"result.json", "lock.json", "config.json"}
    after = {row["trial"]: row["id"] for row in world.select("SELECT id, trial FROM trials")}
    assert after == ids
    assert world.column("SELECT count(*) FROM scores WHERE id > ?", scores) == [1]
    run = one(world)
    assert (run["passed"], run["failed"], run["cost_usd"]) == (299, 1, 75.0)


def test_renamed_copied_moved_and_deleted_jobs(world: World) -> None:
    jobs = world.local / "jobs"
    world.write(at("jobs/j", job()))
    world.synced()
    (jobs / "j").rename(jobs / "k")
    assert (one(world)["run_id"], one(world)["key"]) == ("k", KEY)
    shutil.copytree(jobs / "k", jobs / "copy")
    assert one(world)["run_id"] == "copy"  # equal places are told apart by their paths
    assert world.column("SELECT path FROM places ORDER BY path") == ["jobs/copy", "jobs/k"]
    (jobs / "suite").mkdir()
    (jobs / "copy").rename(jobs / "suite/20260101-100000")
    assert world.column("SELECT path FROM places ORDER BY path") == ["jobs/copy", "jobs/k"]
    assert one(world)["run_id"] == "k"
    shutil.rmtree(jobs / "k")
    assert one(world)["run_id"] == "suite/20260101-100000"
    shutil.rmtree(jobs / "suite/20260101-100000")
    (jobs / "suite/20260101-100000").write_text("a file")
    assert world.synced() == []
    shutil.rmtree(jobs)
    (world.local / "results").mkdir()
    assert world.synced() == []
    world.write(at("jobs/j", job()))
    assert one(world)["run_id"] == "j"


def test_hard_linked_copies_are_two_places(world: World) -> None:
    world.write(at("jobs/j", job()))
    world.synced()
    subprocess.run(["cp", "-al", "jobs/j", "jobs/linked"], cwd=world.local, check=True)
    assert len(world.synced()) == 1
    assert world.column("SELECT count(*) FROM places") == [2]


def test_a_torn_trial_keeps_its_last_row_and_costs_the_others_nothing(world: World) -> None:
    world.write(at("jobs/j", job({"a__aaaaaaa": trial(), "b__bbbbbbb": trial("b", 0.0)}, **LIVE)))
    one(world)
    world.write(at("jobs/j", {"a__aaaaaaa/result.json": '{"task_', "b__bbbbbbb/result.json": trial("b", 1.0)}))
    assert one(world)["passed"] == 2
    problem = "SELECT path, run_key FROM problems"
    assert world.select(problem) == [{"path": "jobs/j/a__aaaaaaa/result.json", "run_key": KEY}]
    world.write({"jobs/j/a__aaaaaaa/result.json": trial(reward=0.0)})
    assert one(world)["passed"] == 1
    assert world.select(problem) == []


def test_a_torn_job_file_keeps_the_rows_until_it_is_mended(world: World) -> None:
    world.write(at("jobs/j", job()))
    before = one(world)
    for text in ("", '{"id": ', "[]"):
        world.write({"jobs/j/result.json": text})
        assert one(world) == before
        assert world.column("SELECT path FROM problems") == ["jobs/j/result.json"]
    world.write({"jobs/j/result.json": result()})
    assert one(world) == before
    assert world.column("SELECT path FROM problems") == []


def test_a_job_that_is_torn_at_first_sight_is_shown_by_its_trials(world: World) -> None:
    world.write(at("jobs/j", job() | {"result.json": ""}))
    run = one(world)
    assert (run["key"], run["trial_count"], run["planned_count"]) == (KEY, 2, None)
    world.write({"jobs/j/result.json": result()})
    assert one(world)["planned_count"] == 2


def test_a_job_torn_at_first_sight_stays_as_it_is_beside_a_poorer_copy(world: World) -> None:
    world.write(at("jobs/a", job({"fizz__aaaaaaa": trial(), "half__bbbbbbb": "{"})))
    world.write(at("jobs/b", job({"half__bbbbbbb": ""})))
    world.sync()
    first = world.select("SELECT path, rev FROM runs")
    assert first[0]["path"] == "jobs/a"
    for _ in range(3):
        world.sync()
        assert world.select("SELECT path, rev FROM runs") == first


def test_jobs_in_git(world: World) -> None:
    world.repo.commit(at("jobs/j", job({"a__aaaaaaa": trial(), "b__bbbbbbb": ""}, **LIVE)))
    assert (one(world)["status"], one(world)["run_id"]) == ("running", "j")
    first = one(world)["sha"]
    world.repo.commit({"jobs/j/b__bbbbbbb/result.json": trial("b", 0.0), "jobs/j/result.json": result()})
    run = one(world)
    assert (run["status"], run["passed"], run["failed"], run["sha"]) == ("completed", 1, 1, first)
    world.repo.commit({"jobs/j/a__aaaaaaa/result.json": "{"})
    assert one(world)["passed"] == 1
    assert world.column("SELECT path FROM problems") == ["jobs/j/a__aaaaaaa/result.json"]


def test_runs_inside_a_flat_job(world: World) -> None:
    inner = job({}) | {"copilot-experiments-run.json": "{}", "result.json": result(id="inner")}
    files = at("jobs/j", job() | at("20260101-100000", inner))
    world.write(files)
    world.repo.commit(files)
    names = "SELECT run_id FROM runs ORDER BY run_id"
    assert [run["run_id"] for run in world.synced(names)] == ["j", "j/20260101-100000"]
    shutil.rmtree(world.local / "jobs/j/20260101-100000")
    world.repo.commit({"jobs/j/20260101-100000": None})
    assert [run["run_id"] for run in world.synced(names)] == ["j"]


def test_a_job_whose_result_goes_keeps_the_identity_of_its_trials(world: World) -> None:
    world.write(at("jobs/j", job()))
    world.synced()
    (world.local / "jobs/j/result.json").unlink()
    assert (one(world)["key"], one(world)["trial_count"]) == (KEY, 2)
    world.write({"jobs/j/lock.json": "{}"})
    assert one(world)["key"] == KEY


def test_a_job_without_a_lock_stays_what_its_trials_tell(world: World) -> None:
    files = job({"a__aaaaaaa": trial(verifier_environment_mode="shared")})
    del files["lock.json"]
    world.write(at("jobs/j", files))
    assert one(world)["format"] == "harbor"
    world.write({"jobs/j/result.json": result(total=3)})
    assert one(world)["format"] == "harbor"


@pytest.mark.parametrize("kind", ["X", "free text"])
def test_an_error_is_masked_again_when_the_jobs_secrets_become_known(world: World, kind: str) -> None:
    told = {"exception_type": kind, "exception_message": "cannot use my-very-secret-db"}
    files = job({"a__aaaaaaa": trial(error="X", exception_info=told)})
    del files["config.json"]
    world.write(at("jobs/j", files))
    world.synced()
    world.write({"jobs/j/config.json": json.dumps({"agents": [{"kwargs": {"key": "my-very-secret-db"}}]})})
    world.synced()
    assert world.column("SELECT error FROM trials") == ["cannot use ***"]
    shutil.rmtree(world.local / "jobs/j")
    world.synced()
    world.write(at("jobs/j", files | {"config.json": "{"}))
    world.synced()
    assert world.column("SELECT error FROM trials") == [None]  # what to mask cannot be read
    world.write({"jobs/j/config.json": "{}"})
    world.synced()
    assert world.column("SELECT error FROM trials") == ["cannot use my-very-secret-db"]


def test_a_folder_that_is_no_job_after_all_leaves_the_runs_inside(world: World) -> None:
    inner = job() | {"copilot-experiments-run.json": "{}"}
    world.write(at("jobs/j", {"config.json": "{}", "job.log": ""} | at("20260101-100000", inner)))
    before = one(world)
    world.write({"jobs/j/20260101-100000/result.json": ""})
    assert one(world) == before
    changed = world.column("SELECT changed_at FROM sources WHERE name = 'local'")
    world.sync()
    assert world.column("SELECT changed_at FROM sources WHERE name = 'local'") == changed


def test_every_unreadable_file_is_told_where_nothing_is_readable(world: World) -> None:
    files = {"config.json": "{}", "job.log": "", "result.json": result(started_at=None)}
    world.write(at("jobs/j", files | {"t__aaaaaaa/config.json": json.dumps({"job_id": JOB_ID})}))
    assert world.synced() == []
    world.write({"jobs/j/result.json": ""})
    assert world.synced() == []
    assert world.column("SELECT path FROM problems") == ["jobs/j/result.json"]


def test_a_problem_goes_when_its_folder_turns_out_to_be_no_job(world: World) -> None:
    young = {"config.json": "{}", "job.log": "", "lock.json": "{"}
    for place in (world.repo.commit, world.write):
        place(at("jobs/j", young))
        assert world.synced() == []
    assert world.column("SELECT path FROM problems") == ["jobs/j/lock.json"] * 2
    for place in (world.repo.commit, world.write):
        place(at("jobs/j", {"lock.json": "{}"}))
    assert world.synced() == []
    assert world.column("SELECT path FROM problems") == []


ABSURD = [
    trial(agent_result=None, n_agent_steps=None, step_results=[{"agent_result": {"n_agent_steps": 2**62}}] * 3),
    trial(agent_result=None, step_results=[{"agent_result": {"n_input_tokens": 2**62, "cost_usd": 1.7e308}}] * 3),
    trial(reward={"a": 1.7e308, "b": 1.7e308}),
    trial(reward={"a": -1.7e308, "b": -1.7e308}),
]


def test_absurd_numbers_are_unknown(world: World) -> None:
    session = '{"type": "session.shutdown", "data": {"totalNanoAiu": 1' + "0" * 400 + "}}"
    files = job({f"t__{n}aaaaaa": text for n, text in enumerate(ABSURD)})
    world.write(at("jobs/j", files | {"t__0aaaaaa/agent/copilot-session/s/events.jsonl": session}))
    run = one(world)
    assert (run["trial_count"], run["avg_score"]) == (2, 1.0)
    assert world.column("SELECT count(*) FROM trials WHERE cost_usd > 1e307 OR aiu IS NOT NULL") == [0]


def test_a_session_without_events_tells_nothing(world: World) -> None:
    untold = job({"a__aaaaaaa": trial(agent_result=None, n_agent_steps=None)})
    world.write(at("jobs/j", untold | {"a__aaaaaaa/agent/copilot-session/s/events.jsonl": "garbage"}))
    world.synced()
    assert world.select("SELECT turns, tool_calls FROM trials") == [{"turns": None, "tool_calls": None}]


def test_fixtures_hold_the_facts_that_were_checked_by_hand(world: World, shared: Path) -> None:
    truth = json.loads((shared / "fixtures/truth.json").read_text())["pier"]
    for place, facts in truth.items():
        shutil.rmtree(world.local)
        shutil.copytree(shared / "fixtures/pier" / place, world.local / "jobs" / Path(place).name)
        run = one(world)
        for name, value in facts.items():
            assert run[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), (place, name)
        assert not [canary for canary in ("LEAK", "u:pw@h", "FAKE-") if canary in world.content()]


@pytest.mark.parametrize(
    ("better", "worse", "status", "then"),
    [
        ("p-cancelled", "p-live-snapshot", "cancelled", "running"),
        ("p-resumed", "p-resumed-before", "completed", "running"),
    ],
)
def test_a_job_in_two_states_is_one_run(
    world: World, shared: Path, better: str, worse: str, status: str, then: str
) -> None:
    for name in (better, worse):
        shutil.copytree(shared / "fixtures/pier/jobs" / name, world.local / "jobs" / name)
    assert (one(world)["run_id"], one(world)["status"]) == (better, status)
    shutil.rmtree(world.local / "jobs" / better)
    assert (one(world)["run_id"], one(world)["status"]) == (worse, then)


@pytest.mark.slow
@pytest.mark.parametrize("flavor", ["pier", "harbor"])
def test_generated_jobs_agree_with_an_independent_count(world: World, shared: Path, flavor: str) -> None:
    place = world.local / "jobs"
    shares = ("inflight", "cancelled", "legacy", "errors", "multistep", "no-verifier", "malformed")
    command = [sys.executable, shared / "tools/gen_pier_jobs.py", place, "--jobs", 150, "--trials", 8, "--secrets"]
    command += ["--flavor", flavor, *(part for share in shares for part in (f"--{share}", 0.15))]
    output = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout
    told = [json.loads(line) for line in output.splitlines()]
    malformed = {line["job"] for line in told if line["malformed"] not in (None, "missing", "nan")}
    world.sources = [FolderSource("local", place)]
    world.sync()
    rows = {run["path"]: run for run in world.select("SELECT * FROM runs")}
    assert len(rows) == 150
    for folder in place.iterdir():
        count, cost, tokens = counted(folder)
        run = rows[folder.name]
        assert {status: run[status] for status in count} == dict(count)
        assert run["trial_count"] == count["passed"] + count["failed"] + count["errored"]
        assert run["cost_usd"] == (None if cost is None else pytest.approx(cost, rel=1e-12))
        assert run["input_tokens"] == tokens
    assert set(world.column("SELECT path FROM problems")) == {f"{name}/result.json" for name in malformed}
    assert world.column("SELECT count(*) FROM problems") == [len(malformed)]
    for name in malformed:
        (place / name / "result.json").write_text(result(id=rows[name]["key"].removeprefix("pier:")))
    world.synced()
    assert world.column("SELECT count(*) FROM problems") == [0]
    assert "CANARY" not in world.content()


def counted(folder: Path) -> tuple[Counter[str], float | None, int | None]:
    """Verdicts, cost and input tokens of a job, from its trials' files alone."""
    count = Counter(dict.fromkeys(("passed", "failed", "errored", "skipped"), 0))
    usage = []
    for path in folder.glob("*/result.json"):
        told = json.loads(path.read_text())
        rewards = (told["verifier_result"] or {}).get("rewards")
        error = (told["exception_info"] or {}).get("exception_type")
        if rewards:
            count["passed" if rewards["reward"] >= 1 else "failed"] += 1
        elif error != "CancelledError":
            count["errored" if error else "skipped"] += 1
        steps = told["step_results"] or [told]
        usage += [step["agent_result"] for step in steps if step["agent_result"]]
    costs = [each["cost_usd"] for each in usage if each["cost_usd"] is not None]
    tokens = [each["n_input_tokens"] for each in usage if each["n_input_tokens"] is not None]
    return count, sum(costs) if costs else None, sum(tokens) if tokens else None
