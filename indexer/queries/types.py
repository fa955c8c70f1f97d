"""Types of rows, by column name: the comments in schema.sql explain the columns."""

from typing import NotRequired, TypedDict


class _Counts(TypedDict):
    """Over the trials of a run, or of one configuration in it."""

    ended_count: int
    trial_count: int
    passed: int
    failed: int
    errored: int
    skipped: int
    cancelled: int
    test_count: int
    exceptions: int
    pass_rate: float | None
    avg_score: float | None
    quality_rate: float | None
    quality_score: float | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


class RunRow(_Counts):
    """A row of `runs` without its internal id; `tags` and `derived_from` are lists."""

    key: str
    run_id: str
    source: str
    path: str
    ref: str | None
    format: str
    layout: str
    experiment: str
    target: str | None
    agent: str | None
    model: str | None
    status: str
    timestamp: str
    started_at: str | None
    finished_at: str | None
    updated_at: str | None
    duration_s: float | None
    planned_count: int | None
    running_count: int | None
    size_bytes: int
    tags: list[str]
    sha: str | None
    added_at: str | None
    author: str | None
    code_sha: str | None
    host: str | None
    attempt: int | None
    derived_from: list[str] | None
    error: str | None
    rev: int


class TargetRow(_Counts):
    """A row of `run_targets` without the columns that repeat the run's; `outcomes` is a list."""

    target: str | None
    agent: str | None
    model: str | None
    suite: str | None
    duration_s: float | None
    timed: int
    firsts: int
    paid: int
    scored: int
    target_tests: int
    outcomes: list[list[int]]
    reported_pass_rate: float | None
    reported_score: float | None


class PlaceRow(TypedDict):
    """What readers get of a row of `places`."""

    source: str
    path: str
    ref: str | None
    sha: str | None
    status: str
    ended: int
    last_activity: str | None


class CommitRow(TypedDict):
    """A commit that names a run; `url` is its page, where the settings tell one."""

    repo: str
    sha: str
    committed_at: str | None
    subject: str | None
    url: str | None


class RunDetails(RunRow):
    """A run with what belongs to it."""

    targets: list[TargetRow]
    places: list[PlaceRow]
    commits: list[CommitRow]


class ScoreRow(TypedDict):
    """A row of `scores`."""

    name: str
    type: str | None
    score: float | None
    weight: float | None
    passed: int | None
    reason: str | None


class TrialRow(TypedDict):
    """A row of `trials` with its scores, and what names its run."""

    run_key: str
    run_id: str
    experiment: str
    timestamp: str
    trial: str
    suite: str | None
    test_id: str | None
    category: str | None
    target: str | None
    agent: str | None
    agent_version: str | None
    model: str | None
    provider: str | None
    reasoning_effort: str | None
    attempt: int | None
    status: str
    score: float | None
    error_type: str | None
    error: str | None
    exit_code: int | None
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    input_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    aiu: float | None
    turns: int | None
    tool_calls: int | None
    tool_failures: int | None
    peak_context_tokens: int | None
    lines_added: int | None
    lines_removed: int | None
    task_checksum: str | None
    folder: str | None
    scores: list[ScoreRow]


class _Change(TypedDict):
    key: str
    deleted: bool


class Change(_Change, total=False):
    """A run that changed, or that was deleted and has no `run`."""

    run: RunRow


class SourceRow(TypedDict):
    """Some columns of `sources`; `looked_at`: when the index was last known to equal the source."""

    name: str
    kind: str
    place: str
    tip: str | None
    runs: int
    changed_at: str | None
    failing_since: str | None
    error: str | None
    note: str | None
    looked_at: str | None
    machine: NotRequired[str]  # of a shared index


class ProblemRow(TypedDict):
    """A row of `problems` without its id and `lasting`."""

    source: str
    path: str
    ref: str | None
    run_key: str | None
    kind: str
    message: str
    first_seen: str
