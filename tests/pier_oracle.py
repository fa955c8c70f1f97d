"""What the trials of a job of Pier or Harbor say, read from the description of their files without the product."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EFFORTS = ("reasoning_effort", "effort", "thinking", "variant")


def trials(job: Path) -> dict[str, dict[str, Any]]:
    """By name, every trial of a job whose files can be read."""
    ended = has_ended(job)
    found = {}
    for folder in sorted(each for each in job.iterdir() if each.is_dir()):
        if (folder / "result.json").is_file():
            found[folder.name] = finished(folder, json.loads((folder / "result.json").read_text()))
        elif (folder / "config.json").is_file():
            found[folder.name] = unfinished(json.loads((folder / "config.json").read_text()), ended)
    return found


def has_ended(job: Path) -> bool:
    try:
        told = json.loads((job / "result.json").read_text())
        stats = {**told.get("status", {}), **told["stats"]}
    except (ValueError, OSError, KeyError, TypeError):
        return False
    return told.get("finished_at") is not None or (
        not stats.get("n_running_trials", 0) and bool(stats.get("n_cancelled_trials", 0))
    )


def unfinished(config: dict[str, Any], ended: bool) -> dict[str, Any]:
    task, agent = config["task"], config["agent"]
    told = split(None, agent.get("model_name"))[1]
    name = None if agent.get("import_path") or ":" in (agent.get("name") or "") else agent.get("name")
    return {
        "status": "cancelled" if ended else "running",
        "suite": task.get("source"),
        "test_id": task.get("name") or task["path"].rstrip("/").split("/")[-1],
        "model": told,
        "agent": name,
        "target": target(name, told, effort(config)),
    }


def finished(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    steps = told.get("step_results") or []
    broken = told.get("exception_info") or next((s["exception_info"] for s in steps if s.get("exception_info")), None)
    kind = broken["exception_type"] if broken else None
    rewards = all_rewards(told, steps, kind)
    numbers = {name: value for name, value in rewards.items() if isinstance(value, int | float)}
    judged = {"reward": rewards["reward"]} if "reward" in rewards else rewards
    whole = bool(judged) and judged.keys() <= numbers.keys()  # one that is no number leaves no verdict
    score = sum(numbers[name] for name in judged) / len(judged) if whole else None
    valid = told.get("reward_valid") is not False
    if score is not None and valid:
        status = "passed" if score >= 1 else "failed"
    elif kind == "CancelledError":
        status = "cancelled"
    else:
        status = "errored" if kind or score is not None else "skipped"
    info = told["agent_info"]
    provider, model = split((info.get("model_info") or {}).get("provider"), (info.get("model_info") or {}).get("name"))
    return {
        "status": status,
        "score": score if valid else None,
        "error_type": kind,
        "suite": told.get("source"),
        "test_id": told["task_name"],
        "agent": info["name"],
        "agent_version": info["version"],
        "provider": provider,
        "model": model,
        "reasoning_effort": effort(told["config"]),
        "target": target(info["name"], model, effort(told["config"])),
        "started_at": time(told["started_at"]),
        "finished_at": time(told["finished_at"]),
        "task_checksum": told["task_checksum"],
        "scores": [(name, float(value) if name in numbers else None) for name, value in rewards.items()],
        **({} if told["config"].get("source_trial") else usage(folder, told, steps)),
    }


def all_rewards(told: dict[str, Any], steps: list[dict[str, Any]], kind: str | None) -> dict[str, Any]:
    if told.get("verifier_result"):
        return dict(told["verifier_result"].get("rewards") or {})
    if kind:
        return {}
    verified = [s["verifier_result"]["rewards"] for s in steps if (s.get("verifier_result") or {}).get("rewards")]
    names = sorted({name for rewards in verified for name in rewards})
    means: dict[str, Any] = {}
    for name in names:
        values = [rewards.get(name, 0) for rewards in verified]  # a missing one counts 0, one that is null is unknown
        means[name] = None if None in values else sum(values) / len(verified)
    return means


def usage(folder: Path, told: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    contexts = [told["agent_result"]] if told.get("agent_result") else [s["agent_result"] for s in steps]
    contexts = [context for context in contexts if context]

    def together(name: str) -> Any:
        known = [context[name] for context in contexts if context.get(name) is not None]
        return sum(known) if known else None

    found = {
        "input_tokens": together("n_input_tokens"),
        "cached_tokens": together("n_cache_tokens"),
        "output_tokens": together("n_output_tokens"),
        "cost_usd": together("cost_usd"),
        "turns": told["n_agent_steps"] if told.get("n_agent_steps") is not None else together("n_agent_steps"),
    }
    if found["turns"] is None or found["input_tokens"] is None:
        for name, value in trajectory(folder / "agent/trajectory.json").items():
            found[name] = value if found.get(name) is None else found[name]
    return found


def trajectory(path: Path) -> dict[str, Any]:
    """What an agent's trajectory adds, if it can be read at all."""
    try:
        told = json.loads(path.read_text())
        steps = [step for step in told.get("steps", []) if step["source"] == "agent"]
        final = told.get("final_metrics") or {}
    except (OSError, ValueError, AttributeError):
        return {}
    return {
        "turns": len(steps),
        "input_tokens": final.get("total_prompt_tokens"),
        "cached_tokens": final.get("total_cached_tokens"),
        "output_tokens": final.get("total_completion_tokens"),
        "cost_usd": final.get("total_cost_usd"),
    }


def split(provider: str | None, name: str | None) -> tuple[str | None, str | None]:
    if provider is None and name and "/" in name:
        return tuple(name.split("/", 1))  # type: ignore[return-value]
    return provider, name


def effort(config: dict[str, Any]) -> str | None:
    kwargs = config["agent"].get("kwargs") or {}
    told = next((kwargs[name] for name in EFFORTS if kwargs.get(name)), None)
    return told if isinstance(told, str) and re.fullmatch("[a-z0-9_-]{1,20}", told) else None


def target(agent: str | None, model: str | None, effort: str | None) -> str | None:
    return "/".join(filter(None, (agent, model))) + (f"@{effort}" if effort else "") if agent else None


def time(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
