"""Jobs of Pier and Harbor: one run is one job folder, one trial each of its folders.

A job keeps `config.json`, `lock.json` and a `result.json` that is rewritten in place at every step; a trial's
`result.json` is written once, at its end. Jobs lie flat (`jobs/<job>/`) or, written by copilot-experiments,
nested (`jobs/<job>/<run>/`, with a manifest once they ended).

What a job says of its totals is not used: it is rewritten while it runs, stays as it was for ever after a kill,
and counts a trial with both a reward and an exception twice. Job times are naive local times, trial times are
UTC; the job's zone follows from `lock.json`, which is UTC. Secrets stand in these files in clear (arguments and
environment of the agent), so only named fields are read; those values are only ever used to mask error texts.
"""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from indexer.formats import copilot_session
from indexer.formats.documents import read_or_note
from indexer.formats.masking import error_line, error_type, secrets_in
from indexer.formats.pier_documents import (
    AgentConfig,
    AgentInfo,
    Effort,
    ExceptionInfo,
    JobConfig,
    JobResult,
    Lock,
    Manifest,
    ModelInfo,
    Stats,
    Task,
    TrialConfig,
    TrialResult,
)
from indexer.protocols import Earlier, Folder, Nothing, Options, Unreadable, common, nowhere, unreadable, untold
from indexer.records import Run, RunState, Score, Trial, TrialStatus, joined, seconds_between, utc

NAME = "pier"
ANCHORS = frozenset({"result.json", "config.json"})
MANIFEST = "copilot-experiments-run.json"

_MIB = 2**20
_JOB_LIMIT, _TRIAL_LIMIT, _CONFIG_LIMIT = 32 * _MIB, 8 * _MIB, 8 * _MIB
_MARKS = frozenset({"config.json", "result.json", "lock.json", "job.log"})
_TRIAL_NAME = re.compile(r".*__[0-9A-Za-z]{7}", re.DOTALL)
_NESTED_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?")
_DEFAULT_NAME = re.compile(r"\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d")
_EFFORT = re.compile(r"[a-z0-9_-]{1,20}")
_QUARTER = 900  # seconds

overlay = run_of_overlay = nowhere
key_from_names, is_unique = untold, common


def recognises(folder: Folder) -> bool:
    """A folder with at least two of the files that every job has, its configuration or its result among them."""
    files = folder.files()
    return ("result.json" in files or "config.json" in files) and len(_MARKS.intersection(files)) > 1


def inputs(folder: Folder) -> list[str]:
    """The files that the rows of a job depend on, as paths inside its folder."""
    return _inputs(folder, _trial_files(folder))


def inner_runs(folder: Folder) -> list[str]:
    """Runs of copilot-experiments inside a flat job: only those with a manifest, since trials look like jobs."""
    names = [name for name in folder.folders() if _NESTED_NAME.fullmatch(name)]
    return sorted(name for name in names if folder.size(f"{name}/{MANIFEST}") is not None)


def run_folder(anchor: str) -> str | None:
    """The job folder that an anchor file at this path stands for; None if it looks like a trial's."""
    folder = anchor.rpartition("/")[0]
    return None if _TRIAL_NAME.fullmatch(folder.rpartition("/")[2]) else folder


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The job in a folder; None if it is none after all, or too young to tell its identity. Raises Unreadable."""
    torn: dict[str, str] = {}
    job: JobResult = read_or_note(folder, "result.json", JobResult, _JOB_LIMIT, torn) or JobResult()
    if job.trial_name is not None:
        return None
    lock: Lock = read_or_note(folder, "lock.json", Lock, _CONFIG_LIMIT, torn) or Lock()
    manifest: Manifest | None = read_or_note(folder, MANIFEST, Manifest, _CONFIG_LIMIT, torn)
    config: JobConfig = read_or_note(folder, "config.json", JobConfig, _CONFIG_LIMIT, torn) or JobConfig()
    partial = bool(torn)
    files = list(_trial_files(folder))
    state = _state(job, [file for _, file in files])
    unfinished: TrialStatus = "running" if state in ("running", "queued") else "cancelled"
    # what only trials tell of the job is told by none that is not read
    tool_told = lock.pier is not None or lock.harbor is not None
    known = earlier if job.id is not None and tool_told else Nothing()
    reader = _TrialReader(folder, options, known, torn, unfinished)
    trials = [reader.read(name, file) for name, file in files]
    if partial and earlier.exists():
        raise unreadable(torn)
    job_id = job.id or reader.job_id
    if job_id is None:
        if torn:
            raise unreadable(torn)
        return None
    _rank_attempts(trials)
    offset = _utc_offset(job.started_at, lock.created_at)
    started_at, finished_at = _job_time(job.started_at, offset), _job_time(job.finished_at, offset)
    starts = [trial.started_at for trial in trials if trial.started_at]
    ends = [trial.finished_at for trial in trials if trial.finished_at]
    timestamp = lock.created_at or min(starts, default=None) or started_at
    if timestamp is None and torn:
        raise unreadable(torn)
    if timestamp is None:
        raise Unreadable("", "no-time", "nothing tells when this job began: no lock, trial or start")
    run_id, experiment, nested = _names(folder, manifest, config, trials)
    is_harbor = lock.harbor is not None if tool_told else reader.saw_harbor
    return Run(
        key=f"pier:{job_id}",
        run_id=run_id,
        format="harbor" if is_harbor else "pier",
        layout="nested" if nested else "flat",
        experiment=experiment,
        state=state,
        timestamp=timestamp,
        started_at=started_at or min(starts, default=None),
        finished_at=finished_at,
        updated_at=max([*ends, *filter(None, [_job_time(job.updated_at, offset)])], default=None),
        duration_s=seconds_between(started_at, finished_at),
        planned_count=job.n_total_trials,
        running_count=sum(trial.status == "running" for trial in trials),
        size_bytes=sum(folder.size(name) or 0 for name in _inputs(folder, files)),
        trials=trials,
        torn=torn,
        partial=partial or reader.lacks_trials,
    )


def _inputs(folder: Folder, trial_files: Iterable[tuple[str, str]]) -> list[str]:
    names = [name for name in ("result.json", "config.json", "lock.json", MANIFEST) if name in folder.files()]
    for trial, file in trial_files:
        names.append(f"{trial}/{file}")
        if file == "result.json":
            names += copilot_session.inputs(folder, f"{trial}/agent")
    return names


def _trial_files(folder: Folder) -> Iterator[tuple[str, str]]:
    """Each trial's folder and the file that tells of it: its result, or its configuration while there is none."""
    inner = inner_runs(folder)
    for name in sorted(folder.folders()):
        if name.startswith(".") or name in inner:
            continue
        for file in ("result.json", "config.json"):
            if folder.size(f"{name}/{file}") is not None:
                yield name, file
                break


def _state(job: JobResult, files: list[str]) -> RunState:
    """What the job's own result tells, and for what older ones do not say, the files of its trials."""
    if job.finished_at is not None:
        return "ended"
    stats = job.stats or Stats()
    moved = job.status or Stats()
    running = _first(stats.n_running_trials, moved.n_running_trials, files.count("config.json"))
    cancelled = _first(stats.n_cancelled_trials, moved.n_cancelled_trials, 0)
    if not running and cancelled:
        return "cancelled"
    completed = _first(stats.n_completed_trials, moved.n_completed_trials, stats.n_trials, 0)
    return "running" if running or completed or files else "queued"


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _names(folder: Folder, manifest: Manifest | None, config: JobConfig, trials: list[Trial]) -> tuple[str, str, bool]:
    """Run id, experiment, and whether the job is nested."""
    parts = folder.path.split("/")
    if "jobs" in parts[:-1]:
        parts = parts[len(parts) - parts[::-1].index("jobs") :]
    if manifest is not None or len(parts) > 1:
        told = manifest or Manifest()
        job = told.job_name or (parts[-2] if len(parts) > 1 else parts[-1])
        return f"{job}/{told.run_id or parts[-1]}", job, True
    name = parts[-1]
    return name, _datasets(config, trials) if _DEFAULT_NAME.fullmatch(name) else name, False


def _datasets(config: JobConfig, trials: list[Trial]) -> str:
    names = {each.name or (each.path or "").rstrip("/").rpartition("/")[2] for each in config.datasets or [] if each}
    return joined(names) or joined(trial.suite for trial in trials) or "adhoc"


def _utc_offset(local: str | None, created_at: str | None) -> timedelta:
    """How far the job's naive local times are ahead of UTC, to a quarter of an hour."""
    try:
        naive = datetime.fromisoformat(local or "")
        lock = datetime.fromisoformat(created_at or "").replace(tzinfo=None)
    except ValueError:
        return timedelta(0)
    if naive.tzinfo is not None:
        return timedelta(0)
    return timedelta(seconds=round((naive - lock).total_seconds() / _QUARTER) * _QUARTER)


def _job_time(text: str | None, offset: timedelta) -> str | None:
    time = utc(text)
    if time is None or text is None or datetime.fromisoformat(text).tzinfo is not None:
        return time
    try:
        return utc((datetime.fromisoformat(text) - offset).isoformat())
    except OverflowError:
        return None


def _rank_attempts(trials: list[Trial]) -> None:
    """Number the executions of the same test and target by their start."""
    ranks: dict[tuple[str | None, ...], int] = {}
    for trial in sorted(trials, key=lambda trial: (trial.started_at is None, trial.started_at or "", trial.trial)):
        same = (trial.suite, trial.test_id, trial.target)
        ranks[same] = trial.attempt = ranks.get(same, 0) + 1


class _TrialReader:
    """Reads the trials of a job, those that did not change from the rows they gave before."""

    def __init__(
        self, folder: Folder, options: Options, earlier: Earlier, torn: dict[str, str], unfinished: TrialStatus
    ):
        self._folder, self._options, self._earlier, self._torn = folder, options, earlier, torn
        self._unfinished: TrialStatus = unfinished
        self._argv: list[str] | None = None
        # what these files hold is masked in the errors of all trials
        self._same_secrets = earlier.unchanged("config.json") and earlier.unchanged("lock.json")
        self.job_id: str | None = None
        self.saw_harbor = False
        self.lacks_trials = False

    def read(self, name: str, file: str) -> Trial:
        """The trial in a folder, told by its result or, while there is none, its configuration."""
        if file == "config.json":
            return self._unfinished_trial(name)
        known = self._earlier.trial(name)
        if known is not None and self._same_secrets and self._earlier.unchanged(name):
            return known
        readable = len(self._torn)
        trial = self._finished_trial(name)
        if trial is not None and len(self._torn) == readable:
            return trial
        if known is not None and self._earlier.exists():
            return known
        self.lacks_trials = True  # what is known may only have stood in
        return trial or known or Trial(trial=name, status=self._unfinished)

    def _unfinished_trial(self, name: str) -> Trial:
        path = f"{name}/config.json"
        config: TrialConfig = read_or_note(self._folder, path, TrialConfig, _CONFIG_LIMIT, self._torn) or TrialConfig()
        self.job_id = self.job_id or config.job_id
        task, agent = config.task or Task(), config.agent or AgentConfig()
        model = (agent.model_name or "").rpartition("/")[2] or None
        effort = _effort(agent)
        return Trial(
            trial=name,
            status=self._unfinished,
            suite=task.source,
            test_id=task.name or (task.path or "").rstrip("/").rpartition("/")[2] or None,
            agent=agent.name,
            model=model,
            reasoning_effort=effort,
            target=_target(agent.name, model, effort),
        )

    def _finished_trial(self, name: str) -> Trial | None:
        path = f"{name}/result.json"
        result: TrialResult | None = read_or_note(self._folder, path, TrialResult, _TRIAL_LIMIT, self._torn)
        if result is None:
            return None
        config, info = result.config or TrialConfig(), result.agent_info or AgentInfo()
        self.job_id = self.job_id or config.job_id
        self.saw_harbor = self.saw_harbor or result.verifier_environment_mode is not None
        model = info.model_info or ModelInfo()
        effort = _effort(config.agent or AgentConfig())
        exception = result.exception_info or ExceptionInfo()
        rewards = _rewards(result)
        status, score = _judge(rewards, exception, self._options.pier_threshold)
        trial = Trial(
            trial=name,
            suite=result.source,
            test_id=result.task_name,
            agent=info.name,
            agent_version=info.version,
            model=model.name,
            provider=model.provider,
            reasoning_effort=effort,
            target=_target(info.name, model.name, effort),
            status=status,
            score=score,
            error_type=error_type(exception.exception_type),
            error=self._error(path, exception),
            started_at=result.started_at,
            finished_at=result.finished_at,
            duration_s=seconds_between(result.started_at, result.finished_at),
            task_checksum=result.task_checksum,
            scores=[Score(name=key, type="reward", score=value) for key, value in rewards.items()],
        )
        _add_usage(trial, result)
        copilot_session.add_metrics(trial, self._folder, f"{name}/agent", self._torn)
        return trial

    def _error(self, path: str, exception: ExceptionInfo) -> str | None:
        """The exception's first line; whatever the run was given as argument or environment is masked in it."""
        if not self._options.errors or not exception.exception_message:
            return None
        if not self._torn.keys().isdisjoint(("config.json", "lock.json")):
            return None  # what to mask is not known
        try:
            if self._argv is None:
                files = ("config.json", "lock.json")
                self._argv = [text for file in files for text in secrets_in(self._folder.read(file, _CONFIG_LIMIT))]
            own = secrets_in(self._folder.read(path, _TRIAL_LIMIT))
        except ValueError:
            return None
        return error_line(exception.exception_message, [*self._argv, *own])


def _target(agent: str | None, model: str | None, effort: str | None) -> str | None:
    """The observed configuration: agent/model@effort; None while the agent is not known."""
    if agent is None:
        return None
    return "/".join(filter(None, (agent, model))) + (f"@{effort}" if effort else "")


def _effort(agent: AgentConfig) -> str | None:
    told = agent.effort or Effort()
    effort = told.reasoning_effort or told.effort
    return effort if effort and _EFFORT.fullmatch(effort) else None


def _rewards(result: TrialResult) -> dict[str, float | None]:
    """Rewards by name; of a multi-step trial without its own, the mean over the steps that were verified."""
    if result.verifier_result is not None or result.exception_info is not None:
        return (result.verifier_result and result.verifier_result.rewards) or {}
    verified = [
        step.verifier_result.rewards
        for step in result.step_results or []
        if step and step.verifier_result and step.verifier_result.rewards
    ]
    names = sorted({name for rewards in verified for name in rewards})
    return {name: _finite(sum(rewards.get(name) or 0.0 for rewards in verified) / len(verified)) for name in names}


def _judge(
    rewards: dict[str, float | None], exception: ExceptionInfo, threshold: float
) -> tuple[TrialStatus, float | None]:
    """Status and score. A reward counts as a verdict, beside an exception too."""
    known = [value for value in rewards.values() if value is not None]
    score = rewards.get("reward")
    if score is None and known:
        score = _finite(sum(known) / len(known))
    if score is not None:
        return ("passed" if score >= threshold else "failed"), score
    if exception.exception_type is None:
        return "skipped", None
    return ("cancelled" if exception.exception_type == "CancelledError" else "errored"), None


def _add_usage(trial: Trial, result: TrialResult) -> None:
    """Tokens and cost: the trial's own, or the sums over its steps."""
    contexts = [result.agent_result] if result.agent_result else []
    if not contexts:
        contexts = [step.agent_result for step in result.step_results or [] if step and step.agent_result]
    trial.input_tokens = _sum(context.n_input_tokens for context in contexts)
    trial.cached_tokens = _sum(context.n_cache_tokens for context in contexts)
    trial.output_tokens = _sum(context.n_output_tokens for context in contexts)
    trial.cost_usd = _sum(context.cost_usd for context in contexts)
    trial.peak_context_tokens = max((c.peak_context_tokens for c in contexts if c.peak_context_tokens), default=None)
    steps = _sum(context.n_agent_steps for context in contexts)
    trial.turns = result.n_agent_steps if result.n_agent_steps is not None else steps


def _sum(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return _finite(sum(known)) if known else None


def _finite(value: Any) -> Any:
    """A number that the index can hold; None beyond 64 bits or infinity."""
    return value if math.isfinite(value) and abs(value) < (math.inf if isinstance(value, float) else 2**63) else None
