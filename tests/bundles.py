"""AgentV run bundles of every layout, small, as {path inside the run's folder: text}."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Files = dict[str, str]
Changes = dict[str, str | bytes | None]
NAME = "2026-01-05T09-00-00-123Z"


def row(test_id: str = "t1", score: float = 1.0, **fields: Any) -> dict[str, Any]:
    """A row of the rows file; `status` overrides the verdict that follows from the score."""
    status = fields.pop("status", "ok" if score >= 0.8 else "quality_failure")
    return {
        "timestamp": "2026-01-05T09:00:01.000Z",
        "test_id": test_id,
        "suite": "refund",
        "target": "mock-alpha",
        "score": score,
        "execution_status": status,
        "scores": [{"name": "contains", "type": "contains", "score": score, "weight": 1, "verdict": "pass"}],
    } | fields


def bundle(
    layout: str = "v3",
    rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    name: str = NAME,
    experiment: str | None = "with_skills",
    planned: int | None = None,
    summary: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    authored: Mapping[str, str] | None = None,
    **aggregate: Any,
) -> Files:
    """A run's files. An empty `summary` is the stub of a run in progress."""
    rows = [row("t1"), row("t2", 0.5)] if rows is None else rows
    metadata: dict[str, Any] = {"timestamp": "2026-01-05T09:00:01.000Z", "targets": ["mock-alpha"]}
    metadata["planned_test_count"] = len(rows) if planned is None else planned
    if experiment is not None:
        metadata["experiment"] = experiment
    if authored is not None:
        metadata["tags"] = dict(authored)
    if layout in ("v7", "v8"):
        aggregate["manifest_path"] = "index.jsonl"
        metadata["run_id"] = name
    if layout == "v9":
        aggregate |= {"index_path": ".internal/index.jsonl", "run_id": name}
    means = {"mock-alpha": {"pass_rate": {"mean": 0.75}}} if summary is None else summary
    document = {"metadata": metadata, "run_summary": means, "notes": []} | aggregate
    rows_file = {"v9": ".internal/index.jsonl", "v6c": "run_manifest.jsonl"}.get(layout, "index.jsonl")
    files = {
        "benchmark.json" if layout in ("v0", "v2", "v3", "v5") else "summary.json": json.dumps(document),
        rows_file: "".join(json.dumps(each) + "\n" for each in rows),
        "refund/t1/grading.json": '{"graders": []}',
    }
    if layout not in ("v0", "v2", "v3", "v5"):
        files["refund/t1/summary.json"] = '{"total_runs": 1, "passed_runs": 1, "pass_rate": "100%"}'
    if tags is not None:
        files["tags.json"] = json.dumps(tags)
    return files


def at(folder: str, files: Mapping[str, str]) -> Files:
    """The files as they lie in a tree, with the run in `folder`."""
    return {f"{folder}/{path}": text for path, text in files.items()}


def without(*paths: str) -> Changes:
    """What removes files or folders in a commit."""
    return dict.fromkeys(paths)
