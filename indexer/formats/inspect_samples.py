"""Turns the sample summaries of an Inspect log into trials, and picks the score that counts.

Of several scores the headline is the verdict. Values are letters, booleans, numbers or texts, as for Inspect's own
`value_to_float`; NaN is unscored, and values that Inspect turns into 0 with a warning are unknown here.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from indexer.derive import finite
from indexer.formats.inspect_documents import Header, Summary, Usage
from indexer.masking import error_type, masked_name
from indexer.records import Reported, Score, Trial, TrialStatus, seconds_between

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_RAISED = re.compile(r"([A-Za-z_]\w*)\(")
_CANCELLED = ("CancelledError(", "Cancelled(")
ErrorLine = Callable[[str | None], str | None]
"""Turns a message into the line that may be stored."""
LARGEST = 2**63 - 1
"""The greatest integer that an index holds."""
_OF_RUN = ("suite", "target", "agent", "model", "provider", "reasoning_effort", "task_checksum")
"""What all samples of a log have in common."""


class Headline(NamedTuple):
    """The score that counts: a scorer, the key of its value if that is an object, and the metric reported of it."""

    scorer: str
    score: str
    metric: str | None

    def value(self, sample: Summary) -> float | None:
        scores = sample.scores
        found = scores.get(self.scorer) if scores is not None else sample.score
        return _part(found.value if found is not None else None, None if self.score == self.scorer else self.score)


def _part(value: Any, key: str | None) -> float | None:
    """The number of a value, or of a part of one that is an object."""
    if isinstance(value, dict):
        return number(value.get(key)) if key is not None else None
    return number(value)


def number(value: Any) -> float | None:
    """A value as a number; None where it is unscored or no number."""
    if isinstance(value, str):
        if value in _LETTERS:
            return _LETTERS[value]
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        value = float(value) if len(value) < 400 and _NUMBER.fullmatch(value) else None
    if not isinstance(value, bool | int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def headline_of(header: Header, samples: Collection[Summary]) -> Headline | None:
    """The declared headline, else the first score of the results, the task or a sample."""
    results, spec = header.results, header.eval
    for named in (results.headline if results else None, spec.headline_metric if spec else None):
        if named is not None and named.scorer is not None:
            return Headline(named.scorer, named.score or named.scorer, named.metric)
    if results is not None:
        first = next((each for each in results.scores or [] if each and (each.scorer or each.name)), None)
        if first is not None:
            scorer = first.scorer or first.name or ""
            return Headline(scorer, first.name or scorer, next(iter(first.metrics or {}), None))
        if results.scorer is not None:
            return Headline(results.scorer, results.scorer, next(iter(results.metrics or {}), None))
    declared = next((each for each in (spec.scorers if spec else None) or [] if each and each.name), None)
    if declared is not None and declared.name is not None:
        keys = [key for key in declared.metrics if "*" not in key] if isinstance(declared.metrics, dict) else []
        return Headline(declared.name, keys[0] if keys else declared.name, None)
    scored = next((sample.scores for sample in samples if sample.scores), None)
    if scored:
        name, first_value = next(iter(scored.items()))
        value = first_value.value if first_value is not None else None
        return Headline(name, next(iter(value), name) if isinstance(value, dict) else name, None)
    return None


def reported(header: Header, headline: Headline | None) -> Reported:
    """What Inspect reports of the headline score: its metric, and the accuracy."""
    results = header.results
    if results is None or headline is None:
        return Reported()
    matching = [
        each
        for each in results.scores or []
        if each and (each.scorer or each.name) == headline.scorer and (each.name or each.scorer) == headline.score
    ]
    metrics = (matching[0].metrics if matching else results.metrics) or {}
    values = {name: metric.value for name, metric in metrics.items() if metric is not None}
    score = values.get(headline.metric) if headline.metric else next(iter(values.values()), None)
    return Reported(pass_rate=finite(values.get("accuracy")), score=finite(score))


def trials_of(
    samples: Mapping[tuple[str, int], Summary],
    template: Trial,
    headline: Headline | None,
    threshold: float,
    error_line: ErrorLine,
    *,
    judged: bool,
    in_members: bool,
) -> list[Trial]:
    """One trial per sample and epoch, from the last summary of each.

    Scores outside 0 to 1 are on another scale and no verdict, unless the settings say what passes (`judged`). With
    `in_members` each sample has its own file in the log.
    """
    values = {key: headline.value(sample) if headline else None for key, sample in samples.items()}
    other_scale = not judged and any(value is not None and not 0 <= value <= 1 for value in values.values())
    names = _named_apart([identity for identity, _ in samples])
    told = {each: getattr(template, each) for each in _OF_RUN}
    trials = []
    for (identity, epoch), sample in samples.items():
        name, value = names[identity], values[identity, epoch]
        trial = Trial(**told, trial=f"{name}_epoch_{epoch}", test_id=name, attempt=epoch, status="skipped", score=value)
        verdict = None if value is None or other_scale else value >= threshold
        _add_end(trial, sample, verdict, error_line)
        trial.folder = f"samples/{trial.trial}.json" if in_members and name == identity else None
        trial.scores = list(_scores(sample, headline, None if other_scale else threshold))
        _add_usage(trial, sample)
        trials.append(trial)
    return sorted(trials, key=lambda trial: trial.trial)


def _add_end(trial: Trial, sample: Summary, verdict: bool | None, error_line: ErrorLine) -> None:
    """How a sample ended: its status, its error or the limit that it reached, and its times."""
    message = _message(sample.error)
    limit, reason = _limit(sample)
    if message is not None:
        trial.error_type, trial.error = _error_type(message), error_line(message)
    elif limit is not None:
        trial.error_type, trial.error = f"limit:{limit}", error_line(reason)
    trial.status = _status(message, verdict, trial.score is not None)
    trial.started_at, trial.finished_at = sample.started_at, sample.completed_at
    took = seconds_between(sample.started_at, sample.completed_at)
    trial.duration_s = took if sample.total_time is None else sample.total_time
    trial.turns = sample.turn_count


def _named_apart(identities: list[str]) -> dict[str, str]:
    """The masked ids; a second one with the same masked form gets `#2`."""
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    given: set[str] = set()
    for identity in identities:
        if identity not in names:
            name = plain = _name(identity)
            while name in given:
                seen[plain] = seen.get(plain, 1) + 1
                name = f"{plain}#{seen[plain]}"
            given.add(name)
            names[identity] = name
    return names


@lru_cache(4096)
def _name(text: str) -> str:
    """An id or scorer name, masked."""
    return masked_name(text.encode("utf-8", "replace").decode()[:10_000])


def _status(message: str | None, verdict: bool | None, scored: bool) -> TrialStatus:
    if message is not None and message.lstrip().startswith(_CANCELLED):
        return "cancelled"
    if verdict is not None:
        return "passed" if verdict else "failed"
    return "skipped" if message is None or scored else "errored"


def _message(error: Any) -> str | None:
    """The message of a sample's error: a text in a summary, an object in a whole sample."""
    if isinstance(error, dict):
        error = error.get("message", "")
    if error is None:
        return None
    return error if isinstance(error, str) else str(error)


def _limit(sample: Summary) -> tuple[str | None, str | None]:
    if isinstance(sample.limit, dict):
        kind, reason = sample.limit.get("type"), sample.limit.get("reason")
        return (kind if isinstance(kind, str) else "unknown"), reason if isinstance(reason, str) else None
    return (sample.limit if isinstance(sample.limit, str) else None), sample.limit_reason


def _error_type(message: str) -> str:
    match = _RAISED.match(message)
    return error_type(match[1] if match else None) or "Error"


def _scores(sample: Summary, headline: Headline | None, threshold: float | None) -> Iterator[Score]:
    """One score per scorer; one per key if its value is an object."""
    scores = sample.scores
    if scores is None and sample.score is not None:
        scores = {headline.scorer if headline else "score": sample.score}
    for scorer, found in (scores or {}).items():
        value = found.value if found is not None else None
        parts = value.items() if isinstance(value, dict) else [(None, value)]
        for key, part in parts:
            score = number(part)
            passed = None if score is None or threshold is None or not 0 <= score <= 1 else score >= threshold
            name = scorer if key is None else f"{scorer}/{key}"
            yield Score(name=_name(name), type=_name(scorer), score=score, passed=passed)


def _add_usage(trial: Trial, sample: Summary) -> None:
    """Tokens and cost over all models, graders included; None for what no model reports."""
    used = [usage for usage in (sample.model_usage or {}).values() if usage is not None]
    trial.input_tokens = _sum([_input(usage) for usage in used])
    trial.cached_tokens = _sum([usage.input_tokens_cache_read for usage in used])
    trial.cache_write_tokens = _sum([usage.input_tokens_cache_write for usage in used])
    trial.output_tokens = _sum([usage.output_tokens for usage in used])
    trial.reasoning_tokens = _sum([usage.reasoning_tokens for usage in used])
    trial.cost_usd = _cost([usage.total_cost for usage in used])


def _input(usage: Usage) -> int | None:
    """Input including cached tokens; some old providers already include them, as their total shows."""
    if usage.input_tokens is None:
        return None
    together = usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    by_total = (usage.total_tokens or 0) - (usage.output_tokens or 0)
    return by_total if together > by_total > 0 else together


def _sum(values: list[int | None]) -> int | None:
    if len(values) == 1 and (values[0] is None or values[0] <= LARGEST):
        return values[0]
    known = [value for value in values if value is not None]
    total = sum(known)
    return total if known and total <= LARGEST else None


def _cost(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return finite(math.fsum(known)) if known else None
