"""Builds the run of an Inspect log from its header and the summaries of its samples."""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from indexer.formats.inspect_documents import Eval, Given, Header, Stats, Summary, Update
from indexer.formats.inspect_samples import LARGEST, headline_of, reported, trials_of
from indexer.masking import error_line
from indexer.masking.given import secrets_in
from indexer.protocols import MALFORMED, Options, Unreadable
from indexer.records import Run, RunState, Tags, Trial, seconds_between

_STATES: dict[str | None, RunState] = {
    "started": "running", "success": "ended", "cancelled": "cancelled", "error": "failed"
}  # fmt: skip
_INVALIDATED = "invalidated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was read of one log.

    `document` is the JSON that holds the header; the run's inputs in it serve to mask its errors. `size` is that of the
    file in bytes.
    """

    path: str
    layout: str
    header: Header
    samples: Iterable[Summary | None]
    document: bytes
    size: int


def run_of(told: Told, options: Options) -> Run:
    """The run. Raises Unreadable for a log without a run id or start time."""
    header = told.header
    spec = header.eval or Eval()
    identity = spec.task_id or spec.eval_id
    if identity is None:
        raise Unreadable("", MALFORMED, "it has no task_id: nothing says which run it is")
    if spec.created is None:
        raise Unreadable("", "no-time", "nothing says when this run began")
    latest = _latest(told.samples)
    errors = _Errors(_secrets(told.document, header, latest.values()), _names(spec), options)
    target, agent, _, model = _configuration(header, options)
    headline = headline_of(header, latest.values())
    trials = trials_of(
        latest,
        _template(header, options),
        headline,
        options.inspect_tasks.get(spec.task or "", options.inspect_threshold),
        errors.line,
        judged=spec.task in options.inspect_tasks,
        in_members=told.layout == "eval",
    )
    state = _state(header)
    stats = header.stats or Stats()
    started_at, finished_at = stats.started_at or spec.created, stats.completed_at
    updates = [update for update in header.log_updates or [] if update is not None]
    times = [finished_at, *(trial.finished_at for trial in trials), *map(_time, updates)]
    return Run(
        key=f"inspect:{identity}",
        run_id=told.path.rpartition(".")[0].removeprefix("logs/"),
        format="inspect",
        layout=told.layout,
        experiment=spec.task or "default",
        state=state,
        timestamp=spec.created,
        started_at=started_at,
        finished_at=finished_at,
        updated_at=max(filter(None, times), default=None),
        duration_s=seconds_between(started_at, finished_at),
        planned_count=_planned(spec),
        running_count=None if state == "running" else 0,
        size_bytes=told.size,
        code_sha=spec.revision.commit if spec.revision else None,
        error=errors.line(header.error.message) if header.error else None,
        authored_tags=[tag for tag in spec.tags or [] if tag],
        tags=_tags(header, updates),
        reported={target or "": reported(header, headline)},
        configuration=(target, agent, model, spec.task),
        rank=spec.created if trials else "",
        edition=_edition(updates, trials),
        trials=trials,
    )


def _latest(samples: Iterable[Summary | None]) -> dict[tuple[str, int], Summary]:
    """By id and epoch the last summary: a retried sample has several."""
    known = (each for each in samples if each is not None and each.id is not None)
    return {(str(each.id), each.epoch or 1): each for each in known}


def _names(spec: Eval) -> list[str]:
    """The run's own names, which may look like random tokens."""
    return [name for name in (spec.task_id, spec.eval_id, spec.task, spec.model) if name]


def _template(header: Header, options: Options) -> Trial:
    """What all samples have in common."""
    spec = header.eval or Eval()
    target, agent, provider, model = _configuration(header, options)
    return Trial(
        trial="", suite=spec.task, target=target, agent=agent, provider=provider, model=model,
        reasoning_effort=_effort(header), status="skipped", task_checksum=_checksum(spec),
    )  # fmt: skip


def _edition(updates: Collection[Update], trials: Collection[Trial]) -> str:
    """Breaks ties between copies: the last edited one wins, then the one with more scores."""
    return f"{max(filter(None, map(_time, updates)), default='')} {sum(len(trial.scores) for trial in trials):09}"


class _Errors:
    """Turns messages into errors that are safe to store."""

    def __init__(self, secrets: list[str] | None, names: list[str], options: Options):
        self._secrets, self._names, self._options = secrets, names, options

    def line(self, message: str | None) -> str | None:
        if not self._options.errors:
            return None
        return error_line(message, self._secrets, names=self._names, whole=self._options.whole_errors)


def _secrets(given: bytes, header: Header, samples: Iterable[Summary]) -> list[str] | None:
    """The run's inputs with secret names, if anything has to be masked; None if unknown."""
    if header.error is None and not any(sample.error or sample.limit for sample in samples):
        return []
    try:
        return secrets_in(msgspec.json.decode(given, type=Given).parts())
    except (ValueError, RecursionError):  # NaN beside them
        try:
            return secrets_in(given)
        except ValueError:
            return None


def _configuration(header: Header, options: Options) -> tuple[str | None, str | None, str | None, str | None]:
    """Target, agent, provider and model."""
    spec = header.eval or Eval()
    steps = [step.solver for step in (header.plan.steps if header.plan else None) or [] if step and step.solver]
    agent = spec.solver or (steps[-1] if steps else None)
    known = None if spec.model in (None, "none/none") else spec.model
    provider, slash, name = (known or "").partition("/")
    model = options.model((name if slash else provider) or None)
    target = "/".join(filter(None, (spec.solver or (agent if known is None else None), known))) or None
    effort = _effort(header)
    return (f"{target}@{effort}" if target and effort else target), agent, (provider if slash else None) or None, model


def _effort(header: Header) -> str | None:
    planned = header.plan.config.reasoning_effort if header.plan and header.plan.config else None
    of_model = header.eval.model_generate_config if header.eval else None
    return planned or (of_model.reasoning_effort if of_model else None)


def _checksum(spec: Eval) -> str:
    """A digest that is the same for runs of a task under equal conditions."""
    dataset = spec.dataset.name if spec.dataset else None
    told = json.dumps([spec.task, spec.task_version, dataset, spec.task_args_passed], sort_keys=True, default=str)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _state(header: Header) -> RunState:
    ended = header.stats is not None and header.stats.completed_at is not None
    return _STATES.get(header.status, "ended" if ended else "running")


def _planned(spec: Eval) -> int | None:
    """The number of samples, selected ones if any, times the epochs."""
    dataset = spec.dataset
    samples = None if dataset is None else dataset.samples if dataset.sample_ids is None else len(dataset.sample_ids)
    epochs = (spec.config.epochs if spec.config else None) or 1
    return None if samples is None or samples * epochs > LARGEST else samples * epochs


def _tags(header: Header, updates: list[Update]) -> Tags | None:
    """The header's tags, with the time of their last edit; invalidation counts as a tag, too."""
    edits = [update for update in updates if any(edit and edit.type == "tags" for edit in update.edits or [])]
    told = header.tags if header.tags is not None else (header.eval.tags if header.eval else None)
    tags = [tag for tag in told or [] if tag] + ([_INVALIDATED] if header.invalidated else [])
    if header.tags is None and not header.invalidated:
        return None
    return Tags(tags=tags, updated_at=max(filter(None, map(_time, edits)), default=None))


def _time(update: Update) -> str | None:
    return update.provenance.timestamp if update.provenance else None
