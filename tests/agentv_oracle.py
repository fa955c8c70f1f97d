"""What AgentV's published bundles say, read from the description of their files with nothing of the product.

A row is a test; its executions are listed in `samples`, `attempts` or `trials`. A row with one execution speaks for
it. Of a row with several, each has what the list, the summary's tests and its own `metrics.json` tell of it alone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Tree = Mapping[str, bytes]
STATUS = {"ok": "passed", "quality_failure": "failed", "execution_error": "errored"}
TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z")


def runs(tree: Tree) -> Iterator[dict[str, Any]]:
    """Each run of a tree {path: content} with its `trials`."""
    for path, content in sorted(tree.items()):
        folder, _, name = path.rpartition("/")
        if name == "summary.json" and "run_summary" in (summary := json.loads(content)):
            yield run(tree, folder, summary)


def run(tree: Tree, folder: str, summary: dict[str, Any]) -> dict[str, Any]:
    metadata = summary["metadata"]
    rows = list(last_rows(tree, folder))
    *above, name = folder.split("/")
    experiment = "/".join(above[1:]) if above[:1] == ["runs"] else ""
    named = TIME.fullmatch(name)
    run_id = f"{experiment}::{name}" if experiment not in ("", "default") else name
    first = min(row["timestamp"] for row in rows)
    trials = [trial for row in rows for trial in executions(tree, folder, summary, row)]
    counted = [trial["status"] for trial in trials]
    if len(rows) < metadata.get("planned_test_count", 0):
        status = "cancelled"
    else:
        status = "failed" if set(counted) == {"errored"} else "completed"
    return {
        "run_id": run_id,
        "key": f"agentv:{run_id}" + ("" if named else f"@{first}"),
        "path": folder,
        "experiment": metadata["experiment"],
        "timestamp": "{}T{}:{}:{}.{}Z".format(*named.groups()) if named else metadata["timestamp"],
        "status": status,
        "target": ", ".join(sorted({row["target"] for row in rows})),
        "passed": counted.count("passed"),
        "failed": counted.count("failed"),
        "errored": counted.count("errored"),
        "trial_count": len(trials),
        "test_count": len({(row.get("suite"), row["test_id"]) for row in rows}),
        "tags": json.dumps(sorted(f"{k}={v}" for k, v in metadata.get("tags", {}).items() if k != "experiment")),
        "cost_usd": known_sum(trial["cost_usd"] for trial in trials),
        "input_tokens": known_sum(trial["input_tokens"] for trial in trials),
        "trials": trials,
    }


def last_rows(tree: Tree, folder: str) -> Iterator[dict[str, Any]]:
    file = next(f for f in (".internal/index.jsonl", "index.jsonl") if f"{folder}/{f}" in tree)
    found: dict[Any, dict[str, Any]] = {}
    for line in tree[f"{folder}/{file}"].splitlines():
        row = json.loads(line)
        source = row.get("projection_identity", {}).get("dimensions", {}).get("eval_path")
        found[row.get("suite"), source, row["test_id"], row["target"], row.get("variant")] = row
    return iter(found.values())


def executions(tree: Tree, folder: str, summary: dict[str, Any], row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = row.get("samples") or row.get("attempts") or row.get("trials") or [row]
    for at, one in enumerate(listed):
        number = one.get("sample_index", one.get("attempt", at)) + 1
        told: list[dict[str, Any]] = [figures(one), figures(summary_of(summary, row, number))]
        told.append(figures(row) if len(listed) == 1 else measured(tree, folder, row, one))
        yield {
            "suite": row.get("suite"),
            "test_id": row["test_id"],
            "target": row["target"],
            "attempt": number,
            "status": STATUS[one["execution_status"]],
            "score": one["score"],
            "error_type": one.get("failure_reason_code") if one["execution_status"] == "execution_error" else None,
            **unknown(told, summary, len(listed) == 1),
            "scores": [score for grader in one.get("scores", []) for score in flat(grader)],
        }


def summary_of(summary: dict[str, Any], row: dict[str, Any], number: int) -> dict[str, Any]:
    for case in summary.get("tests", summary.get("cases", [])):
        if all(case.get(name) == row.get(name) for name in ("suite", "test_id", "target")):
            return next(sample for sample in case["samples"] if sample["sample_index"] == number)
    return {}


def measured(tree: Tree, folder: str, row: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    place = one.get("sample_path") or one.get("attempt_path") or one["run_path"]
    metrics = json.loads(tree[f"{folder}/{row['result_dir']}/{place}/metrics.json"])
    if "tokens" in metrics:
        tokens, cost, duration, steps = (metrics[name] for name in ("tokens", "cost", "duration", "trajectory"))
        sources = (tokens["source"], cost["source"], duration["source"])
        usage, usd, milliseconds = tokens, cost["usd"], duration["total_ms"]
    else:
        timing, steps = metrics["timing"], metrics["metrics"]
        sources = tuple(timing["usage_sources"][name] for name in ("token_usage", "cost", "duration"))
        usage, usd, milliseconds = timing["token_usage"], timing["cost_usd"], timing["duration_ms"]
    return {
        "input_tokens": None if sources[0] == "unavailable" else usage["input"],
        "output_tokens": None if sources[0] == "unavailable" else usage["output"],
        "cost_usd": None if sources[1] == "unavailable" else usd,
        "duration_s": None if sources[2] == "unavailable" else milliseconds / 1000,
        "turns": steps["total_turns"],
        "tool_calls": steps["total_tool_calls"],
    }


def figures(document: dict[str, Any]) -> dict[str, Any]:
    usage, summary = document.get("token_usage", {}), document.get("transcript_summary", {})
    duration = document.get("duration_ms")
    return {
        "input_tokens": usage.get("input"),
        "output_tokens": usage.get("output"),
        "cost_usd": document.get("cost_usd"),
        "duration_s": None if duration is None else duration / 1000,
        "turns": summary.get("total_turns"),
        "tool_calls": sum(summary["tool_calls"].values()) if summary else None,
    }


def unknown(told: list[dict[str, Any]], summary: dict[str, Any], alone: bool) -> dict[str, Any]:
    """What is told first; the zeros of a run whose usage could not be measured are none."""
    first: dict[str, Any] = {}
    for name in told[0]:
        first[name] = next((each[name] for each in told if each[name] is not None), None)
    if alone:
        sources = summary.get("timing", {}).get("usage_sources", {})
        metrics = summary.get("metrics", {})
        tokens = metrics.get("tokens", {}).get("source", sources.get("token_usage"))
        if tokens == "unavailable" and first["input_tokens"] == first["output_tokens"] == 0:
            first |= {"input_tokens": None, "output_tokens": None}
        if metrics.get("cost", {}).get("source", sources.get("cost")) == "unavailable" and first["cost_usd"] == 0:
            first["cost_usd"] = None
    return first


def flat(grader: dict[str, Any]) -> Iterator[dict[str, Any]]:
    passed = grader.get("pass", {"pass": True, "fail": False}.get(grader.get("verdict", "")))
    told = [each for each in grader.get("assertions") or [] if each.get("text")]
    failed = [each["text"] for each in told if each.get("passed") is False]
    reason = grader.get("reason") or "; ".join(failed or [each["text"] for each in told])
    facts = {name: grader.get(name) for name in ("name", "type", "score", "weight")}
    yield facts | {"passed": passed, "reason": reason.strip().split("\n")[0][:200].strip() or None}
    for part in grader.get("scores", []):
        yield from flat(part)


def known_sum(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
