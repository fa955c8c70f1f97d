"""AgentV run bundles (EntityProcess/agentv), of all generations from May 2026 to 5.3.

One run is one folder: an aggregate (`benchmark.json`, later `summary.json`) beside a rows file with one
JSON line for each test. What changed over time is where the rows file lies, what the folder is called and
which folders are around it; AgentV itself reads only the newest shape. Layouts are named after the
release that brought them: v3 (4.42), v6 (5.0 previews), v7, v8, v9 (5.1 and later); v0, v2 and v5 are the
places of v3's files before and after.

A row tells an execution of a test or, in `samples` (earlier `trials`), several. While a run goes on the
aggregate is a stub and rows are appended; at the end the rows file is rewritten, so it is always read whole.
"""

import re
from collections.abc import Iterator
from typing import Any

from indexer.formats.agentv_documents import (
    Aggregate,
    Dimensions,
    Execution,
    Grader,
    Metadata,
    Metrics,
    Row,
    Sample,
    TagsDocument,
    Timing,
    Usage,
    UsageSources,
)
from indexer.formats.documents import read_document, shares
from indexer.formats.masking import error_line, error_type, masked_tag
from indexer.protocols import Earlier, Folder, Options, Unreadable, alone, unreadable
from indexer.records import Reported, Run, RunState, Score, Tags, Trial, TrialStatus, seconds_between, utc

NAME = "agentv"
AGGREGATES = ("summary.json", "benchmark.json")
ROWS = (".internal/index.jsonl", "run_manifest.jsonl", "index.jsonl")
ANCHORS = frozenset({"benchmark.json", "summary.json", "index.jsonl", "run_manifest.jsonl"})
TAGS = "tags.json"

_RESERVED = frozenset({"runs", "metadata"})
_MIB = 2**20
_AGGREGATE_LIMIT, _ROWS_LIMIT, _TAGS_LIMIT = 16 * _MIB, 64 * _MIB, _MIB
_TIME_NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z")
_VERDICTS: dict[str, TrialStatus] = {
    "ok": "passed",
    "quality_failure": "failed",
    "execution_error": "errored",
    "skipped": "skipped",
    "cancelled": "cancelled",
}

inner_runs = alone


def recognises(folder: Folder) -> bool:
    """A folder with rows or a benchmark; a lone `summary.json` only under a run's time, since cases have one too."""
    name = _name(folder.path)
    if name in _RESERVED or any(map(_time_of, folder.folders())):
        return False  # a stray file among runs
    found = ANCHORS.intersection(folder.files())
    if found == {"summary.json"} and not _time_of(name):
        found = frozenset()
    return bool(found) or (".internal" in folder.folders() and _rows_file(folder) is not None)


def inputs(folder: Folder) -> list[str]:
    """The files that the rows of a run depend on, as paths inside its folder."""
    rows = _rows_file(folder)
    return [name for name in (*AGGREGATES, TAGS, "timing.json") if name in folder.files()] + ([rows] if rows else [])


def overlay(path: str) -> str | None:
    """`metadata/runs/…` beside `runs/…`: where tags of a published run are kept since they change later."""
    parts = path.split("/")
    if "runs" not in parts[:-1]:
        return None
    at = parts.index("runs")
    return "/".join([*parts[:at], "metadata", *parts[at:]])


def run_of_overlay(path: str) -> str | None:
    """The run folder whose overlay is at `path`; None if that is no overlay."""
    parts = path.split("/")
    at = parts.index("runs") if "runs" in parts[:-1] else 0
    return "/".join(parts[: at - 1] + parts[at:]) if at and parts[at - 1] == "metadata" else None


def run_folder(anchor: str) -> str | None:
    """The run folder that an anchor file at this path stands for; None for the summary of a case."""
    folder, _, name = anchor.rpartition("/")
    if name == "summary.json" and not _time_of(_name(folder)):
        return None
    return folder.removesuffix("/.internal")


def key_from_path(path: str) -> str | None:
    """The identity of a run whose files cannot be read, where its path tells one."""
    if not _time_of(_name(path)):
        return None
    return "agentv:" + _run_id(path, _experiment_in(path) or "default", bool(_experiment_in(path)))


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a folder with an AgentV anchor; None for a `summary.json` of another shape. Raises Unreadable."""
    aggregate, aggregate_size = _read_aggregate(folder)
    rows_file = _rows_file(folder)
    if aggregate is None and rows_file is None:
        return None
    torn: dict[str, str] = {}
    rows, earliest, rows_size = _read_rows(folder, rows_file, torn)
    tags, tags_size = _read_tags(folder, torn)
    if torn and earlier.exists():
        raise unreadable(torn)
    aggregate = aggregate or Aggregate()
    metadata = aggregate.metadata or Metadata()
    trials = _trials(rows, _Unavailable(folder, aggregate), options)

    name = _name(folder.path)
    time_in_name = _time_of(name)
    timestamp = time_in_name or metadata.timestamp or earliest
    if timestamp is None:
        raise Unreadable("", "no-time", "nothing tells when this run began: no time in its name, metadata or rows")

    layout, has_experiment_folder = _layout(folder, aggregate, rows_file)
    experiment = metadata.experiment or (_experiment_in(folder.path) if has_experiment_folder else None) or "default"
    run_id = _run_id(folder.path, experiment, has_experiment_folder)
    state = _state(aggregate, metadata, len(rows))
    ended = [trial.finished_at for trial in trials if trial.finished_at]
    started_at = time_in_name or min((t.started_at for t in trials if t.started_at), default=None)
    finished_at = max(ended, default=None) if state != "running" else None
    planned = metadata.planned_test_count
    return Run(
        key=f"agentv:{run_id}" + ("" if time_in_name else f"@{earliest or timestamp}"),
        run_id=run_id,
        format=NAME,
        layout=layout,
        experiment=experiment,
        state=state,
        timestamp=timestamp,
        started_at=started_at,
        finished_at=finished_at,
        updated_at=max(ended, default=None),
        duration_s=seconds_between(started_at, finished_at),
        planned_count=None if planned is None else max(planned, len(trials)),
        running_count=None if state == "running" else 0,
        size_bytes=aggregate_size + rows_size + tags_size + (folder.size("timing.json") or 0),
        authored_tags=_authored(metadata),
        tags=tags,
        reported=_reported(aggregate),
        trials=trials,
        torn=torn,
        partial=bool(torn),
    )


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _time_of(name: str) -> str | None:
    match = _TIME_NAME.fullmatch(name)
    return utc("{}T{}:{}:{}.{}Z".format(*match.groups())) if match else None


def _experiment_in(path: str) -> str | None:
    """The experiment folders between the place of all runs and the run's own folder."""
    parts = path.split("/")[:-1]
    if "runs" in parts:
        parts = parts[parts.index("runs") + 1 :]
    elif ".agentv" in parts:
        parts = parts[parts.index(".agentv") + 2 :]
    return "/".join(parts) or None


def _run_id(path: str, experiment: str, has_experiment_folder: bool) -> str:
    name = _name(path)
    return f"{experiment}::{name}" if has_experiment_folder and experiment != "default" else name


def _layout(folder: Folder, aggregate: Aggregate, rows_file: str | None) -> tuple[str, bool]:
    """The layout's name, and whether an experiment folder belongs to the run's identity in it."""
    parts = folder.path.split("/")
    under_runs = "runs" in parts[:-1]
    nested = _experiment_in(folder.path) is not None
    if rows_file == ".internal/index.jsonl" or (aggregate.run_id and not aggregate.manifest_path):
        return "v9", False
    if aggregate.manifest_path or (aggregate.metadata and aggregate.metadata.run_id):
        return "v8" if folder.ref and not under_runs else "v7", False
    if "summary.json" in folder.files():
        return "v6", nested
    if under_runs:
        return "v2" if folder.ref and ".agentv" in parts else "v3", nested
    return "v0" if folder.ref else "v5", nested


def _rows_file(folder: Folder) -> str | None:
    for path in ROWS:
        parent, _, name = path.rpartition("/")
        where = folder if not parent else folder.find(parent) if parent in folder.folders() else None
        if where is not None and name in where.files():
            return path
    return None


def _read_aggregate(folder: Folder) -> tuple[Aggregate | None, int]:
    for name in AGGREGATES:
        data = folder.read(name, _AGGREGATE_LIMIT) if name in folder.files() else None
        if data is None:
            continue
        aggregate = read_document(Aggregate, name, data)
        if aggregate.metadata is not None or aggregate.run_summary is not None:
            return aggregate, len(data)
    return None, 0


def _read_rows(folder: Folder, rows_file: str | None, torn: dict[str, str]) -> tuple[list[Row], str | None, int]:
    """Rows without their earlier versions, the earliest time of any, and the file's size in bytes.

    A line that cannot be read is noted.
    """
    data = folder.read(rows_file, _ROWS_LIMIT) if rows_file else None
    if not rows_file or data is None:
        return [], None, 0
    earliest: str | None = None
    latest: dict[tuple[str | None, ...], Row] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line or line.isspace():
            continue
        try:
            row = read_document(Row, rows_file, line)
        except Unreadable as error:
            torn.setdefault(rows_file, f"line {number}: {error.message}")
            continue
        if row.timestamp and (earliest is None or row.timestamp < earliest):
            earliest = row.timestamp
        dimensions = (row.projection_identity and row.projection_identity.dimensions) or Dimensions()
        variant = row.variant or dimensions.variant
        latest[row.suite, dimensions.eval_path, row.test_id, row.target, variant] = row
    if torn and not latest:
        raise unreadable(torn)
    return list(latest.values()), earliest, len(data)


def _read_tags(folder: Folder, torn: dict[str, str]) -> tuple[Tags | None, int]:
    """The decision about tags, the overlay's before the run's own, and its size in bytes."""
    where = overlay(folder.path)
    over = folder.elsewhere(where) if where else None
    for place in (over, folder):
        data = place.read(TAGS, _TAGS_LIMIT) if place is not None and TAGS in place.files() else None
        if data is None:
            continue
        try:
            document = read_document(TagsDocument, TAGS, data)
        except Unreadable as error:
            torn[TAGS] = error.message
            return None, len(data)
        return Tags(tags=[tag for tag in document.tags if tag], updated_at=document.updated_at), len(data)
    return None, 0


def _authored(metadata: Metadata) -> list[str]:
    return [
        masked_tag(f"{key}={value}") for key, value in (metadata.tags or {}).items() if key != "experiment" and value
    ]


def _reported(aggregate: Aggregate) -> dict[str, Reported]:
    """Per target: the mean fraction of assertions passed, which AgentV calls `pass_rate`."""
    return {
        target: Reported(pass_rate=summary.pass_rate.mean)
        for target, summary in (aggregate.run_summary or {}).items()
        if summary and summary.pass_rate
    }


def _state(aggregate: Aggregate, metadata: Metadata, rows: int) -> RunState:
    if not aggregate.run_summary:
        return "running"
    return "cancelled" if rows < (metadata.planned_test_count or 0) else "ended"


class _Unavailable:
    """Which of a run's zeros mean unknown: the tool marks them in the aggregate, or in `timing.json` beside it."""

    def __init__(self, folder: Folder, aggregate: Aggregate):
        self._folder, self._aggregate = folder, aggregate
        self._known: tuple[bool, bool] | None = None

    def tokens(self) -> bool:
        return self._sources()[0]

    def cost(self) -> bool:
        return self._sources()[1]

    def _sources(self) -> tuple[bool, bool]:
        if self._known is None:
            metrics, sources = self._aggregate.metrics or Metrics(), self._usage_sources()
            tokens = (metrics.tokens and metrics.tokens.source) or sources.token_usage
            cost = (metrics.cost and metrics.cost.source) or sources.cost
            self._known = tokens == "unavailable", cost == "unavailable"
        return self._known

    def _usage_sources(self) -> UsageSources:
        timing = self._aggregate.timing
        if timing is None and "timing.json" in self._folder.files():
            data = self._folder.read("timing.json", _AGGREGATE_LIMIT)
            timing = read_document(Timing, "timing.json", data) if data is not None else None
        return (timing and timing.usage_sources) or UsageSources()


def _trials(rows: list[Row], unavailable: _Unavailable, options: Options) -> list[Trial]:
    """One trial an execution, named suite/test/target/sample, with `#2`, `#3`… where rows differ only elsewhere."""
    trials: list[Trial] = []
    names: dict[str, int] = {}
    for row in rows:
        for trial in _executions(row, unavailable, options):
            count = names[trial.trial] = names.get(trial.trial, 0) + 1
            if count > 1:
                trial.trial += f"#{count}"
            trials.append(trial)
    return trials


def _executions(row: Row, unavailable: _Unavailable, options: Options) -> Iterator[Trial]:
    samples: list[Execution] = [s for s in row.samples or row.trials or [] if s] or [row]
    usage = row.token_usage or Usage()
    if usage.input == 0 and usage.output == 0 and unavailable.tokens():
        usage = Usage()
    cost = None if row.cost_usd == 0 and unavailable.cost() else row.cost_usd
    inputs_, outputs = shares(usage.input, len(samples)), shares(usage.output, len(samples))
    reasoning, cached = shares(usage.reasoning, len(samples)), shares(usage.cached, len(samples))
    for at, sample in enumerate(samples):
        attempt = _attempt(sample, at)
        own = sample.token_usage if sample is not row else None
        duration_ms = _share(sample.duration_ms, row.duration_ms, len(samples))
        status = _verdict(sample, options.agentv_threshold)
        yield Trial(
            trial=f"{row.suite or ''}/{row.test_id}/{row.target or ''}/{attempt}",
            suite=row.suite,
            test_id=row.test_id,
            category=row.category,
            target=row.target,
            attempt=attempt,
            status=status,
            score=sample.score,
            error_type=_error_type(sample) if status == "errored" else None,
            error=error_line(sample.error) if options.errors else None,
            started_at=sample.start_time or row.start_time,
            finished_at=sample.end_time or row.end_time or row.timestamp,
            duration_s=None if duration_ms is None else duration_ms / 1000,
            input_tokens=own.input if own else inputs_[at],
            cached_tokens=own.cached if own else cached[at],
            output_tokens=own.output if own else outputs[at],
            reasoning_tokens=own.reasoning if own else reasoning[at],
            cost_usd=_share(sample.cost_usd, cost, len(samples)) if sample is not row else cost,
            scores=[_score(grader) for grader in sample.scores or [] if grader],
        )


def _error_type(execution: Execution) -> str | None:
    return error_type(execution.failure_reason_code) or error_type(execution.target_error_kind)


def _attempt(sample: Execution, at: int) -> int:
    index: Any = None
    if isinstance(sample, Sample):
        index = sample.sample_index if sample.sample_index is not None else sample.attempt
    return (at if index is None else index) + 1


def _share(own: float | None, together: float | None, samples: int) -> float | None:
    if own is not None:
        return own
    return None if together is None else together / samples


def _verdict(execution: Execution, threshold: float) -> TrialStatus:
    told = _VERDICTS.get(execution.execution_status or "")
    if told:
        return told
    if execution.score is None:
        return "skipped"
    return "passed" if execution.score >= threshold else "failed"


def _score(grader: Grader) -> Score:
    passed = grader.passed if grader.passed is not None else {"pass": True, "fail": False}.get(grader.verdict or "")
    return Score(
        name=grader.name or grader.type or "", type=grader.type, score=grader.score, weight=grader.weight, passed=passed
    )
