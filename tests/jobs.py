"""Pier and Harbor jobs, small, as {path inside the job's folder: text}."""

import json
from typing import Any

Files = dict[str, str]
JOB_ID = "23b29240-0000-4000-8000-000000000001"
SECRET = "sk-kwarg-LEAK-123456"


def config(task: str = "fizz", job_id: str = JOB_ID) -> dict[str, Any]:
    """A trial's configuration, secrets in clear as the tools write them."""
    agent = {"name": "fake-llm", "model_name": "anthropic/claude-fake-4"}
    kwargs = {"api_key": SECRET, "effort": "high"}
    return {
        "task": {"path": f"ds-main/{task}", "source": "ds-main"},
        "agent": agent | {"kwargs": kwargs, "env": {"DATABASE_URL": "postgres://u:pw@h/db"}},
        "job_id": job_id,
    }


def trial(task: str = "fizz", reward: Any = 1.0, error: str | None = None, second: int = 1, **fields: Any) -> str:
    """A trial's result.json; `reward` may be a dict of rewards, or None for no verdict."""
    rewards = reward if isinstance(reward, dict) else {"reward": reward}
    told = {"exception_type": error, "exception_message": f"{error}: key {SECRET}\nat line 1"} if error else None
    return json.dumps(
        {
            "task_name": task,
            "trial_name": task,
            "source": "ds-main",
            "task_checksum": "c" * 64,
            "config": config(task),
            "agent_info": {
                "name": "fake-llm",
                "version": "0.9.1",
                "model_info": {"name": "claude-fake-4", "provider": "anthropic"},
            },
            "agent_result": {"n_input_tokens": 100, "n_cache_tokens": 60, "n_output_tokens": 10, "cost_usd": 0.25},
            "verifier_result": None if reward is None else {"rewards": rewards},
            "exception_info": told,
            "started_at": f"2026-01-05T09:00:{second:02}.000000Z",
            "finished_at": f"2026-01-05T09:01:{second:02}.000000Z",
            "n_agent_steps": 3,
            "step_results": None,
        }
        | fields
    )


def result(*, total: int = 2, finished: bool = True, stats: dict[str, Any] | None = None, **fields: Any) -> str:
    """A job's result.json, in local time two hours ahead of UTC."""
    numbers = {"n_completed_trials": 1, "n_running_trials": 0, "n_pending_trials": 0, "n_cancelled_trials": 0}
    return json.dumps(
        {
            "id": JOB_ID,
            "started_at": "2026-01-05T11:00:00.100000",
            "updated_at": "2026-01-05T11:05:00.000000",
            "finished_at": "2026-01-05T11:05:00.000000" if finished else None,
            "n_total_trials": total,
            "stats": numbers if stats is None else stats,
        }
        | fields
    )


def job(trials: dict[str, str] | None = None, tool: str = "pier", **fields: Any) -> Files:
    """A job's files; a trial whose text is empty has only its configuration, as while it runs."""
    trials = {"fizz__aaaaaaa": trial(), "half__bbbbbbb": trial("half", 0.5)} if trials is None else trials
    files = {
        "config.json": json.dumps({"job_name": "j", "datasets": [{"path": "sets/ds-main"}]}),
        "lock.json": json.dumps(
            {"created_at": "2026-01-05T09:00:00.300000Z", tool: {"version": "1"}, "invocation": ["run", SECRET]}
        ),
        "result.json": result(**fields),
        "job.log": "",
    }
    for name, text in trials.items():
        files[f"{name}/config.json"] = json.dumps(config(name.partition("__")[0]))
        files[f"{name}/trial.log"] = ""
        if text:
            files[f"{name}/result.json"] = text
    return files
