"""For the playground: a month of nightly jobs, two agents on six tasks, of which one fell on one task amid the month;
and logs of Inspect.

python -m tests.playground FOLDER LOGS
"""

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.inspect_logs import header, log, sample, spec

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


def logs(folder: Path) -> None:
    """Write logs of Inspect: a task by two models, one of them retried after an error, and one that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (model, letters) in enumerate((("example/alpha-1", "CCICPC"), ("example/beta-2", "CIICIC"))):
        began = _BEGAN + timedelta(days=27, hours=6 + number)
        identity = (model.partition("/")[2].replace("-", "") + "x" * 22)[:22]
        for again, status in enumerate(("error", "success") if number else ("success",)):
            start = began + timedelta(hours=again)
            given = spec(created=f"{start:%Y-%m-%dT%H:%M:%S}+00:00", task_id=identity, task="riddles", model=model)
            given["dataset"] |= {"samples": 6, "sample_ids": [f"r{at}" for at in range(6)]}
            given["config"] = {"epochs": 1}
            samples = [_sample(f"r{at}", letter, start) for at, letter in enumerate(letters)]
            if status == "error":
                samples = [*samples[:3], _sample("r3", None, start, error="TimeoutError('sandbox did not answer')")]
            name = f"{start:%Y-%m-%dT%H-%M-%S}-00-00_riddles_{identity}.eval"
            done = {
                "started_at": given["created"],
                "completed_at": f"{start + timedelta(minutes=9):%Y-%m-%dT%H:%M:%S}+00:00",
            }
            (folder / name).write_bytes(log(samples, header(status, given, stats=done), zstd=False))


def _sample(identity: str, letter: str | None, start: datetime, **fields: Any) -> dict[str, object]:
    ended = start + timedelta(seconds=40)
    times: dict[str, Any] = {
        "started_at": f"{start:%Y-%m-%dT%H:%M:%S.%f}+00:00",
        "completed_at": f"{ended:%Y-%m-%dT%H:%M:%S.%f}+00:00",
    }
    return sample(identity, letter, **times, total_time=40.0, **fields)


if __name__ == "__main__":
    month(Path(sys.argv[1]))
    logs(Path(sys.argv[2]))
