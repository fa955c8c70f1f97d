"""Runs of agentevals, as `sources.agentevals` takes them from its database: a document of the run, one of its results.

`agentevals-run.json` holds columns of the table `run` with some paths of its `spec` and `summary`,
`agentevals-results.json` the run's error and rows of `result`. An item of the eval set is a trial, an evaluator's
result a score. The summary tells agents, models and tokens for all items together: the names stand in each trial,
tokens are split.
"""

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from indexer.formats.documents import Count, Document, Number, Text, Time, Words, read_document
from indexer.formats.masking import error_line, masked_name
from indexer.protocols import Earlier, Folder, Options, Unreadable, alone, common, nowhere
from indexer.records import Run, RunState, Score, Trial, TrialStatus, joined, seconds_between

NAME = "agentevals"
RUN, RESULTS = "agentevals-run.json", "agentevals-results.json"
ANCHORS = frozenset({RUN})

_RUN_LIMIT, _RESULTS_LIMIT = 8 << 20, 256 << 20  # bytes
_STATES: dict[str | None, RunState] = {
    "queued": "queued", "running": "running", "succeeded": "ended", "failed": "failed", "cancelled": "cancelled"
}  # fmt: skip
_WORST: tuple[TrialStatus, ...] = ("errored", "failed", "passed")
_PASSED = {"passed": True, "failed": False}


class Tokens(Document):
    total_prompt: Count | None = None
    total_output: Count | None = None
    cache_read_tokens: Count | None = None
    cache_creation_tokens: Count | None = None


class Summary(Document):
    trace_count: Count | None = None
    agents: list[Text | None] | None = None
    models: list[Text | None] | None = None
    tokens: Tokens | None = None


class RunDocument(Document):
    run_id: Text
    status: Text | None = None
    attempt: Count | None = None
    created_at: Time = None
    started_at: Time = None
    finished_at: Time = None
    eval_set_id: Text | None = None
    trace_count: Count | None = None
    summary: Summary | None = None


class Result(Document):
    eval_set_item_id: Annotated[str, Field(max_length=10_000)] | None = None
    evaluator_name: Words | None = None
    evaluator_type: Words | None = None
    status: Text | None = None
    score: Number | None = None
    error_text: str | None = None
    created_at: Time = None


class Results(Document):
    error: str | None = None
    results: Annotated[list[Result | None], Field(max_length=1_000_000)] | None = None


inner_runs = alone
is_unique = common
overlay = run_of_overlay = nowhere


def recognises(folder: Folder) -> bool:
    """A folder with the run's document."""
    return RUN in folder.files()


def inputs(folder: Folder) -> list[str]:
    """Both documents, where they are."""
    return [name for name in (RUN, RESULTS) if name in folder.files()]


def run_folder(anchor: str) -> str | None:
    """The run folder that an anchor file at this path stands for."""
    return anchor.rpartition("/")[0]


def key_from_names(folder: Folder) -> str | None:
    """The identity of a run that cannot be read, by the name of its folder."""
    try:
        return f"agentevals:{uuid.UUID(folder.path.rpartition('/')[2])}"
    except ValueError:
        return None


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a folder. Raises Unreadable."""
    data = folder.read(RUN, _RUN_LIMIT)
    if data is None:
        return None
    run = read_document(RunDocument, RUN, data)
    rows = folder.read(RESULTS, _RESULTS_LIMIT) or b"{}"
    document = read_document(Results, RESULTS, rows)
    if run.created_at is None:
        raise Unreadable(RUN, "no-time", "nothing tells when this run began")
    state = _STATES.get(run.status, "running")
    summary = run.summary or Summary()
    trials = _trials(run, summary, [result for result in document.results or [] if result], options)
    planned = summary.trace_count if summary.trace_count is not None else run.trace_count
    return Run(
        key=f"agentevals:{run.run_id}",
        run_id=run.run_id,
        format=NAME,
        layout="postgresql",
        experiment=run.eval_set_id or "default",
        state=state,
        timestamp=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        updated_at=max(filter(None, (run.finished_at, *(trial.finished_at for trial in trials))), default=None),
        duration_s=seconds_between(run.started_at, run.finished_at),
        planned_count=None if planned is None else max(planned, len(trials)),
        running_count=None if state == "running" else 0,
        size_bytes=len(data) + len(rows),
        attempt=run.attempt,
        error=error_line(document.error) if options.errors else None,
        trials=trials,
    )


def _trials(run: RunDocument, summary: Summary, results: Sequence[Result], options: Options) -> list[Trial]:
    items: dict[str, list[Result]] = {}
    for result in results:
        if result.eval_set_item_id is not None:
            items.setdefault(result.eval_set_item_id, []).append(result)
    names = _named_apart(items)
    tokens = summary.tokens or Tokens()
    prompt, output = _shares(tokens.total_prompt, len(items)), _shares(tokens.total_output, len(items))
    read, written = _shares(tokens.cache_read_tokens, len(items)), _shares(tokens.cache_creation_tokens, len(items))
    agents = joined(summary.agents or ())
    models = joined(options.model(model) for model in summary.models or ())
    return [
        Trial(
            trial=names[item],
            suite=run.eval_set_id,
            test_id=names[item],
            target=agents,
            agent=agents,
            model=models,
            attempt=run.attempt,
            status=_verdict(of_item),
            score=_mean([result.score for result in of_item if result.score is not None]),
            error=_error(of_item) if options.errors else None,
            finished_at=max((result.created_at for result in of_item if result.created_at), default=None),
            input_tokens=prompt[at],
            cached_tokens=read[at],
            cache_write_tokens=written[at],
            output_tokens=output[at],
            scores=[_score(result) for result in of_item],
        )
        for at, (item, of_item) in enumerate(items.items())
    ]


def _named_apart(items: Iterable[str]) -> dict[str, str]:
    """The names of items as they may be kept; a second one that is masked to the same gets `#2`."""
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    for item in items:
        name = masked_name(item)
        seen[name] = seen.get(name, 0) + 1
        names[item] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def _verdict(results: Sequence[Result]) -> TrialStatus:
    """The worst of what the evaluators said; those that said nothing do not count."""
    said = {result.status for result in results}
    return next((status for status in _WORST if status in said), "skipped")


def _error(results: Sequence[Result]) -> str | None:
    return next((line for result in results if (line := error_line(result.error_text))), None)


def _score(result: Result) -> Score:
    name = result.evaluator_name or ""
    return Score(name=name, type=result.evaluator_type, score=result.score, passed=_PASSED.get(result.status or ""))


def _mean(scores: Sequence[float]) -> float | None:
    mean = sum(scores) / len(scores) if scores else math.inf
    return mean if math.isfinite(mean) else None


def _shares(together: int | None, items: int) -> list[int | None]:
    """A count split evenly so that the parts add up to it."""
    if together is None or items <= 1:
        return [together] * items
    each, rest = divmod(together, items)
    return [each + (at < rest) for at in range(items)]
