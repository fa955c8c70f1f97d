import json
from collections.abc import Mapping
from typing import Any

import pytest

from indexer.derive import status as run_status
from indexer.earlier import Nothing
from indexer.formats import pier
from indexer.protocols import Options, Unreadable
from indexer.records import Run, Trial
from tests.formats.memory import MemoryFolder, format_of, totals
from tests.jobs import JOB_ID, SECRET, job, result, trial


def read(files: Mapping[str, str | bytes], path: str = "jobs/nightly", **options: Any) -> Run:
    folder = MemoryFolder({f"{path}/{name}": text for name, text in files.items()}, path)
    assert format_of(folder) is pier
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
    alone = read(job() | {pier.MANIFEST: "{}"}, "20260101-100000")
    assert (alone.run_id, alone.layout) == ("20260101-100000/20260101-100000", "nested")


def test_a_default_name_without_datasets_is_adhoc() -> None:
    files = job({}) | {"config.json": "{}"}
    assert read(files, "jobs/2026-01-05__11-00-00").experiment == "adhoc"


VERDICTS = [
    (trial(reward=1.0), "passed", 1.0, None),
    (trial(reward=0.5), "failed", 0.5, None),
    (trial(reward={"tests": 3, "style": 1}), "passed", 2.0, None),
    (trial(reward={"reward": None, "style": 1.0}), "skipped", None, None),  # no number, so no verdict
    (trial(reward={"tests": 3, "style": None}), "skipped", None, None),
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
        ({"n_running_trials": 0, "n_completed_trials": 2}, {}, "running"),
        ({"n_running_trials": 2, "n_completed_trials": 0}, {}, "running"),
        ({"n_running_trials": 0, "n_completed_trials": 0}, {"fizz__aaaaaaa": trial()}, "running"),
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


def test_no_step_knows_the_peak_of_the_context() -> None:
    steps = [{"agent_result": {"n_input_tokens": tokens}} for tokens in (10, 20)]
    found = only(trial(reward=None, agent_result=None, step_results=steps))
    assert (found.input_tokens, found.peak_context_tokens) == (30, None)


def test_a_step_whose_reward_is_no_number_leaves_no_verdict() -> None:
    steps = [{"verifier_result": {"rewards": {"reward": reward}}} for reward in (1.0, None)]
    found = only(trial(reward=None, agent_result=None, step_results=steps))
    assert (found.status, found.score) == ("skipped", None)
    assert [(score.name, score.score) for score in found.scores] == [("reward", None)]


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
    assert (run.key, run.partial, list(run.broken)) == (f"pier:{JOB_ID}", True, ["result.json"])
    assert totals(run.trials)["trial_count"] == 2
    running = read({name: text for name, text in job({"fizz__aaaaaaa": ""}).items() if name != "result.json"})
    assert (running.key, run_status(running), running.broken) == (f"pier:{JOB_ID}", "running", {})
    with pytest.raises(Unreadable):
        read(job({}) | {"result.json": text})


def test_what_is_no_job() -> None:
    young = {name: text for name, text in job({}).items() if name != "result.json"}
    folder = MemoryFolder({f"jobs/j/{name}": text for name, text in young.items()}, "jobs/j")
    assert format_of(folder) is pier
    assert pier.read(folder, Options(), Nothing()) is None
    files = {f"fizz__aaaaaaa/{name}": text for name, text in {"result.json": trial(), "config.json": "{}"}.items()}
    with pytest.raises(Unreadable, match="a trial without its job"):
        pier.read(MemoryFolder(files, "fizz__aaaaaaa"), Options(), Nothing())
    assert format_of(MemoryFolder({"app/config.json": "{}", "app/main.py": ""}, "app")) is None


def step(reward: float | None = None, error: str | None = None) -> dict[str, Any]:
    told = {"exception_type": error, "exception_message": "boom"} if error else None
    return {"step_name": "s", "verifier_result": reward and {"rewards": {"reward": reward}}, "exception_info": told}


@pytest.mark.parametrize(
    ("fields", "status", "score", "kind"),
    [
        ({"step_results": [step(1), step(error="Timeout")]}, "errored", None, "Timeout"),
        ({"step_results": [step(error="CancelledError")]}, "cancelled", None, "CancelledError"),
        ({"step_results": [step(1), step(error="X")], "verifier_result": {"rewards": {"reward": 1}}}, "passed", 1, "X"),
        ({"verifier_result": {"rewards": {"reward": 1}}, "reward_valid": False}, "errored", None, None),
        ({"verifier_result": {"rewards": {"reward": 1}}, "reward_valid": True}, "passed", 1, None),
        ({"reward_valid": False}, "skipped", None, None),
    ],
)
def test_steps_that_failed_and_rewards_that_are_not_valid(
    fields: dict[str, Any], status: str, score: float | None, kind: str | None
) -> None:
    found = only(trial("fizz", None, **fields))
    assert (found.status, found.score, found.error_type) == (status, score, kind)


def test_a_rate_limit_beside_an_invalid_reward_is_errored() -> None:
    found = only(trial("fizz", 1.0, "ApiRateLimitError", reward_valid=False))
    assert (found.status, found.score, found.error_type) == ("errored", None, "ApiRateLimitError")


@pytest.mark.parametrize("reward", [None, "1", [1], {"a": 1}, float("nan"), 10**400])
def test_rewards_that_are_no_number_are_no_verdict_and_are_told(reward: Any) -> None:
    run = read(job({"fizz__aaaaaaa": trial("fizz", {"reward": reward})}))
    assert (run.trials[0].status, run.trials[0].scores[0].score) == ("skipped", None)
    assert run.doubts == {"fizz__aaaaaaa/result.json": "not a number, so no verdict: reward reward"}
    assert only(trial("fizz", {"reward": 5})).status == "passed"


@pytest.mark.parametrize("text", ["", "{", b"\xff", '{"steps": NaN}', "[]", "[" * 1000])
def test_a_trajectory_never_holds_back_the_result(text: str | bytes) -> None:
    files: dict[str, str | bytes] = {**job({"fizz__aaaaaaa": trial(n_agent_steps=None)})}
    path = "fizz__aaaaaaa/agent/trajectory.json"
    run = read(files | {path: text})
    assert (run.trials[0].status, run.trials[0].cost_usd, run.partial, run.broken) == ("passed", 0.25, False, {})
    assert list(run.optional) == ([] if text == '{"steps": NaN}' else [path])


class Closed(MemoryFolder):
    """A folder of which one part may not be opened."""

    part = ""

    def size(self, path: str) -> int | None:
        self._require_open(path)
        return super().size(path)

    def find(self, path: str) -> "MemoryFolder | None":
        self._require_open(path)
        return super().find(path)

    def _require_open(self, path: str) -> None:
        if path.startswith(f"{self.part}/"):
            raise Unreadable(self.part, "denied", "permission denied")


@pytest.mark.parametrize(("part", "left"), [("fizz__aaaaaaa/agent", 2), ("fizz__aaaaaaa", 1)])
def test_a_folder_that_may_not_be_opened_costs_itself(part: str, left: int) -> None:
    tree = {f"jobs/j/{name}": text for name, text in job().items()} | {"jobs/j/fizz__aaaaaaa/agent/x": ""}
    folder = Closed(tree, "jobs/j")
    folder.part = part
    assert "result.json" in pier.inputs(folder)
    run = pier.read(folder, Options(), Nothing())
    assert run is not None
    assert len(run.trials) == left
    assert {**run.broken, **run.optional} == {part: "permission denied"}


def test_jobs_come_without_some_of_their_files() -> None:
    whole = job({"fizz__aaaaaaa": trial(id="t-2"), "half__bbbbbbb": trial("half", 0.5, id="t-1")})
    results = {name: text for name, text in whole.items() if name.endswith("result.json")}
    run = read(results)
    assert (run.key, run_status(run), len(run.trials), run.timestamp) == (
        f"pier:{JOB_ID}", "completed", 2, "2026-01-05T09:00:01.000Z",
    )  # fmt: skip
    trials = {name: text for name, text in results.items() if "/" in name}
    run = read(trials)
    assert (run.key, run_status(run), len(run.trials)) == (f"pier:{JOB_ID}", "completed", 2)
    nameless = {
        name: text.replace(JOB_ID, "").replace('"job_id": ""', '"job_id": null') for name, text in trials.items()
    }
    assert read(nameless).key == "pier:trials:t-1"
    tree = {f"jobs/j/{name}": text for name, text in trials.items()}
    assert format_of(MemoryFolder(tree, "jobs/j")) is pier
    assert format_of(MemoryFolder(tree | {"jobs/j/dataset/config.json": "{}"}, "jobs/j")) is pier
    assert format_of(MemoryFolder(tree | {"jobs/j/fizz__aaaaaaa/artifacts__aaaaaaa/x": ""}, "jobs/j")) is pier
    assert format_of(MemoryFolder(tree | {"jobs/j/other/20260101-100000/x": ""}, "jobs/j")) is None  # hides nothing
    plain = {f"jobs/j/plain/{name}": "{}" for name in ("config.json", "result.json", "agent/x")}
    assert format_of(MemoryFolder(tree | plain, "jobs/j")) is None  # may be a job
    assert format_of(MemoryFolder(tree | plain | {"jobs/j/plain/trial.log": ""}, "jobs/j")) is pier
    stray = {name.replace("jobs/j/", "jobs/"): text for name, text in tree.items()}
    assert format_of(MemoryFolder(stray, "jobs")) is None
    named = MemoryFolder({f"jobs/run__sonnet4/{name}": text for name, text in results.items()}, "jobs/run__sonnet4")
    assert format_of(named) is pier  # a job that is called like a trial
    assert format_of(MemoryFolder({"jobs/lone/result.json": result()}, "jobs/lone")) is pier
    foreign = MemoryFolder({"jobs/lone/result.json": '{"id": "x"}'}, "jobs/lone")
    assert pier.read(foreign, Options(), Nothing()) is None


@pytest.mark.parametrize(
    ("told", "provider", "model"),
    [
        ({"name": "gpt-4o", "provider": "openai"}, "openai", "gpt-4o"),
        ({"name": "z-ai/glm-4.7", "provider": None}, "z-ai", "glm-4.7"),
        ({"name": "a/b", "provider": "openrouter"}, "openrouter", "a/b"),
        ({"name": "moonshotai/kimi/k2"}, "moonshotai", "kimi/k2"),
    ],
)
def test_a_model_is_called_what_stands_behind_its_provider(told: dict[str, Any], provider: str, model: str) -> None:
    found = only(trial(agent_info={"name": "a", "version": "1", "model_info": told}))
    assert (found.provider, found.model, found.target) == (provider, model, f"a/{model}@high")


def test_one_model_has_one_name_while_it_runs_and_by_its_alias() -> None:
    config = {"task": {"path": "t"}, "agent": {"name": "a", "model_name": "openrouter/x/y"}, "job_id": JOB_ID}
    files = job({"fizz__aaaaaaa": ""}, finished=False) | {"fizz__aaaaaaa/config.json": json.dumps(config)}
    running = read(files).trials[0]
    assert (running.status, running.model, running.target) == ("running", "x/y", "a/x/y")
    assert read(files, aliases={"x/y": "why"}).trials[0].target == "a/why"
    config["agent"] = {"name": "module:Agent", "model_name": "m"}
    files["fizz__aaaaaaa/config.json"] = json.dumps(config)
    assert (read(files).trials[0].agent, read(files).trials[0].target) == (None, None)


@pytest.mark.parametrize("name", ["reasoning_effort", "effort", "thinking", "variant"])
def test_effort_has_several_names(name: str) -> None:
    text = json.loads(trial())
    text["config"]["agent"]["kwargs"] = {name: "low"}
    assert only(json.dumps(text)).target == "fake-llm/claude-fake-4@low"


def test_a_large_result_is_read_for_its_few_fields() -> None:
    details = [{"completion_token_ids": [[list(range(1000))] * 3500], "logprobs": [0.5] * 100}]
    text = json.loads(trial())
    text["agent_result"]["rollout_details"] = details
    large = json.dumps(text)
    assert len(large) > 16 * 2**20
    assert (only(large).status, only(large).cost_usd) == ("passed", 0.25)


def test_the_plan_is_told_by_the_lock_where_the_result_is_empty() -> None:
    files: dict[str, str] = job()
    lock = json.loads(files["lock.json"]) | {"trials": [{"task": {}}] * 5}
    assert read(files | {"lock.json": json.dumps(lock), "result.json": ""}).planned_count == 5
    assert read(files | {"lock.json": json.dumps(lock)}).planned_count == 2


def test_an_unreadable_result_in_a_job_that_ended_has_no_row() -> None:
    run = read(job({"fizz__aaaaaaa": "{", "half__bbbbbbb": trial("half")}))
    assert ([t.trial for t in run.trials], run.partial) == (["half__bbbbbbb"], True)
    assert list(run.broken) == ["fizz__aaaaaaa/result.json"]
    going = read(job({"fizz__aaaaaaa": "{", "half__bbbbbbb": trial("half")}, finished=False))
    assert [t.status for t in going.trials] == ["running", "passed"]


def test_a_regrade_copies_and_spends_nothing() -> None:
    copied = json.loads(trial())
    copied["config"]["source_trial"] = {"action": "regrade", "type": "local", "path": "/x/jobs/before/fizz__zzzzzzz"}
    files = job({"fizz__aaaaaaa": json.dumps(copied)})
    sources = [{"action": "regrade", "type": "local", "job_id": "J", "path": "/x/jobs/before"}, {"path": "jobs/other/"}]
    run = read(files | {"config.json": json.dumps({"source_jobs": sources})})
    assert run.derived_from == ["other", "pier:J"]
    assert (run.trials[0].status, run.trials[0].cost_usd, run.trials[0].turns) == ("passed", None, None)
    assert read(files).derived_from == ["before"]


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
