"""Metrics of an agent's session beside a trial: Copilot's own `events.jsonl`, else an ATIF `trajectory.json`.

They fill in what the trial's own result lacks. Copilot writes one event a line; its `session.shutdown`
is authoritative (token counts by kind, nano AI units, code changes). Of several sessions of a trial, the one
with the latest event counts. A trajectory (Agent Trajectory Interchange Format) has steps and, mostly, sums.
"""

from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from indexer.formats.documents import Amount, Count, Document, Text, read_document
from indexer.protocols import Folder, Unreadable
from indexer.records import Trial

_LIMIT = 64 * 2**20  # bytes of a session or trajectory
_DEEPEST = 6
_LARGEST = 2**63 - 1


class FinalMetrics(Document):
    total_prompt_tokens: Count | None = None
    total_completion_tokens: Count | None = None
    total_cached_tokens: Count | None = None
    total_cost_usd: Amount | None = None


class TrajectoryStep(Document):
    source: Text | None = None
    tool_calls: list[Any] | None = None


class Trajectory(Document):
    steps: list[TrajectoryStep | None] | None = None
    final_metrics: FinalMetrics | None = None


def inputs(folder: Folder, agent: str) -> list[str]:
    """The session files below an agent's folder, as paths inside `folder`; empty if it cannot be opened."""
    try:
        if folder.find(agent) is None:
            return []
        names = list(_sessions(folder, f"{agent}/copilot-session"))
        trajectory = f"{agent}/trajectory.json"
        return names + ([trajectory] if folder.size(trajectory) is not None else [])
    except Unreadable:
        return []


def add_metrics(trial: Trial, folder: Folder, agent: str, broken: dict[str, str]) -> None:
    """Fill in the trial's unknown values. Unreadable files and folders are noted in `broken`."""
    try:
        if folder.find(agent) is None:
            return
        sessions = list(_sessions(folder, f"{agent}/copilot-session"))
        found_sessions = [found for path in sessions if (found := _session(folder, path))]
        if found_sessions:
            _fill(trial, max(found_sessions, key=lambda found: found[0])[1])
        elif trial.turns is None or trial.input_tokens is None:
            _fill(trial, _trajectory(folder, f"{agent}/trajectory.json"))
    except Unreadable as error:
        broken[error.path if error.path.startswith(f"{agent}/") else agent] = error.message


def _fill(trial: Trial, metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        if getattr(trial, name) is None and value is not None and 0 <= value <= _LARGEST:
            setattr(trial, name, value)


def _sessions(folder: Folder, path: str, depth: int = 0) -> Iterator[str]:
    found = folder.find(path) if depth < _DEEPEST else None
    if found is None:
        return
    if "events.jsonl" in found.files():
        yield f"{path}/events.jsonl"
    for name in sorted(found.folders()):
        yield from _sessions(folder, f"{path}/{name}", depth + 1)


def _trajectory(folder: Folder, path: str) -> dict[str, Any]:
    data = folder.read(path, _LIMIT)
    if data is None:
        return {}
    trajectory = read_document(Trajectory, path, data)
    final = trajectory.final_metrics or FinalMetrics()
    steps = [step for step in trajectory.steps or [] if step and step.source == "agent"]
    return {
        "input_tokens": final.total_prompt_tokens,
        "cached_tokens": final.total_cached_tokens,
        "output_tokens": final.total_completion_tokens,
        "cost_usd": final.total_cost_usd,
        "turns": len(steps),
        "tool_calls": sum(len(step.tool_calls or []) for step in steps),
    }


def _session(folder: Folder, path: str) -> tuple[str, dict[str, Any]] | None:
    """The time of the last event, and the metrics; None without any event."""
    latest, turns, calls, failures, count = "", 0, 0, 0, 0
    shutdowns: list[dict[str, Any]] = []
    for event in _events(folder.read(path, _LIMIT) or b""):
        count += 1
        kind, data = event.get("type"), event.get("data")
        data = data if isinstance(data, dict) else {}
        if isinstance(event.get("timestamp"), str):
            latest = max(latest, event["timestamp"])
        turns += kind == "assistant.turn_start"
        calls += kind == "tool.execution_complete"
        failures += kind == "tool.execution_complete" and data.get("success") is False
        if kind == "session.shutdown":
            shutdowns.append(data)
    if not count:
        return None
    metrics: dict[str, Any] = {"turns": turns, "tool_calls": calls, "tool_failures": failures}
    return latest, metrics | (_shutdown_metrics(shutdowns) if shutdowns else {})


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        try:
            event = from_json(line)
        except ValueError:
            continue  # a session that was killed ends in half a line
        if isinstance(event, dict):
            yield event


def _shutdown_metrics(shutdowns: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the shutdowns of a resumed session; values that describe a state come from the last one."""

    def tokens(kind: str) -> int | None:
        return _sum(_number(_at(shutdown, "tokenDetails", kind, "tokenCount")) for shutdown in shutdowns)

    last = shutdowns[-1]
    cached, written = tokens("cache_read"), tokens("cache_write")
    nano_aiu = _sum(_number(shutdown.get("totalNanoAiu")) for shutdown in shutdowns)
    models = [model for shutdown in shutdowns for model in (_at(shutdown, "modelMetrics") or {}).values()]
    return {
        "input_tokens": _sum([tokens("input"), cached, written]),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": tokens("output"),
        "reasoning_tokens": _sum(_number(_at(model, "usage", "reasoningTokens")) for model in models),
        "aiu": None if nano_aiu is None or nano_aiu > _LARGEST else nano_aiu / 1e9,
        "peak_context_tokens": _number(last.get("currentTokens")),
        "lines_added": _number(_at(last, "codeChanges", "linesAdded")),
        "lines_removed": _number(_at(last, "codeChanges", "linesRemoved")),
    }


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if not names or names[-1] != "modelMetrics" or isinstance(value, dict) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
