"""The executions of an AgentV run: from rows to trials.

A row is one test; the executions of a test that ran several times are listed in its `samples`, `attempts` or `trials`,
depending on the version. Such a row's own values are those of its best execution and not used for the others: the
figures of each are in the list, in the aggregate's `tests` (or `cases`) and in the execution's own `metrics.json`,
which is read only for rows that list more than one. Values found nowhere stay unknown.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from indexer.formats.agentv_documents import (
    Aggregate,
    Case,
    CaseSample,
    Dimensions,
    Duration,
    Execution,
    Grader,
    Metadata,
    Metrics,
    Row,
    Sample,
    Timing,
    Trajectory,
    Usage,
    UsageSources,
)
from indexer.formats.documents import read_or_note
from indexer.masking import error_line, error_type, reason_line
from indexer.protocols import Folder, Options, Unreadable
from indexer.records import Score, Trial, TrialStatus

METRICS = "metrics.json"
LIMIT = 16 * 2**20
"""The most bytes read of an aggregate or a file of metrics."""

_EXECUTION_NAME = re.compile(r"(?:sample|attempt|run)-\d{1,9}")
_NO_TESTS = frozenset({"task", "test", "outputs", "sources"})
_DEEPEST = 4  # folders between a run and a test: a suite may be several
_VERDICTS: dict[str, TrialStatus] = {
    "ok": "passed",
    "quality_failure": "failed",
    "execution_error": "errored",
    "skipped": "skipped",
    "cancelled": "cancelled",
}
_UNAVAILABLE = "unavailable"


def metrics_files(folder: Folder, depth: int = _DEEPEST) -> Iterator[str]:
    """The `metrics.json` of the tests that were executed several times, as paths inside the folder."""
    try:
        names = sorted(folder.folders())
        executions = [name for name in names if _EXECUTION_NAME.fullmatch(name)]
        several = any(not name.endswith("-1") for name in executions)
        paths = [f"{name}/{METRICS}" for name in executions] if several else []
        found = [path for path in paths if folder.size(path) is not None]
        inside = names if not executions and depth else []
        below = [(name, each) for name in inside if _may_hold_tests(name, depth) and (each := folder.find(name))]
    except Unreadable:
        return  # an unreadable folder is left out
    yield from found
    for name, each in below:
        yield from (f"{name}/{path}" for path in metrics_files(each, depth - 1))


def _may_hold_tests(name: str, depth: int) -> bool:
    """Whether a folder may be a suite or a test; below the top, names in _NO_TESTS are a test's own folders."""
    return not name.startswith(".") and (depth == _DEEPEST or name not in _NO_TESTS)


class Executions:
    """Builds the trials of one run. Unreadable files are noted in `broken`."""

    def __init__(self, folder: Folder, aggregate: Aggregate, rows: Sequence[Row], options: Options):
        self._folder, self._aggregate, self._rows, self._options = folder, aggregate, rows, options
        self._copied = bool(combined_from(aggregate))
        self._cases: dict[tuple[str | None, ...], list[Case]] = {}
        for case in aggregate.tests or aggregate.cases or []:
            if case is not None:
                self._cases.setdefault((case.suite, case.test_id, case.target), []).append(case)
        self._rows_of_test = Counter((row.suite, row.test_id, row.target, _eval_path(row)) for row in rows)
        self._run_sources: tuple[bool, bool] | None = None
        self._listed: frozenset[str] | None = None
        self.broken: dict[str, str] = {}

    def trials(self) -> list[Trial]:
        """One trial per execution, named suite/test/target/sample, with `#2`, `#3`… if rows differ only elsewhere."""
        trials: list[Trial] = []
        names = Counter[str]()
        for row in self._rows:
            for trial in self._of_row(row):
                names[trial.trial] += 1
                if names[trial.trial] > 1:
                    trial.trial += f"#{names[trial.trial]}"
                trials.append(trial)
        return trials

    def _of_row(self, row: Row) -> Iterator[Trial]:
        listed = row.samples or row.attempts or row.trials or []
        if len(listed) < 2:
            sample = (listed[0] if listed else None) or Sample()
            execution: Execution = sample if listed and listed[0] else row
            attempt = _attempt(sample, 0)
            figures = _merged(
                _figures(execution), _told(self._case(row), attempt), {} if execution is row else _figures(row)
            )
            self._forget_unknown(figures, None)
            times = (execution.start_time or row.start_time, execution.end_time or row.end_time or row.timestamp)
            yield self._trial(row, execution, attempt, figures, times)
            return
        case = self._case(row)
        for at, each in enumerate(listed):
            if each is None:
                continue  # not an object: nothing is known of it
            attempt = _attempt(each, at)
            metrics = self._metrics(row, each, attempt)
            figures = _merged(_figures(each), _told(case, attempt), _measured(metrics) if metrics else {})
            self._forget_unknown(figures, metrics)
            yield self._trial(row, each, attempt, figures, (each.start_time, each.end_time or row.timestamp))

    def _trial(
        self,
        row: Row,
        execution: Execution,
        attempt: int,
        figures: dict[str, Any],
        times: tuple[str | None, str | None],
    ) -> Trial:
        duration_ms = figures.pop("duration_ms")
        status = _verdict(execution, self._options.agentv_threshold)
        return Trial(
            trial=f"{row.suite or ''}/{row.test_id}/{row.target or ''}/{attempt}",
            suite=row.suite,
            test_id=row.test_id,
            category=row.category,
            target=row.target,
            attempt=attempt,
            status=status,
            score=execution.score,
            error_type=_error_type(execution) if status == "errored" else None,
            error=error_line(execution.error, whole=self._options.whole_errors) if self._options.errors else None,
            started_at=times[0],
            finished_at=times[1],
            duration_s=None if duration_ms is None else duration_ms / 1000,
            folder=_folder(row, execution, attempt),
            scores=[score for grader in execution.scores or [] if grader for score in _scores(grader, self._options)],
            **figures,
        )

    def _forget_unknown(self, figures: dict[str, Any], metrics: Metrics | None) -> None:
        """Clear zeros that mean "not measured", and what copied executions spent: another run already counts it."""
        if self._copied:
            figures |= dict.fromkeys(_SPENT)
            return
        if figures["input_tokens"] == 0 and figures["output_tokens"] == 0 and self._unavailable(metrics)[0]:
            figures |= dict.fromkeys(_TOKENS)
        if figures["cost_usd"] == 0 and self._unavailable(metrics)[1]:
            figures["cost_usd"] = None

    def _unavailable(self, metrics: Metrics | None) -> tuple[bool, bool]:
        """Whether zeros of tokens and of costs mean unknown, by the execution's own metrics, else the run's."""
        if metrics is not None:
            return _sources(metrics, metrics.timing)
        if self._run_sources is None:
            timing = self._aggregate.timing
            if timing is None and "timing.json" in self._folder.files():
                timing = read_or_note(self._folder, "timing.json", Timing, LIMIT, self.broken)
            self._run_sources = _sources(self._aggregate.metrics or Metrics(), timing)
        return self._run_sources

    def _case(self, row: Row) -> Case | None:
        """The aggregate's entry for a row's test; None if it is ambiguous."""
        if not self._cases:
            return None
        source = _eval_path(row)
        if self._rows_of_test[row.suite, row.test_id, row.target, source] > 1:
            return None
        cases = self._cases.get((row.suite, row.test_id, row.target), [])
        fitting = [case for case in cases if source is None or case.eval_path in (None, source)]
        return fitting[0] if len(fitting) == 1 else None

    def _metrics(self, row: Row, sample: Sample, attempt: int) -> Metrics | None:
        test = row.result_dir or row.artifact_dir
        if not test or self._copied:
            return None
        name = sample.sample_path or sample.attempt_path or sample.run_path or f"sample-{attempt}"
        path = f"{test}/{name}/{METRICS}"
        if self._listed is None:
            self._listed = frozenset(metrics_files(self._folder))
        if path not in self._listed:
            return None  # changes to it would go unnoticed
        metrics = read_or_note(self._folder, path, Metrics, LIMIT, self.broken)
        # until 5.0 several targets wrote into one folder, the last one overwriting the others
        return None if metrics and metrics.target not in (None, row.target) else metrics


def combined_from(aggregate: Aggregate) -> list[str]:
    """The ids of the runs whose executions a run of "combine" copies, sorted."""
    metadata = aggregate.metadata or Metadata()
    combined = metadata.combined_from_run_ids or metadata.combined_from or aggregate.combined_from or []
    return sorted({name for name in combined if name})


_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
_SPENT = (*_TOKENS, "cost_usd")


def _figures(execution: Execution) -> dict[str, Any]:
    """A row's or execution's own values, by the names of `Trial`; durations in milliseconds."""
    usage, summary = execution.token_usage or Usage(), execution.transcript_summary
    calls = [count for count in ((summary and summary.tool_calls) or {}).values() if count is not None]
    return {
        **_usage(usage),
        "cost_usd": execution.cost_usd,
        "duration_ms": execution.duration_ms,
        "turns": summary and summary.total_turns,
        "tool_calls": sum(calls) if calls else None,
    }


def _told(case: Case | None, attempt: int) -> dict[str, Any]:
    """The aggregate's values for an execution."""
    if case is None:
        return {}
    samples = case.samples or []
    one = next((sample for sample in samples if sample and sample.sample_index == attempt), CaseSample())
    return {"cost_usd": one.cost_usd, "duration_ms": one.duration_ms}


def _measured(metrics: Metrics) -> dict[str, Any]:
    """The values in an execution's `metrics.json`, in today's shape or that of 5.0."""
    timing = metrics.timing or Timing()
    trajectory = metrics.trajectory or metrics.metrics or Trajectory()
    duration = metrics.duration or Duration(
        total_ms=timing.duration_ms, source=(timing.usage_sources or UsageSources()).duration
    )
    return {
        **_usage(metrics.tokens or timing.token_usage or Usage()),
        "cost_usd": metrics.cost.usd if metrics.cost else timing.cost_usd,
        "duration_ms": None if duration.source == _UNAVAILABLE else duration.total_ms,
        "turns": trajectory.total_turns,
        "tool_calls": trajectory.total_tool_calls,
    }


def _merged(*figures: dict[str, Any]) -> dict[str, Any]:
    """For each name, the first known value."""
    first, *others = figures
    for other in others:
        for name, value in other.items():
            if first[name] is None:
                first[name] = value
    return first


def _sources(metrics: Metrics, timing: Timing | None) -> tuple[bool, bool]:
    """Whether tokens and cost could not be measured."""
    sources = (timing and timing.usage_sources) or UsageSources()
    tokens = (metrics.tokens and metrics.tokens.source) or sources.token_usage
    cost = (metrics.cost and metrics.cost.source) or sources.cost
    return tokens == _UNAVAILABLE, cost == _UNAVAILABLE


def _usage(usage: Usage) -> dict[str, int | None]:
    return dict(zip(_TOKENS, (usage.input, usage.cached, usage.output, usage.reasoning), strict=True))


def _eval_path(row: Row) -> str | None:
    return ((row.projection_identity and row.projection_identity.dimensions) or Dimensions()).eval_path


def _error_type(execution: Execution) -> str | None:
    return error_type(execution.failure_reason_code) or error_type(execution.target_error_kind)


def _attempt(sample: Sample, at: int) -> int:
    index = sample.sample_index if sample.sample_index is not None else sample.attempt
    return (at if index is None else index) + 1


def _verdict(execution: Execution, threshold: float) -> TrialStatus:
    verdict = _VERDICTS.get(execution.execution_status or "")
    if verdict:
        return verdict
    if execution.score is None:
        return "skipped"
    return "passed" if execution.score >= threshold else "failed"


def _folder(row: Row, execution: Execution, attempt: int) -> str | None:
    """The folder of an execution's files inside the run's, if its row names it."""
    test = row.result_dir or row.artifact_dir
    if not test or not isinstance(execution, Sample):
        return test
    name = execution.sample_path or execution.attempt_path or execution.run_path
    several = len(row.samples or row.attempts or row.trials or []) > 1
    name = name or (f"sample-{attempt}" if several else None)
    return f"{test}/{name}" if name else test


def _reason(grader: Grader, options: Options) -> str | None:
    """What a grader says: its reason, else its assertions that failed, else all of them."""
    if not options.errors:
        return None
    if grader.reason:
        return reason_line(grader.reason, whole=options.whole_errors)
    told = [each for each in grader.assertions or [] if each and each.text]
    failed = [each.text for each in told if each.passed is False]
    said = "; ".join(filter(None, failed or [each.text for each in told]))
    return reason_line(said, whole=options.whole_errors)


def _scores(grader: Grader, options: Options) -> Iterator[Score]:
    """A grader's score, then those of its parts."""
    passed = grader.passed if grader.passed is not None else {"pass": True, "fail": False}.get(grader.verdict or "")
    name = grader.name or grader.type or ""
    yield Score(
        name=name,
        type=grader.type,
        score=grader.score,
        weight=grader.weight,
        passed=passed,
        reason=_reason(grader, options),
    )
    for part in grader.scores or []:
        if part is not None:
            yield from _scores(part, options)
