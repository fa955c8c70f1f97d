"""The parts of Pier's and Harbor's JSON documents that are read; see `pier`.

Only named fields: the same files hold secrets.
"""

from typing import Any

from msgspec import field

from indexer.formats.documents import Amount, Count, Document, Text, Time, Words


class Stats(Document):
    n_completed_trials: Count | None = None
    n_trials: Count | None = None  # its name before April 2026
    n_running_trials: Count | None = None
    n_cancelled_trials: Count | None = None


class JobResult(Document):
    id: Text | None = None
    trial_name: Text | None = None  # a trial's result, not a job's
    started_at: Text | None = None
    updated_at: Text | None = None
    finished_at: Text | None = None
    n_total_trials: Count | None = None
    stats: Stats | None = None
    status: Stats | None = None  # where some versions kept the numbers


class Anything(Document):
    """An object that only has to be there."""


class Lock(Document):
    created_at: Time = None
    pier: Anything | None = None
    harbor: Anything | None = None
    trials: list[Anything | None] | None = None

    @property
    def names_tool(self) -> bool:
        """Whether it names the tool that wrote it."""
        return self.pier is not None or self.harbor is not None


class Dataset(Document):
    name: Text | None = None
    path: Text | None = None


class Source(Document):
    """What a job or trial of a regrade was derived from."""

    job_id: Text | None = None
    path: Text | None = None


class JobConfig(Document):
    datasets: list[Dataset | None] | None = None
    source_jobs: list[Source | None] | None = None


class Manifest(Document):
    job_name: Text | None = None
    run_id: Text | None = None


class Effort(Document):
    """The reasoning effort, under the names that agents use for it."""

    reasoning_effort: Text | None = None
    effort: Text | None = None
    thinking: Text | None = None
    variant: Text | None = None


class AgentConfig(Document):
    name: Text | None = None
    import_path: Text | None = None
    model_name: Text | None = None
    effort: Effort | None = field(default=None, name="kwargs")


class Task(Document):
    name: Text | None = None
    path: Text | None = None
    source: Text | None = None


class TrialConfig(Document):
    job_id: Text | None = None
    agent: AgentConfig | None = None
    task: Task | None = None
    source_trial: Source | None = None


class ModelInfo(Document):
    name: Text | None = None
    provider: Words | None = None


class AgentInfo(Document):
    name: Text | None = None
    version: Words | None = None
    model_info: ModelInfo | None = None


class AgentContext(Document):
    n_input_tokens: Count | None = None
    n_cache_tokens: Count | None = None
    n_output_tokens: Count | None = None
    cost_usd: Amount | None = None
    peak_context_tokens: Count | None = None
    n_agent_steps: Count | None = None


class Verdict(Document):
    rewards: dict[Words, Any] | None = None  # numbers, unless something went wrong


class ExceptionInfo(Document):
    exception_type: Text | None = None
    exception_message: str | None = None


class Step(Document):
    agent_result: AgentContext | None = None
    verifier_result: Verdict | None = None
    exception_info: ExceptionInfo | None = None


class TrialResult(Document):
    id: Text | None = None
    task_name: Text | None = None
    source: Text | None = None
    task_checksum: Words | None = None
    config: TrialConfig | None = None
    agent_info: AgentInfo | None = None
    agent_result: AgentContext | None = None
    verifier_result: Verdict | None = None
    exception_info: ExceptionInfo | None = None
    started_at: Time = None
    finished_at: Time = None
    n_agent_steps: Count | None = None
    verifier_environment_mode: Text | None = None
    step_results: list[Step | None] | None = None
    reward_valid: bool | None = None
