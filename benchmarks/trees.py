"""Large results repositories and job folders, as the tools write them."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import inspect_logs

BRANCH = "refs/heads/agentv/results/v1"
TESTS = 4
_BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


def run_name(number: int) -> str:
    time = _BEGIN + timedelta(seconds=97 * number, milliseconds=number % 1000)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(":", "-").replace(".", "-")


def run_files(number: int, *, flat: bool = False) -> dict[str, str]:
    """A published AgentV run of layout v3 with four tests, by path. `flat` puts all runs into one folder."""
    time = (_BEGIN + timedelta(seconds=97 * number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    experiment = f"experiment-{number % 40}"
    folder = f"runs/{'' if flat else experiment + '/'}{run_name(number)}"
    rows = []
    files = {}
    for test in range(TESTS):
        score = 1.0 if (number + test) % 3 else 0.5
        row = {
            "timestamp": time, "test_id": f"case-{test:03}", "suite": f"suite-{test % 2}", "target": "mock-alpha",
            "score": score, "execution_status": "ok" if score >= 0.8 else "quality_failure", "duration_ms": 1200 + test,
            "token_usage": {"input": 1000 + number, "output": 200, "reasoning": 0}, "cost_usd": 0.01,
            "scores": [{"name": "contains", "type": "contains", "score": score, "weight": 1, "verdict": "pass"}],
            "input_path": f"suite-{test % 2}/case-{test:03}/input.md", "answer": "x" * 200,
        }  # fmt: skip
        rows.append(json.dumps(row))
        files[f"{folder}/suite-{test % 2}/case-{test:03}/grading.json"] = json.dumps({"score": score, "graders": []})
    metadata = {"eval_file": "evals/suite.yaml", "timestamp": time, "experiment": experiment, "targets": ["mock-alpha"],
                "planned_test_count": TESTS, "tests_run": [f"case-{test:03}" for test in range(TESTS)]}  # fmt: skip
    summary = {"mock-alpha": {"pass_rate": {"mean": 0.66, "stddev": 0.1}, "time_seconds": {"mean": 1.2, "stddev": 0}}}
    files[f"{folder}/benchmark.json"] = json.dumps(
        {"metadata": metadata, "run_summary": summary, "notes": []}, indent=2
    )
    files[f"{folder}/index.jsonl"] = "\n".join(rows) + "\n"
    return files


def make_repository(path: Path, runs: int, *, flat: bool = False, loose: bool = False) -> None:
    """A bare repository with one commit per run. Many small publications leave loose objects."""
    subprocess.run(["git", "init", "--quiet", "--bare", path], check=True)
    unpack = ["-c", f"fastimport.unpackLimit={10**9 if loose else 0}"]
    git = subprocess.Popen(["git", f"--git-dir={path}", *unpack, "fast-import", "--quiet"], stdin=subprocess.PIPE)
    assert git.stdin is not None
    for number in range(runs):
        git.stdin.write(b"".join(_commit(number, flat)))
    git.stdin.close()
    if git.wait():
        raise RuntimeError("git fast-import failed")


def append_run(path: Path, number: int, *, flat: bool = False) -> None:
    """One more run, as a push brings it."""
    stream = b"".join(_commit(number, flat, parent=f"{BRANCH}^0"))
    subprocess.run(["git", f"--git-dir={path}", "fast-import", "--quiet"], input=stream, check=True)


def _commit(number: int, flat: bool, parent: str = "") -> Iterator[bytes]:
    yield f"commit {BRANCH}\ncommitter bot <bot@example.org> {1767600000 + 97 * number} +0000\ndata 3\nrun\n".encode()
    if parent:
        yield f"from {parent}\n".encode()
    for name, text in run_files(number, flat=flat).items():
        data = text.encode()
        yield f"M 100644 inline {name}\ndata {len(data)}\n".encode() + data + b"\n"


def make_jobs(root: Path, jobs: int, trials: int) -> None:
    """`jobs/` of Pier: each job has its own files and as many trials, each with a result and a configuration."""
    for job in range(jobs):
        make_job(root / "jobs" / f"job-{job:05}", job, trials)


def make_job(folder: Path, number: int, trials: int) -> None:
    began = _BEGIN + timedelta(seconds=600 * number)
    identity = f"{number:08x}-0000-4000-8000-000000000000"
    folder.mkdir(parents=True)
    stats = {"n_completed_trials": trials, "n_running_trials": 0, "n_pending_trials": 0, "n_cancelled_trials": 0}
    result = {"id": identity, "started_at": began.isoformat()[:-6], "finished_at": began.isoformat()[:-6],
              "updated_at": began.isoformat()[:-6], "n_total_trials": trials, "stats": stats}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result, indent=4))
    (folder / "config.json").write_text(json.dumps({"job_name": folder.name, "datasets": [{"path": "sets/main"}]}))
    (folder / "lock.json").write_text(json.dumps({"created_at": began.isoformat(), "pier": {"version": "0.3.1"}}))
    (folder / "job.log").touch()
    for trial in range(trials):
        write_trial(folder, identity, trial, began + timedelta(seconds=trial))


def make_logs(folder: Path, runs: int, samples: int) -> None:
    """Logs of Inspect as it writes them, below `logs`."""
    (folder / "logs").mkdir(parents=True)
    for number in range(runs):
        began = _BEGIN + timedelta(minutes=number)
        identity, task, model = f"{number:022}", f"task-{number % 8}", f"x/m{number % 4}"
        given = inspect_logs.spec(task_id=identity, created=began.isoformat(), task=task, model=model)
        told = [inspect_logs.sample(f"q{at}", "CIPN"[(number + at) % 4]) for at in range(samples)]
        name = f"{began:%Y-%m-%dT%H-%M-%S}-00-00_{task}_{identity}.eval"
        (folder / "logs" / name).write_bytes(inspect_logs.ended(*told, eval=given))


def write_trial(job: Path, identity: str, trial: int, began: datetime = _BEGIN, reward: float | None = None) -> None:
    """A finished trial, its result written in place."""
    folder = job / trial_name(trial)
    folder.mkdir(exist_ok=True)
    config = {"task": {"path": f"main/task-{trial % 10}", "source": "main"}, "job_id": identity,
              "agent": {"name": "codex", "model_name": "openai/gpt-fake-5", "kwargs": {}, "env": {}}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    rewards = {"reward": float(trial % 3 > 0) if reward is None else reward}
    result = {
        "id": f"{identity[:8]}-{trial:04x}", "task_name": f"task-{trial % 10}", "trial_name": folder.name,
        "source": "main", "task_checksum": "c" * 64, "config": config,
        "agent_info": {"name": "codex", "version": "0.50.1", "model_info": {"name": "gpt-fake-5", "provider": "x"}},
        "agent_result": {"n_input_tokens": 1000, "n_cache_tokens": 400, "n_output_tokens": 90, "cost_usd": 0.02},
        "verifier_result": {"rewards": rewards}, "exception_info": None,
        "started_at": began.isoformat().replace("+00:00", "Z"), "finished_at": began.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result, indent=4))


def trial_name(trial: int) -> str:
    return f"task-{trial % 10}__{trial:07}"


def write_trajectory(job: Path, trial: int) -> None:
    """An ATIF trajectory of 5 MB beside a trial."""
    call = {"tool_call_id": "c", "function_name": "bash", "arguments": {"cmd": "ls -l " * 20}}
    observation = {"results": [{"content": "line of output\n" * 240}]}
    step = {"source": "agent", "message": "x" * 900, "tool_calls": [call], "observation": observation}
    (job / trial_name(trial) / "agent").mkdir()
    text = json.dumps({"steps": [step] * 1_050, "final_metrics": {"total_prompt_tokens": 5}})
    (job / trial_name(trial) / "agent/trajectory.json").write_text(text)


def replace_trial(job: Path, identity: str, trial: int, reward: float) -> None:
    """A finished trial, its result written beside and then renamed."""
    folder = job / trial_name(trial)
    new = json.loads((folder / "result.json").read_text())
    new["verifier_result"] = {"rewards": {"reward": reward}}
    (folder / "result.json.new").write_text(json.dumps(new, indent=4))
    (folder / "result.json.new").rename(folder / "result.json")
