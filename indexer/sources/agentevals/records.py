"""Builds runs from the rows of agentevals: an item of the eval set is a trial, a result a score.

The summary has agents, models and tokens for all items together: each trial gets the names and a share of the tokens.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from indexer.earlier import Earlier
from indexer.formats.documents import Count, Document, Number, Text, Time, Words, fitted, read_document
from indexer.masking import error_line, masked_name
from indexer.masking.given import secrets_in
from indexer.protocols import Options, Unreadable
from indexer.records import Run, RunState, Score, Trial, TrialStatus, joined, seconds_between

MOST_RESULTS = 1_000_000
"""Results of one run; a run with more is not read."""
_MOST_SECRETS = 1000  # each is looked for in each error
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
    eval_set_item_id: Annotated[str, Meta(max_length=10_000)] | None = None
    evaluator_name: Words | None = None
    evaluator_type: Words | None = None
    status: Text | None = None
    score: Number | None = None
    error_text: str | None = None
    created_at: Time = None


@dataclass(frozen=True, slots=True)
class RunRows:
    """The rows of one run: a Readable.

    `document` is the JSON of RUNS, `results` are rows by the names of RESULT, and `spec` is the JSON of the run's
    inputs, only used to mask its errors.
    """

    run_id: str
    document: str
    error: str | None = field(repr=False)
    results: list[dict[str, Any]] = field(repr=False)
    spec: str = field(repr=False)

    reader = "agentevals"

    def key_from_names(self) -> str:
        return f"agentevals:{self.run_id}"

    def read(self, options: Options, earlier: Earlier) -> Run | None:
        if len(self.results) > MOST_RESULTS:
            raise Unreadable("run", "too-large", f"it has more than the {MOST_RESULTS:,} results that are read")
        run = read_document(RunDocument, "run", self.document.encode())
        if run.created_at is None:
            raise Unreadable("run", "no-time", "nothing says when this run began")
        secrets = _secrets_of(self.spec)
        state = _STATES.get(run.status, "running")
        summary = run.summary or Summary()
        trials = _trials(run, summary, [_result(row, secrets, options) for row in self.results], options)
        planned = summary.trace_count if summary.trace_count is not None else run.trace_count
        return Run(
            key=f"agentevals:{run.run_id}",
            run_id=run.run_id,
            format="agentevals",
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
            size_bytes=len(self.document.encode())
            + sum(len(str(value)) for row in self.results for value in row.values()),
            attempt=run.attempt,
            error=error_line(self.error, secrets, whole=options.whole_errors) if options.errors else None,
            trials=trials,
        )


def _result(row: Mapping[str, Any], secrets: Collection[str] | None, options: Options) -> Result:
    """A row of `result`; values of the wrong type are dropped."""
    error = error_line(row["error_text"], secrets, whole=options.whole_errors) if options.errors else None
    row = {**row, "error_text": error}
    return fitted(Result, row)


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
            error=next((result.error_text for result in of_item if result.error_text), None),
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
    """The masked names of items; a second one with the same masked name gets `#2`."""
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    for item in items:
        name = masked_name(item)
        seen[name] = seen.get(name, 0) + 1
        names[item] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def _verdict(results: Sequence[Result]) -> TrialStatus:
    """The worst verdict of the evaluators; those without one do not count."""
    said = {result.status for result in results}
    return next((status for status in _WORST if status in said), "skipped")


def _score(result: Result) -> Score:
    name = result.evaluator_name or ""
    return Score(
        name=name,
        type=result.evaluator_type,
        score=result.score,
        passed=_PASSED.get(result.status or ""),
        reason=result.error_text,
    )


def _mean(scores: Sequence[float]) -> float | None:
    mean = sum(scores) / len(scores) if scores else math.inf
    return mean if math.isfinite(mean) else None


def _shares(together: int | None, items: int) -> list[int | None]:
    """A count split evenly so that the parts add up to it."""
    if together is None or items <= 1:
        return [together] * items
    each, rest = divmod(together, items)
    return [each + (at < rest) for at in range(items)]


def _secrets_of(spec: str) -> set[str] | None:
    """The secrets a run was given; None if they cannot be determined."""
    try:
        secrets = set(secrets_in(spec.encode()))
    except ValueError:
        return None
    return secrets if len(secrets) <= _MOST_SECRETS else None
