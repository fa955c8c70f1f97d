"""The JSON documents of AgentV's run bundles, as far as they are read; see `agentv`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from indexer.formats.documents import Amount, Count, Document, Number, Text, Time, Words
from indexer.formats.masking import masked_tag

SampleIndex = Annotated[int, Field(ge=0, lt=10**9)]


class Usage(Document):
    input: Count | None = None
    output: Count | None = None
    reasoning: Count | None = None
    cached: Count | None = None


class Grader(Document):
    name: Words | None = None
    type: Words | None = None
    score: Number | None = None
    weight: Number | None = None
    verdict: Text | None = None
    passed: bool | None = Field(None, alias="pass")


class Execution(Document):
    """What a row and each of its samples have in common."""

    score: Number | None = None
    execution_status: Text | None = None
    scores: Annotated[list[Grader | None], Field(max_length=1000)] | None = None
    error: str | None = None
    failure_reason_code: Text | None = None
    target_error_kind: Text | None = None
    start_time: Time = None
    end_time: Time = None
    duration_ms: Amount | None = None
    cost_usd: Amount | None = None
    token_usage: Usage | None = None


class Sample(Execution):
    sample_index: SampleIndex | None = None  # G9, from 0
    attempt: SampleIndex | None = None  # G6 to G8, from 0


Samples = Annotated[list[Sample | None], Field(max_length=10_000)]


class Dimensions(Document):
    eval_path: Text | None = None
    variant: Text | None = None


class Identity(Document):
    dimensions: Dimensions | None = None


class Row(Execution):
    timestamp: Time = None
    test_id: Text
    suite: Text | None = None
    category: Words | None = None
    target: Text | None = None
    variant: Text | None = None
    samples: Samples | None = None
    trials: Samples | None = None
    projection_identity: Identity | None = None


class Mean(Document):
    mean: Number | None = None


class TargetSummary(Document):
    pass_rate: Mean | None = None


class Provenance(Document):
    source: Text | None = None


class UsageSources(Document):
    token_usage: Text | None = None
    cost: Text | None = None


class Timing(Document):
    usage_sources: UsageSources | None = None


class Metrics(Document):
    tokens: Provenance | None = None
    cost: Provenance | None = None


class Metadata(Document):
    timestamp: Time = None
    experiment: Text | None = None
    run_id: Text | None = None
    planned_test_count: Count | None = None
    tags: dict[str, Text | None] | None = None


class Aggregate(Document):
    run_id: Text | None = None
    manifest_path: Text | None = None
    metadata: Metadata | None = None
    run_summary: dict[Text, TargetSummary | None] | None = None
    timing: Timing | None = None
    metrics: Metrics | None = None


class TagsDocument(Document):
    tags: list[Annotated[str, Field(max_length=10_000), AfterValidator(masked_tag)] | None]
    updated_at: Time = None
