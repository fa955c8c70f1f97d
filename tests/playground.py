"""A month of nightly jobs for the playground: two agents on six tasks, of which one fell on one task amid the month.

python -m tests.playground FOLDER
"""

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

TASKS = ("fix-typo", "parse-csv", "rename-api", "sql-report", "state-machine", "unicode-paths")
AGENTS = (("alpha", "alpha-1", 0.02), ("beta", "beta-2", 0.05))
DAYS, FELL = 28, 19
"""Nightly jobs, and the first of them in which beta fails parse-csv."""
_BEGAN = datetime(2026, 10, 1, 2, tzinfo=UTC)


def month(folder: Path) -> None:
    """Write the jobs below a folder."""
    chance = Random(5)
    rates = {(agent, task): chance.uniform(0.75, 0.95) for agent, _, _ in AGENTS for task in TASKS}
    for day in range(DAYS):
        began = _BEGAN + timedelta(days=day)
        job = folder / f"nightly-{began:%Y-%m-%d}"
        identity = str(uuid.UUID(int=day + 1))
        trials = [(agent, task, number) for agent in AGENTS for task in TASKS for number in range(2)]
        for at, ((agent, model, cost), task, number) in enumerate(trials):
            start = began + timedelta(seconds=90 * at)
            fell = agent == "beta" and task == "parse-csv" and day >= FELL
            passed = chance.random() < (0.05 if fell else rates[agent, task])
            timed_out = chance.random() < 0.05
            _write(
                job / f"{task}__{agent}-{number}",
                _trial(chance, identity, agent, model, task, start, cost, passed, timed_out),
            )
        end = began + timedelta(seconds=90 * len(trials) + 60)
        _write(
            job,
            {
                "config.json": {"job_name": job.name, "datasets": [{"path": "tasks/daily"}]},
                "lock.json": {"created_at": f"{began:%Y-%m-%dT%H:%M:%SZ}", "pier": {"version": "1"}},
                "result.json": {
                    "id": identity,
                    "started_at": f"{began:%Y-%m-%dT%H:%M:%S}",
                    "updated_at": f"{end:%Y-%m-%dT%H:%M:%S}",
                    "finished_at": f"{end:%Y-%m-%dT%H:%M:%S}",
                    "n_total_trials": len(trials),
                    "stats": {"n_completed_trials": len(trials)},
                },
                "job.log": "",
            },
        )


def _trial(
    chance: Random,
    job: str,
    agent: str,
    model: str,
    task: str,
    start: datetime,
    cost: float,
    passed: bool,
    timed_out: bool,
) -> dict[str, object]:
    config = {
        "task": {"path": f"daily/{task}", "source": "daily"},
        "agent": {"name": agent, "model_name": f"example/{model}"},
        "job_id": job,
    }
    failure = {"exception_type": "AgentTimeoutError", "exception_message": f"{agent} on {task}: no answer after 600 s"}
    result = {
        "task_name": task,
        "source": "daily",
        "task_checksum": f"{TASKS.index(task):064x}",
        "config": config,
        "agent_info": {"name": agent, "version": "1.0", "model_info": {"name": model, "provider": "example"}},
        "agent_result": {
            "n_input_tokens": chance.randint(4_000, 9_000),
            "n_output_tokens": chance.randint(200, 900),
            "cost_usd": round(cost * chance.uniform(0.5, 1.5), 4),
        },
        "verifier_result": None if timed_out else {"rewards": {"reward": float(passed)}},
        "exception_info": failure if timed_out else None,
        "started_at": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "finished_at": f"{start + timedelta(seconds=chance.randint(20, 80)):%Y-%m-%dT%H:%M:%SZ}",
    }
    log = f"{task}: {'ok' if passed else 'expected 12 rows, got 11'}\n"
    return {"config.json": config, "result.json": result, "trial.log": "", "verifier/test-stdout.txt": log}


def _write(folder: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


if __name__ == "__main__":
    month(Path(sys.argv[1]))
