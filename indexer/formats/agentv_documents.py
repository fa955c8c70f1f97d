"""The parts of AgentV's JSON documents that are read; see `agentv`."""

from typing import Annotated

from msgspec import Meta, field

from indexer.formats.documents import Amount, Count, Document, Number, Tag, Text, Time, Words

SampleIndex = Annotated[int, Meta(ge=0, lt=10**9)]


class Usage(Document):
    input: Count | None = None
    output: Count | None = None
    reasoning: Count | None = None
    cached: Count | None = None


class Assertion(Document):
    text: str | None = None
    passed: bool | None = None


class Grader(Document):
    name: Words | None = None
    type: Words | None = None
    score: Number | None = None
    weight: Number | None = None
    verdict: Text | None = None
    passed: bool | None = field(default=None, name="pass")
    reason: str | None = None
    assertions: Annotated[list[Assertion | None], Meta(max_length=1000)] | None = None
    scores: "Graders | None" = None  # of a composite grader: its parts


Graders = Annotated[list[Grader | None], Meta(max_length=1000)]


class TranscriptSummary(Document):
    total_turns: Count | None = None
    tool_calls: dict[str, Count | None] | None = None


class Execution(Document):
    """What a row and each of its samples have in common."""

    score: Number | None = None
    execution_status: Text | None = None
    scores: Graders | None = None
    error: str | None = None
    failure_reason_code: Text | None = None
    target_error_kind: Text | None = None
    start_time: Time = None
    end_time: Time = None
    duration_ms: Amount | None = None
    cost_usd: Amount | None = None
    token_usage: Usage | None = None
    transcript_summary: TranscriptSummary | None = None


class Sample(Execution):
    sample_index: SampleIndex | None = None  # in samples[], from 0
    attempt: SampleIndex | None = None  # in attempts[] and trials[], from 0
    sample_path: Text | None = None
    attempt_path: Text | None = None
    run_path: Text | None = None


Samples = Annotated[list[Sample | None], Meta(max_length=10_000)]


class Dimensions(Document):
    eval_path: Text | None = None
    variant: Text | None = None


class Identity(Document):
    dimensions: Dimensions | None = None


class Row(Execution, kw_only=True):
    timestamp: Time = None
    test_id: Text
    suite: Text | None = None
    category: Words | None = None
    target: Text | None = None
    variant: Text | None = None
    samples: Samples | None = None  # since 5.3.0
    attempts: Samples | None = None  # 5.1.0 to 5.3.0-next.1
    trials: Samples | None = None  # 5.0.0 previews
    result_dir: Text | None = None
    artifact_dir: Text | None = None
    grading_path: Text | None = None
    projection_identity: Identity | None = None


class Mean(Document):
    mean: Number | None = None


class TargetSummary(Document):
    pass_rate: Mean | None = None


class Tokens(Usage):
    source: Text | None = None


class Cost(Document):
    usd: Amount | None = None
    source: Text | None = None


class Duration(Document):
    total_ms: Amount | None = None
    source: Text | None = None


class Trajectory(Document):
    total_turns: Count | None = None
    total_tool_calls: Count | None = None


class UsageSources(Document):
    token_usage: Text | None = None
    cost: Text | None = None
    duration: Text | None = None


class Timing(Document):
    duration_ms: Amount | None = None
    cost_usd: Amount | None = None
    token_usage: Usage | None = None
    usage_sources: UsageSources | None = None


class Metrics(Document):
    """Figures of a run (its aggregate) or of an execution (its `metrics.json`; until 5.1 in `timing` and `metrics`)."""

    target: Text | None = None  # only in an execution's
    tokens: Tokens | None = None
    cost: Cost | None = None
    duration: Duration | None = None
    trajectory: Trajectory | None = None
    timing: Timing | None = None
    metrics: Trajectory | None = None


class CaseSample(Document):
    sample_index: SampleIndex | None = None  # from 1
    duration_ms: Amount | None = None
    cost_usd: Amount | None = None


class Case(Document):
    """The aggregate's entry for one test."""

    suite: Text | None = None
    test_id: Text | None = None
    target: Text | None = None
    eval_path: Text | None = None
    samples: Annotated[list[CaseSample | None], Meta(max_length=10_000)] | None = None


Cases = list[Case | None]


class Metadata(Document):
    timestamp: Time = None
    experiment: Text | None = None
    run_id: Text | None = None
    planned_test_count: Count | None = None
    tags: dict[str, Text | None] | None = None
    combined_from_run_ids: list[Text | None] | None = None
    combined_from: list[Text | None] | None = None


class Aggregate(Document):
    run_id: Text | None = None
    manifest_path: Text | None = None
    metadata: Metadata | None = None
    run_summary: dict[Text, TargetSummary | None] | None = None
    timing: Timing | None = None
    metrics: Metrics | None = None
    tests: Cases | None = None  # since 5.3.0
    cases: Cases | None = None
    combined_from: list[Text | None] | None = None


class TagsDocument(Document):
    tags: list[Tag | None]
    updated_at: Time = None
