"""The trials of a job of Pier or Harbor.

A reward is a verdict even beside an exception, unless the tool marks it invalid. Without one, a trial with a failed
step has errored too, though only the step has the exception. Files that the agent left (a trajectory, a session) only
add figures: a problem with them never holds back the result.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from indexer.earlier import Earlier
from indexer.formats import copilot_session
from indexer.formats.documents import read_or_note
from indexer.formats.pier_documents import (
    AgentConfig,
    AgentContext,
    AgentInfo,
    Effort,
    ExceptionInfo,
    ModelInfo,
    Task,
    TrialConfig,
    TrialResult,
)
from indexer.masking import error_line, error_type
from indexer.masking.given import secrets_in
from indexer.protocols import Folder, Options, Unreadable
from indexer.records import RunState, Score, Trial, TrialStatus, seconds_between

CONFIG_LIMIT = 8 * 2**20
"""The most bytes read of a configuration."""
_RESULT_LIMIT = 64 * 2**20  # token ids and their probabilities make it large
_EFFORT = re.compile(r"[a-z0-9_-]{1,20}")


class TrialReader:
    """Reads the trials of a job; unchanged ones come from their earlier rows.

    Unreadable files are noted: in `broken` those that a trial needs, in `optional` those that only add details.
    Unchanged trials are only skipped if `may_skip`.
    """

    def __init__(
        self,
        folder: Folder,
        options: Options,
        earlier: Earlier,
        broken: dict[str, str],
        state: RunState,
        *,
        may_skip: bool,
    ):
        self._folder, self._options, self._earlier, self._broken = folder, options, earlier, broken
        self._unfinished: TrialStatus = "running" if state in ("running", "queued") else "cancelled"
        self._argv: list[str] | None = None
        # values in these files are masked in the errors of all trials
        self._may_skip = may_skip and earlier.unchanged("config.json") and earlier.unchanged("lock.json")
        self.optional: dict[str, str] = {}
        self.job_id: str | None = None
        self.ids: set[str] = set()
        self.derived_from: set[str] = set()
        self.saw_harbor = False
        self.lacks_trials = False

    def read(self, name: str, file: str | None) -> Trial | None:
        """The trial in a folder, from its result or, while there is none, its configuration; None if unknown."""
        if file == "config.json":
            return self._unfinished_trial(name)
        known = self._earlier.trial(name)
        if file is not None:
            if known is not None and self._may_skip and self._earlier.unchanged(name):
                return known
            trial = self._finished_trial(name)
            if trial is not None:
                return trial
        elif not self._note_closed(name):
            return None
        if known is not None and self._earlier.exists():
            return known
        self.lacks_trials = True  # the known trial may be a placeholder
        if known is None and self._unfinished == "running":
            return Trial(trial=name, status="running", folder=name)  # its result may be half-written
        return known

    def _note_closed(self, name: str) -> bool:
        """Note why a folder, or a link in its place, cannot be opened; returns whether that is so."""
        try:
            self._folder.size(f"{name}/result.json")
            self._folder.read(name, CONFIG_LIMIT)
        except Unreadable as error:
            self._broken[name] = error.message
        return name in self._broken

    def _unfinished_trial(self, name: str) -> Trial:
        path = f"{name}/config.json"
        config: TrialConfig = read_or_note(self._folder, path, TrialConfig, CONFIG_LIMIT, self._broken) or TrialConfig()
        self.job_id = self.job_id or config.job_id
        task, agent = config.task or Task(), config.agent or AgentConfig()
        # an agent loaded from a path has its name only in the result
        agent_name = None if agent.import_path or ":" in (agent.name or "") else agent.name
        _, model = self._model(ModelInfo(name=agent.model_name))
        effort = _effort(agent)
        return Trial(
            trial=name,
            status=self._unfinished,
            suite=task.source,
            test_id=task.name or (task.path or "").rstrip("/").rpartition("/")[2] or None,
            agent=agent_name,
            model=model,
            reasoning_effort=effort,
            target=_target(agent_name, model, effort),
            folder=name,
        )

    def _finished_trial(self, name: str) -> Trial | None:
        path = f"{name}/result.json"
        result: TrialResult | None = read_or_note(self._folder, path, TrialResult, _RESULT_LIMIT, self._broken)
        if result is None:
            return None
        config, info = result.config or TrialConfig(), result.agent_info or AgentInfo()
        self._note_job(config, result)
        provider, model = self._model(info.model_info or ModelInfo())
        effort = _effort(config.agent or AgentConfig())
        exception = _exception(result)
        rewards = _rewards(result)
        status, score = _judge(rewards, result.reward_valid is not False, exception, self._options.pier_threshold)
        trial = Trial(
            trial=name,
            suite=result.source,
            test_id=result.task_name,
            agent=info.name,
            agent_version=info.version,
            model=model,
            provider=provider,
            reasoning_effort=effort,
            target=_target(info.name, model, effort),
            status=status,
            score=score,
            error_type=error_type(exception.exception_type),
            error=self._error(path, exception),
            started_at=result.started_at,
            finished_at=result.finished_at,
            duration_s=seconds_between(result.started_at, result.finished_at),
            task_checksum=result.task_checksum,
            folder=name,
            scores=[Score(name=key, type="reward", score=value) for key, value in rewards.items()],
        )
        if config.source_trial is None:
            _add_usage(trial, result)
            copilot_session.add_metrics(trial, self._folder, f"{name}/agent", self.optional)
        return trial

    def _note_job(self, config: TrialConfig, result: TrialResult) -> None:
        """Note what a trial reveals about its job."""
        self.job_id = self.job_id or config.job_id
        self.saw_harbor = self.saw_harbor or result.verifier_environment_mode is not None
        if result.id is not None:
            self.ids.add(result.id)
        if config.source_trial is not None:
            *_, job, _ = ("", *(config.source_trial.path or "/").rstrip("/").split("/"))
            self.derived_from.update({job} - {""})

    def _model(self, info: ModelInfo) -> tuple[str | None, str | None]:
        """Provider and model; a missing provider is taken from the name, before its first `/`."""
        provider, name = info.provider, info.name
        if provider is None and name is not None and "/" in name:
            provider, _, name = name.partition("/")
        return provider or None, self._options.model(name or None)

    def _error(self, path: str, exception: ExceptionInfo) -> str | None:
        """The exception's first line; secrets among the run's arguments and environment are masked in it."""
        if not self._options.errors or not exception.exception_message:
            return None
        if not self._broken.keys().isdisjoint(("config.json", "lock.json")):
            return None  # what to mask is not known
        try:
            if self._argv is None:
                files = ("config.json", "lock.json")
                self._argv = [text for file in files for text in secrets_in(self._folder.read(file, CONFIG_LIMIT))]
            own = secrets_in(self._folder.read(path, _RESULT_LIMIT))
        except ValueError:
            return None
        secrets = [*self._argv, *own]
        return error_line(exception.exception_message, secrets, whole=self._options.whole_errors)


def _target(agent: str | None, model: str | None, effort: str | None) -> str | None:
    """The observed configuration: agent/model@effort; None while the agent is not known."""
    if agent is None:
        return None
    return "/".join(filter(None, (agent, model))) + (f"@{effort}" if effort else "")


def _effort(agent: AgentConfig) -> str | None:
    efforts = agent.effort or Effort()
    effort = efforts.reasoning_effort or efforts.effort or efforts.thinking or efforts.variant
    return effort if effort and _EFFORT.fullmatch(effort) else None


def _exception(result: TrialResult) -> ExceptionInfo:
    """The trial's exception, else that of the first step that failed."""
    steps = (step.exception_info for step in result.step_results or [] if step and step.exception_info)
    return result.exception_info or next(steps, ExceptionInfo())


def _rewards(result: TrialResult) -> dict[str, float | None]:
    """Rewards by name, None if not a number; without the trial's own, the mean over its verified steps."""
    if result.verifier_result is not None:
        rewards = result.verifier_result.rewards or {}
        return {name: _number(value) for name, value in rewards.items()}
    if _exception(result).exception_type is not None:
        return {}
    verified = [
        {name: _number(value) for name, value in step.verifier_result.rewards.items()}
        for step in result.step_results or []
        if step and step.verifier_result and step.verifier_result.rewards
    ]
    names = sorted({name for rewards in verified for name in rewards})
    return {name: _mean([rewards.get(name, 0.0) for rewards in verified]) for name in names}


def _mean(values: list[float | None]) -> float | None:
    """The mean; None without values, or if one is not a number."""
    known = [value for value in values if value is not None]
    return _finite(sum(known) / len(known)) if known and len(known) == len(values) else None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _judge(
    rewards: dict[str, float | None], is_valid: bool, exception: ExceptionInfo, threshold: float
) -> tuple[TrialStatus, float | None]:
    """Status and score. A valid reward counts as a verdict, even beside an exception."""
    score = rewards["reward"] if "reward" in rewards else _mean(list(rewards.values()))
    if score is not None and is_valid:
        return ("passed" if score >= threshold else "failed"), score
    if exception.exception_type is None:
        return ("skipped" if score is None else "errored"), None
    return ("cancelled" if exception.exception_type == "CancelledError" else "errored"), None


def _add_usage(trial: Trial, result: TrialResult) -> None:
    """Tokens and cost: the trial's own, or the sums over its steps."""
    contexts = [result.agent_result] if result.agent_result else []
    if not contexts:
        contexts = [step.agent_result for step in result.step_results or [] if step and step.agent_result]
    if len(contexts) == 1:
        (context,) = contexts
    else:
        context = AgentContext(
            n_input_tokens=_sum(each.n_input_tokens for each in contexts),
            n_cache_tokens=_sum(each.n_cache_tokens for each in contexts),
            n_output_tokens=_sum(each.n_output_tokens for each in contexts),
            cost_usd=_sum(each.cost_usd for each in contexts),
            peak_context_tokens=max((each.peak_context_tokens or 0 for each in contexts), default=None),
            n_agent_steps=_sum(each.n_agent_steps for each in contexts),
        )
    trial.input_tokens, trial.cached_tokens = context.n_input_tokens, context.n_cache_tokens
    trial.output_tokens, trial.cost_usd = context.n_output_tokens, context.cost_usd
    trial.peak_context_tokens = context.peak_context_tokens or None
    trial.turns = result.n_agent_steps if result.n_agent_steps is not None else context.n_agent_steps


def _sum(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return _finite(sum(known)) if known else None


def _finite(value: Any) -> Any:
    """A number that the index can hold; None beyond 64 bits or infinity."""
    return value if math.isfinite(value) and abs(value) < (math.inf if isinstance(value, float) else 2**63) else None
