"""The parts of Inspect's JSON documents that are read; see `inspect`."""

from typing import Any

import msgspec

from indexer.formats.documents import Amount, Count, Document, Int, Tag, Text, Time, Words

Tags = list[Tag | None]


class Dataset(Document):
    name: Text | None = None
    samples: Count | None = None
    sample_ids: list[Any] | None = None


class Config(Document):
    epochs: Count | None = None


class Revision(Document):
    commit: Text | None = None


class GenerateConfig(Document):
    reasoning_effort: Words | None = None


class Scorer(Document):
    name: Text | None = None
    metrics: Any = None


class HeadlineMetric(Document):
    scorer: Text | None = None
    score: Text | None = None
    metric: Text | None = None


class Eval(Document):
    eval_id: Text | None = None
    task_id: Text | None = None
    created: Time = None
    task: Text | None = None
    task_version: Any = None
    task_args_passed: Any = None
    tags: Tags | None = None
    solver: Text | None = None
    model: Text | None = None
    dataset: Dataset | None = None
    config: Config | None = None
    revision: Revision | None = None
    headline_metric: HeadlineMetric | None = None
    scorers: list[Scorer | None] | None = None
    model_generate_config: GenerateConfig | None = None


class Step(Document):
    solver: Text | None = None


class Plan(Document):
    steps: list[Step | None] | None = None
    config: GenerateConfig | None = None


class Metric(Document):
    value: float | None = None


class ScoreResult(Document):
    name: Text | None = None
    scorer: Text | None = None
    reducer: Text | None = None
    metrics: dict[str, Metric | None] | None = None


class Results(Document):
    headline: HeadlineMetric | None = None
    scores: list[ScoreResult | None] | None = None
    scorer: Text | None = None  # of the oldest logs, which have one
    metrics: dict[str, Metric | None] | None = None


class Stats(Document):
    started_at: Time = None
    completed_at: Time = None


class ErrorText(Document):
    message: str | None = None


class Edit(Document):
    type: Text | None = None


class Provenance(Document):
    timestamp: Time = None


class Update(Document):
    edits: list[Edit | None] | None = None
    provenance: Provenance | None = None


class Usage(Document):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    input_tokens_cache_read: Count | None = None
    input_tokens_cache_write: Count | None = None
    reasoning_tokens: Count | None = None
    total_cost: Amount | None = None


class Value(Document):
    value: Any = None


class Summary(Document):
    """A sample: its summary in a `.eval`; all of it in a `.json`, where error and limit are objects."""

    id: Any = None
    epoch: Int | None = None
    scores: dict[str, Value | None] | None = None
    score: Value | None = None  # of the oldest logs, which have one
    model_usage: dict[str, Usage | None] | None = None
    started_at: Time = None
    completed_at: Time = None
    total_time: Amount | None = None
    error: Any = None
    limit: Any = None
    limit_reason: str | None = None
    turn_count: Count | None = None


class Header(Document):
    """A log without its samples: `header.json`, `_journal/start.json`, or the rest of a `.json` log."""

    status: Text | None = None
    invalidated: bool | None = None
    eval: Eval | None = None
    plan: Plan | None = None
    results: Results | None = None
    stats: Stats | None = None
    error: ErrorText | None = None
    tags: Tags | None = None
    log_updates: list[Update | None] | None = None


_NONE = msgspec.Raw(b"{}")


class GivenTask(msgspec.Struct):
    """The inputs of a task, as raw JSON."""

    task_args: msgspec.Raw = _NONE
    task_args_passed: msgspec.Raw = _NONE
    solver_args: msgspec.Raw = _NONE
    model_args: msgspec.Raw = _NONE
    model_base_url: msgspec.Raw = _NONE
    model_generate_config: msgspec.Raw = _NONE
    sandbox: msgspec.Raw = _NONE
    metadata: msgspec.Raw = _NONE


class Given(msgspec.Struct):
    """The run's inputs, from the document that holds its header."""

    eval: GivenTask
    plan: msgspec.Raw = _NONE

    def parts(self) -> bytes:
        """All non-empty parts as one JSON list."""
        parts = {bytes(part) for part in (*msgspec.structs.astuple(self.eval), self.plan)}
        return b"[" + b",".join(sorted(parts - {b"{}", b"null"})) + b"]"


class Log(Header):
    """A `.json` log."""

    samples: list[Summary | None] | None = None


class Summaries(Document):
    """A bare JSON list of summaries, wrapped in an object by `inspect`."""

    samples: list[Summary | None]
