import json
from collections.abc import Mapping
from typing import Any

import pytest

from indexer.formats import pier, recognise
from indexer.index.totals import status as run_status
from indexer.index.totals import totals
from indexer.protocols import Nothing, Options, Unreadable
from indexer.records import Run, Trial
from tests.formats.memory import MemoryFolder
from tests.jobs import JOB_ID, SECRET, job, result, trial


def read(files: Mapping[str, str | bytes], path: str = "jobs/nightly", **options: Any) -> Run:
    folder = MemoryFolder({f"{path}/{name}": text for name, text in files.items()}, path)
    assert recognise(folder) is pier
    run = pier.read(folder, Options(**options), Nothing())
    assert run is not None
    return run


def only(text: str) -> Trial:
    return read(job({"fizz__aaaaaaa": text})).trials[0]


def test_a_job_and_its_trials() -> None:
    run = read(job())
    total = totals(run.trials)
    assert (run.key, run.run_id, run.experiment, run.format) == (f"pier:{JOB_ID}", "nightly", "nightly", "pier")
    assert (run_status(run), run.planned_count, total["passed"], total["failed"]) == ("completed", 2, 1, 1)
    assert (total["input_tokens"], total["cost_usd"], total["avg_score"]) == (200, 0.5, 0.75)
    first = run.trials[0]
    assert (first.suite, first.test_id, first.target) == ("ds-main", "fizz", "fake-llm/claude-fake-4@high")
    assert (first.model, first.provider, first.agent_version, first.turns) == ("claude-fake-4", "anthropic", "0.9.1", 3)
    assert (first.duration_s, first.task_checksum) == (60.0, "c" * 64)
    assert read(job(tool="harbor")).format == "harbor"


def test_local_times_of_the_job_become_utc() -> None:
    run = read(job())
    assert run.timestamp == "2026-01-05T09:00:00.300Z"  # the lock's
    assert (run.started_at, run.finished_at) == ("2026-01-05T09:00:00.100Z", "2026-01-05T09:05:00.000Z")
    aware = read(job(updated_at="2026-01-05T09:04:00Z", finished=False))
    assert aware.updated_at == "2026-01-05T09:04:00.000Z"
    without_lock = {name: text for name, text in job().items() if name != "lock.json"}
    assert read(without_lock).timestamp == "2026-01-05T09:00:01.000Z"  # the first trial's


@pytest.mark.parametrize(
    ("path", "run_id", "experiment", "layout"),
    [
        ("jobs/nightly", "nightly", "nightly", "flat"),
        ("nightly", "nightly", "nightly", "flat"),
        ("jobs/suite/20260101-100000", "suite/20260101-100000", "suite", "nested"),
        ("suite/20260101-100000", "suite/20260101-100000", "suite", "nested"),
        ("a/jobs/b/jobs/nightly", "nightly", "nightly", "flat"),
        ("jobs/2026-01-05__11-00-00", "2026-01-05__11-00-00", "ds-main", "flat"),
    ],
)
def test_names_follow_from_the_place(path: str, run_id: str, experiment: str, layout: str) -> None:
    run = read(job(), path)
    assert (run.run_id, run.experiment, run.layout) == (run_id, experiment, layout)


def test_a_manifest_names_a_nested_run_wherever_it_lies() -> None:
    manifest = {"schema_version": 1, "job_name": "suite", "run_id": "20260101-100000"}
    run = read(job() | {pier.MANIFEST: json.dumps(manifest)}, "jobs/copy")
    assert (run.run_id, run.experiment, run.layout) == ("suite/20260101-100000", "suite", "nested")


def test_a_default_name_without_datasets_is_adhoc() -> None:
    files = job({}) | {"config.json": "{}"}
    assert read(files, "jobs/2026-01-05__11-00-00").experiment == "adhoc"


VERDICTS = [
    (trial(reward=1.0), "passed", 1.0, None),
    (trial(reward=0.5), "failed", 0.5, None),
    (trial(reward={"tests": 3, "style": 1}), "passed", 2.0, None),
    (trial(reward={"reward": None, "style": 0.5}), "failed", 0.5, None),
    (trial(reward={"reward": None}), "skipped", None, None),
    (trial(reward=None), "skipped", None, None),
    (trial(reward=None, error="RuntimeError"), "errored", None, "RuntimeError"),
    (trial(reward=None, error="CancelledError"), "cancelled", None, "CancelledError"),
    (trial(reward=1.0, error="AgentTimeoutError"), "passed", 1.0, "AgentTimeoutError"),
    (trial(reward=0.0, error="AgentTimeoutError"), "failed", 0.0, "AgentTimeoutError"),
    ("", "cancelled", None, None),
]


@pytest.mark.parametrize(("text", "status", "score", "error_type"), VERDICTS)
def test_verdicts(text: str, status: str, score: float | None, error_type: str | None) -> None:
    found = only(text)
    assert (found.status, found.score, found.error_type) == (status, score, error_type)


def test_a_trial_under_way_and_thresholds() -> None:
    running = {"n_running_trials": 1, "n_completed_trials": 0}
    run = read(job({"fizz__aaaaaaa": ""}, finished=False, stats=running))
    assert (run_status(run), run.trials[0].status, run.running_count) == ("running", "running", 1)
    assert (run.trials[0].test_id, run.trials[0].suite, run.trials[0].target) == (
        "fizz", "ds-main", "fake-llm/claude-fake-4@high",
    )  # fmt: skip
    assert read(job(), pier_threshold=0.5).trials[1].status == "passed"


@pytest.mark.parametrize(
    ("stats", "trials", "status"),
    [
        ({"n_running_trials": 0, "n_cancelled_trials": 1}, {"fizz__aaaaaaa": trial()}, "cancelled"),
        ({"n_running_trials": 2, "n_cancelled_trials": 1}, {"fizz__aaaaaaa": trial()}, "running"),
        ({"n_running_trials": 0, "n_pending_trials": 8}, {}, "queued"),
        ({"n_running_trials": 0, "n_completed_trials": 1}, {"fizz__aaaaaaa": trial()}, "running"),
        ({"n_trials": 1, "n_errors": 0}, {"fizz__aaaaaaa": trial()}, "running"),  # before April 2026
    ],
)
def test_a_job_without_an_end(stats: dict[str, int], trials: dict[str, str], status: str) -> None:
    assert run_status(read(job(trials, finished=False, stats=stats))) == status
    elsewhere = job(trials, finished=False, stats={}, status=stats)
    assert run_status(read(elsewhere)) == status


def test_a_finished_job_fails_only_when_every_trial_errored() -> None:
    errors = {f"t{n}__aaaaaaa": trial(reward=None, error="RuntimeError") for n in range(2)}
    assert run_status(read(job(errors))) == "failed"
    assert run_status(read(job(errors | {"x__aaaaaaa": trial()}))) == "completed"


def test_attempts_are_ranked_by_their_start() -> None:
    trials = {f"fizz__{name * 7}": trial(second=second) for name, second in (("a", 3), ("b", 1), ("c", 2))}
    run = read(job(trials | {"half__ddddddd": trial("half")}))
    assert {t.trial: t.attempt for t in run.trials} == {
        "fizz__aaaaaaa": 3,
        "fizz__bbbbbbb": 1,
        "fizz__ccccccc": 2,
        "half__ddddddd": 1,
    }


def test_every_reward_is_a_score() -> None:
    scores = only(trial(reward={"reward": 0.75, "tests_passed": 3, "style": None})).scores
    assert [(score.name, score.type, score.score, score.passed) for score in scores] == [
        ("reward", "reward", 0.75, None),
        ("tests_passed", "reward", 3.0, None),
        ("style", "reward", None, None),
    ]


def test_a_multi_step_trial_sums_usage_and_averages_rewards() -> None:
    def step(tokens: int, rewards: dict[str, float] | None) -> dict[str, Any]:
        usage = {"n_input_tokens": tokens, "cost_usd": 0.1, "peak_context_tokens": tokens}
        return {"agent_result": usage, "verifier_result": {"rewards": rewards} if rewards else None}

    steps = [step(10, {"reward": 1.0, "style": 0.5}), step(20, {"reward": 0.0}), step(5, None)]
    found = only(trial(reward=None, agent_result=None, step_results=steps))
    assert (found.input_tokens, found.peak_context_tokens, found.score) == (35, 20, 0.5)
    assert found.cost_usd == pytest.approx(0.3)
    assert [(score.name, score.score) for score in found.scores] == [("reward", 0.5), ("style", 0.25)]


def test_no_secret_gets_through() -> None:
    run = read(job({"fizz__aaaaaaa": trial(reward=None, error="RuntimeError")}))
    assert run.trials[0].error == "RuntimeError: key ***"
    assert "LEAK" not in repr(run)
    assert "u:pw" not in repr(run)
    assert SECRET == "sk-kwarg-LEAK-123456"


def test_effort_is_taken_only_where_it_is_a_word() -> None:
    for value, effort in (("low", "low"), ("Xhigh and " + "x" * 50, None), (7, "7"), (None, None)):
        text = json.loads(trial())
        text["config"]["agent"]["kwargs"] = {"reasoning_effort": value}
        assert only(json.dumps(text)).reasoning_effort == effort


EVENTS: list[dict[str, Any]] = [
    {"type": "assistant.turn_start", "timestamp": "2026-01-05T09:00:02Z"},
    {"type": "tool.execution_complete", "data": {"success": True}},
    {"type": "tool.execution_complete", "data": {"success": False}},
    {
        "type": "session.shutdown",
        "timestamp": "2026-01-05T09:00:09Z",
        "data": {
            "totalNanoAiu": 1_500_000_000,
            "tokenDetails": {"input": {"tokenCount": 5}, "cache_read": {"tokenCount": 90}, "output": {"tokenCount": 7}},
            "modelMetrics": {"m": {"usage": {"reasoningTokens": 3}}},
            "codeChanges": {"linesAdded": 4, "linesRemoved": 1},
            "currentTokens": 1200,
        },
    },
]


def test_a_copilot_session_fills_what_the_trial_does_not_tell() -> None:
    lines = "\n".join(map(json.dumps, EVENTS)) + '\n{"type": "torn'
    older = json.dumps(EVENTS[0] | {"timestamp": "2026-01-04T09:00:00Z"})
    session = {
        "fizz__aaaaaaa/agent/copilot-session/s1/events.jsonl": lines,
        "fizz__aaaaaaa/agent/copilot-session/s0/events.jsonl": older,
    }
    untold = trial(agent_result=None, n_agent_steps=None)
    found = read(job({"fizz__aaaaaaa": untold}) | session).trials[0]
    assert (found.turns, found.tool_calls, found.tool_failures, found.aiu) == (1, 2, 1, 1.5)
    assert (found.input_tokens, found.cached_tokens, found.output_tokens) == (95, 90, 7)
    assert (found.reasoning_tokens, found.lines_added, found.peak_context_tokens) == (3, 4, 1200)
    told = read(job({"fizz__aaaaaaa": trial()}) | session).trials[0]
    assert (told.turns, told.input_tokens, told.aiu) == (3, 100, 1.5)


def test_a_trajectory_stands_in_for_a_session() -> None:
    steps = [{"source": "user"}, {"source": "agent", "tool_calls": [{}, {}]}, {"source": "agent"}]
    metrics = {"total_prompt_tokens": 50, "total_completion_tokens": 5, "total_cost_usd": 0.5}
    text = json.dumps({"schema_version": "ATIF-v1.7", "steps": steps, "final_metrics": metrics})
    files = {"fizz__aaaaaaa/agent/trajectory.json": text}
    untold = job({"fizz__aaaaaaa": trial(agent_result=None, n_agent_steps=None)})
    found = read(untold | files).trials[0]
    assert (found.turns, found.tool_calls, found.input_tokens, found.cost_usd) == (2, 2, 50, 0.5)
    assert read(job({"fizz__aaaaaaa": trial()}) | files).trials[0].cost_usd == 0.25


@pytest.mark.parametrize("text", ["", '{"id": "x', "[1,2]", b"\xff"])
def test_a_torn_job_file_leaves_the_identity_that_trials_have(text: str | bytes) -> None:
    run = read(job() | {"result.json": text})
    assert (run.key, run.partial, list(run.torn)) == (f"pier:{JOB_ID}", True, ["result.json"])
    assert totals(run.trials)["trial_count"] == 2
    running = read({name: text for name, text in job({"fizz__aaaaaaa": ""}).items() if name != "result.json"})
    assert (running.key, run_status(running), running.torn) == (f"pier:{JOB_ID}", "running", {})
    with pytest.raises(Unreadable):
        read(job({}) | {"result.json": text})


def test_what_is_no_job() -> None:
    young = {name: text for name, text in job({}).items() if name != "result.json"}
    folder = MemoryFolder({f"jobs/j/{name}": text for name, text in young.items()}, "jobs/j")
    assert recognise(folder) is pier
    assert pier.read(folder, Options(), Nothing()) is None
    files = {f"fizz__aaaaaaa/{name}": text for name, text in {"result.json": trial(), "config.json": "{}"}.items()}
    assert pier.read(MemoryFolder(files, "fizz__aaaaaaa"), Options(), Nothing()) is None
    assert recognise(MemoryFolder({"app/config.json": "{}", "app/main.py": ""}, "app")) is None


def test_other_folders_in_a_job_are_no_trials() -> None:
    files: dict[str, str] = job() | {".critiques/x/result.json": "{}", "notes/a.md": "-"}
    files["20260101-100000/result.json"] = "{}"
    assert len(read(files).trials) == 3  # without a manifest even a run's name is a trial's
    nested = files | {f"20260101-100000/{pier.MANIFEST}": "{}"}
    assert len(read(nested).trials) == 2
    assert pier.inner_runs(MemoryFolder(nested)) == ["20260101-100000"]


def test_wrong_types_cost_their_field_only() -> None:
    text = json.loads(trial())
    text |= {"task_checksum": [1], "agent_result": "none", "n_agent_steps": -4, "started_at": 7, "source": {"a": 1}}
    found = only(json.dumps(text))
    assert (found.status, found.task_checksum, found.input_tokens, found.turns, found.suite) == (
        "passed", None, None, None, None,
    )  # fmt: skip
    assert read(job(n_total_trials="many")).planned_count is None
    assert json.loads(result())["id"] == JOB_ID
