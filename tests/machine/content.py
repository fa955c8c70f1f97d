"""Random runs of every format, good and torn, as {path: text}; the same seed gives the same run."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from tests import jobs
from tests.bundles import Files, bundle, row

TIMES = ("2026-01-05T09-00-00-123Z", "2026-01-06T09-00-00-000Z")
COPILOT_RUN = "20260105T090000Z_abcdef"
MANIFEST = "copilot-experiments-run.json"
TORN = ("", "{", '{"id": "x', "\0garbage", "[]", "null", '{"config": 3}', '{"metadata": {"timestamp": NaN}}', "\udcff")

BUNDLES = (
    f"runs/with_skills/{TIMES[0]}",
    f"runs/baseline/{TIMES[0]}",
    f"runs/{TIMES[1]}",
    "runs/smoke/named-by-hand",
    f".agentv/results/runs/with_skills/{TIMES[0]}",
    TIMES[1],
)
JOBS = (
    "jobs/a",
    "jobs/b",
    "jobs/n",
    "jobs/n/20260105-090000",
    "jobs/n/20260105-090000-2",
    "jobs/2026-01-05__09-00-00",
    "jobs/x/deep/c",
)
COPILOT = (f"results/exp/{COPILOT_RUN}", "results/exp/20260105T090001Z_abcdef", "results/exp2/renamed")
PLACES = (*BUNDLES, *JOBS, *COPILOT)
_IDS = tuple(f"23b29240-0000-4000-8000-00000000000{number}" for number in range(3))
_TRIALS = ("fizz__aaaaaaa", "half__bbbbbbb", "fizz__ccccccc", "plain")


def run(random: Random, path: str) -> Files:
    """A run of the kind that belongs at `path`, as files below it."""
    if path in BUNDLES:
        return _bundle(random, path)
    return _job(random) if path in JOBS else _copilot(random)


def document(random: Random, path: str) -> str:
    """A good file for a path, by its name."""
    folder, _, name = path.rpartition("/")
    match name:
        case "tags.json":
            return tags(random)
        case "result.json" if folder in JOBS:
            return jobs.result(finished=random.random() < 0.5, id=random.choice(_IDS))
        case "result.json":
            return _trial(random)
        case "config.json":
            return json.dumps(jobs.config("fizz", random.choice(_IDS)))
        case "lock.json":
            created = f"2026-01-05T09:00:0{random.randrange(9)}Z"
            return json.dumps({"created_at": created, random.choice(["pier", "harbor"]): {}})
        case "run.json":
            return _run_json(random)
        case "meta.json":
            return _meta(random)
        case "variant.json":
            return json.dumps({"name": "Z"})
        case "metrics.json":
            return json.dumps({"n_turns": random.randrange(5), "tokens": {"input": random.randrange(5)}})
        case "events.jsonl":
            return _events(random)
        case "trajectory.json":
            steps = [{"source": "agent", "tool_calls": [1]}] * random.randrange(4)
            return json.dumps({"steps": steps, "final_metrics": {"total_prompt_tokens": random.randrange(100)}})
    if name == MANIFEST:
        return json.dumps({"job_name": random.choice(["n", "q"]), "run_id": "r"})
    if name in ("benchmark.json", "summary.json", "index.jsonl", "run_manifest.jsonl"):
        made = bundle("v3", _rows(random))
        return made["index.jsonl" if name.endswith(".jsonl") else "benchmark.json"]
    return json.dumps({})


def tags(random: Random) -> str:
    chosen = random.sample(["baseline", "team=a", "team=b"], random.randrange(3))
    return json.dumps({"tags": chosen, "updated_at": f"2026-01-0{random.randrange(1, 9)}T09:00:00Z"})


def is_torn(path: str, text: str) -> bool:
    """Whether a JSON file holds no JSON object."""
    if not path.endswith(".json"):
        return False
    try:
        return not isinstance(json.loads(text), dict)
    except ValueError:
        return True


_FIELDS: tuple[dict[str, Any], ...] = (
    {},
    {"status": "execution_error", "error": "boom"},
    {"cost_usd": 0.1},
    {"score": float("nan")},
    {"grading_path": "t/grading.json"},
)


def _rows(random: Random) -> list[dict[str, object]]:
    rows = []
    for _ in range(random.randrange(4)):
        test = random.choice(["t1", "t2", "t3"])
        fields = dict(random.choice(_FIELDS)) | _repeats(random, test)
        rows.append(
            row(
                test,
                fields.pop("score", random.choice([0.0, 0.5, 1.0])),
                target=random.choice(["mock-alpha", "mock-beta"]),
                timestamp=f"2026-01-05T09:00:{random.randrange(60):02}.000Z",
                **fields,
            )
        )
    return rows


def _repeats(random: Random, test: str) -> dict[str, Any]:
    """A list of executions, in one of its spellings, or none."""
    listed = random.choice(["samples", "attempts", "trials", None])
    if listed is None:
        return {}
    each = [{"attempt": at, "sample_path": f"sample-{at + 1}", "score": random.choice([0, 1])} for at in range(2)]
    return {listed: each[: random.randrange(1, 3)], "result_dir": f"{test}--0a"}


def _bundle(random: Random, path: str) -> Files:
    stub = random.random() < 0.2
    layout = random.choice(["v0", "v3", "v6", "v6c", "v7", "v9"])
    aggregate: dict[str, Any] = {}
    if random.random() < 0.1:
        aggregate["combined_from"] = ["with_skills::x"]
    files = bundle(
        layout,
        _rows(random),
        name=path.rpartition("/")[2],
        experiment=random.choice([None, "with_skills"]),
        planned=random.choice([None, 5]),
        summary={} if stub else random.choice([None, {}]),
        tags=json.loads(tags(random)) if random.random() < 0.2 else None,
        authored=random.choice([None, {"team": "c"}]),
        **aggregate,
    )
    if layout in ("v6", "v7", "v9"):
        for test in random.sample(["t1", "t2", "t3"], random.randrange(3)):
            files |= {f"{test}--0a/sample-{at}/metrics.json": _metrics(random) for at in (1, 2)}
    if stub:  # nothing but the aggregate is there when a run begins
        return {name: text for name, text in files.items() if name in ("summary.json", "benchmark.json")}
    if random.random() < 0.1:
        return {name: text for name, text in files.items() if name not in ("summary.json", "benchmark.json")}
    return files


def _metrics(random: Random) -> str:
    tokens = {"input": random.randrange(99), "source": random.choice(["provider_reported", "unavailable"])}
    return random.choice([json.dumps({"tokens": tokens}), "", "{"])


def _trial(random: Random) -> str:
    fields: dict[str, object] = {"config": jobs.config(random.choice(["fizz", "half"]), random.choice(_IDS))}
    if random.random() < 0.2:
        failed = {"exception_type": random.choice(["Timeout", "CancelledError"]), "exception_message": "step"}
        fields["step_results"] = [{"exception_info": failed}, {"verifier_result": {"rewards": {"reward": 1}}}]
    if random.random() < 0.3:
        fields["reward_valid"] = random.random() < 0.5
    if random.random() < 0.2:
        fields["n_agent_steps"] = None  # then the trajectory tells
    if random.random() < 0.2:
        fields["agent_result"] = None
    if random.random() < 0.2:
        fields["verifier_environment_mode"] = "shared"
    reward = random.choice([1.0, 0.5, None, {"a": 1, "b": 0}, {"reward": None}, {"reward": "x", "b": 1}, {}])
    error = random.choice([None, None, "Boom", "CancelledError"])
    return jobs.trial(random.choice(["fizz", "half"]), reward, error, random.randrange(60), **fields)


def _job(random: Random) -> Files:
    trials = {
        name: random.choice([_trial(random), _trial(random), ""])
        for name in random.sample(_TRIALS, random.randrange(len(_TRIALS)))
    }
    files = jobs.job(
        trials,
        random.choice(["pier", "harbor"]),
        finished=random.random() < 0.6,
        id=random.choice(_IDS),
        started_at=random.choice(["2026-01-05T11:00:00.1", "2026-01-05T09:00:00Z"]),
    )
    if random.random() < 0.3:
        files[MANIFEST] = document(random, MANIFEST)
    if trials and random.random() < 0.3:
        files[f"{min(trials)}/agent/copilot-session/events.jsonl"] = _events(random)
    if trials and random.random() < 0.3:
        files[f"{min(trials)}/agent/trajectory.json"] = random.choice([*TORN, document(random, "trajectory.json")])
    for name in ("config.json", "lock.json", "result.json", "job.log"):
        if random.random() < 0.1:
            del files[name]
    return files


def _events(random: Random) -> str:
    turn = {"type": "assistant.turn_start", "timestamp": f"2026-01-05T09:00:{random.randrange(60):02}Z"}
    details = {
        "tokenDetails": {"input": {"tokenCount": random.randrange(99)}},
        "totalNanoAiu": random.randrange(10**10),
    }
    events = [turn] * random.randrange(1, 4) + [{"type": "session.shutdown", "data": details}] * random.randrange(2)
    return "\n".join(map(json.dumps, events))


def _meta(random: Random) -> str:
    return json.dumps(
        {
            "trial_no": random.randrange(3),
            "success": random.choice([True, False, None]),
            "status": random.choice(["ok", "harness_error", None]),
            "error": random.choice([None, "bad thing"]),
        }
    )


def _run_json(random: Random) -> str:
    trials = {"trials": [{"trial_no": 1, "success": True}]}
    tasks = [{"task_slug": "t", "trials": [{"trial_no": 2, "success": False, "error": "e"}] * 2}]
    told: Mapping[str, object] = {"variant": {"name": "V"}} | trials | {"tasks": random.choice([None, tasks])}
    return json.dumps(
        {
            "run_id": COPILOT_RUN,
            "experiment_slug": random.choice(["exp", "exp", "exp2"]),
            "status": random.choice(["completed", "failed", "partial", "running"]),
            "started_at": "2026-01-05T09:00:00Z",
            "variants": [told],
        }
    )


def _copilot(random: Random) -> Files:
    files = {"run.json": _run_json(random)} if random.random() < 0.7 else {}
    for name in random.sample(["v", "w"], random.randrange(1, 3)):
        files[f"variants/{name}/variant.json"] = json.dumps({"name": name.upper(), "model": "m"})
        for number in random.sample(["001", "002", "003"], random.randrange(3)):
            folder = f"variants/{name}/{random.choice(['', 'tasks/t/'])}trials/{number}"
            files[f"{folder}/prompt.md"] = "x"
            if random.random() < 0.7:
                files[f"{folder}/meta.json"] = _meta(random)
                files[f"{folder}/metrics.json"] = json.dumps({"n_turns": random.randrange(5), "input_tokens": 5})
    return files
