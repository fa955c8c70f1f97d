"""AgentV run bundles (EntityProcess/agentv), of all generations from May 2026 to 5.3.

One run is one folder: an aggregate (`benchmark.json`, later `summary.json`) beside a rows file with one
JSON line for each test. What changed over time is where the rows file lies, what the folder is called and
which folders are around it; AgentV itself reads only the newest shape. Layouts are named after the
release that brought them: v3 (4.42), v6 (5.0 previews), v7, v8, v9 (5.1 and later); v0, v2 and v5 are the
places of v3's files before and after.

A row is one test (see `agentv_trials`). During a run the aggregate is a stub and rows are appended; at the end the rows
file is rewritten with the paths of each test's files, so it is always read whole, and rows with such paths have ended
even if the aggregate is missing.

A run's id is where it lies, whatever its files call the experiment: `<experiment folders>::<folder>`.
"""

import re

from indexer.earlier import Earlier
from indexer.formats.agentv_documents import Aggregate, Dimensions, Metadata, Row, TagsDocument
from indexer.formats.agentv_trials import LIMIT, Executions, combined_from, metrics_files
from indexer.formats.documents import read_document, read_or_note
from indexer.masking import masked_tag
from indexer.protocols import (
    Conventions,
    Folder,
    Options,
    Unreadable,
    alone,
    never_divided,
    never_opened,
    no_file,
    undivided,
    unreadable,
)
from indexer.records import Reported, Run, RunState, Tags, seconds_between, utc

KEY, VERSION = "agentv", 1
NAME = "agentv"
AGGREGATES = ("summary.json", "benchmark.json")
ROWS = (".internal/index.jsonl", "run_manifest.jsonl", "index.jsonl")
ANCHORS = frozenset({"benchmark.json", "summary.json", "index.jsonl", "run_manifest.jsonl"})
TAGS = "tags.json"

_STUB = frozenset({*AGGREGATES, TAGS, "timing.json", "console.log"})
_RESERVED = frozenset({"runs", "metadata", "results", "jobs"})
_MIB = 2**20
_ROWS_LIMIT, _TAGS_LIMIT = 64 * _MIB, _MIB
_TIME_NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z")

CONVENTIONS = Conventions(
    folders=(".agentv/results",),
    published=("runs",),
    refs=("agentv/results/*", "refs/agentv/runs/*"),
    drafts=("agentv/wip/*", "agentv/inflight/*"),
    overlays=("metadata",),
    # its studio writes `remote::<run id>` for a run that it knows from elsewhere
    trailers={"AgentV-Run": lambda name: f"agentv:{name.removeprefix('remote::')}"},
)
inner_runs = alone
inputs_of, read_trials = undivided, never_divided
is_file, opened = no_file, never_opened


def recognises(folder: Folder) -> bool:
    """A folder with rows; one with an aggregate alone if it is named like a run, or if nothing else is in it."""
    folders, found = folder.folders(), ANCHORS.intersection(folder.files())
    if not found and ".internal" not in folders:
        return False
    if _name(folder.path) in _RESERVED or any(map(_time_of, folders)):
        return False  # a stray file among runs
    if found.issubset(AGGREGATES) and not is_unique(_name(folder.path)) and not _is_stub(folder):
        found = frozenset()
    return bool(found) or (".internal" in folders and _rows_file(folder) is not None)


def _is_stub(folder: Folder) -> bool:
    """Whether the folder holds only the files that a run starts with."""
    return _STUB.issuperset(folder.files()) and all(name.startswith(".") for name in folder.folders())


def is_unique(name: str) -> bool:
    """Whether the name is a time: AgentV names a run by its start, unless somebody renamed it."""
    return _time_of(name) is not None


def inputs(folder: Folder) -> list[str]:
    """The files that the rows of a run depend on, as paths inside its folder."""
    names, rows = folder.files(), _rows_file(folder)
    found = [name for name in (*AGGREGATES, TAGS, "timing.json") if name in names] + ([rows] if rows else [])
    return found + (list(metrics_files(folder)) if "summary.json" in names else [])


def overlay(path: str) -> str | None:
    """`metadata/runs/…` beside `runs/…`: where a published run's tags are kept, because they change later."""
    parts = path.split("/")
    if "runs" not in parts[:-1]:
        return None
    at = parts.index("runs")
    return "/".join([*parts[:at], "metadata", *parts[at:]])


def run_of_overlay(path: str) -> str | None:
    """The run folder whose overlay is at `path`; None if that is not an overlay."""
    parts = path.split("/")
    at = parts.index("runs") if "runs" in parts[:-1] else 0
    return "/".join(parts[: at - 1] + parts[at:]) if at and parts[at - 1] == "metadata" else None


def run_folder(anchor: str) -> str | None:
    """The run folder that an anchor file at this path stands for; None for the summary of a case."""
    folder, _, name = anchor.rpartition("/")
    if name == "summary.json" and not _time_of(_name(folder)):
        return None
    return folder.removesuffix("/.internal")


def key_from_names(folder: Folder) -> str | None:
    """The identity of a run whose files cannot be read, where its path tells one."""
    return f"agentv:{_run_id(folder)}" if is_unique(_name(folder.path)) else None


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a folder with an AgentV anchor; None for a `summary.json` of another shape. Raises Unreadable."""
    told, aggregate_size = _read_aggregate(folder)
    rows_file = _rows_file(folder)
    if told is None and rows_file is None:
        return None
    broken: dict[str, str] = {}
    rows, earliest, rows_size = _read_rows(folder, rows_file, broken)
    aggregate = told or Aggregate()
    executions = Executions(folder, aggregate, rows, options)
    optional = executions.broken
    tags, tags_size = _read_tags(folder, optional)
    trials = executions.trials()
    if broken and earlier.exists():
        raise unreadable(broken | optional)
    metadata = aggregate.metadata or Metadata()
    time_in_name = _time_of(_name(folder.path))
    timestamp = time_in_name or metadata.timestamp or earliest
    if timestamp is None:
        raise Unreadable("", "no-time", "nothing says when this run began: no time in its name, metadata or rows")
    run_id = _run_id(folder)
    state = _state(told, rows)
    ended = [trial.finished_at for trial in trials if trial.finished_at]
    started_at = time_in_name or min((t.started_at for t in trials if t.started_at), default=None)
    finished_at = max(ended, default=None) if state != "running" else None
    planned = metadata.planned_test_count
    return Run(
        key=f"agentv:{run_id}" + ("" if time_in_name else f"@{earliest or timestamp}"),
        run_id=run_id,
        format=NAME,
        layout=_layout(folder, aggregate, rows_file),
        experiment=metadata.experiment or _experiment_of(folder),
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
        derived_from=combined_from(aggregate),
        trials=trials,
        broken=broken,
        partial=bool(broken),
        optional=optional,
    )


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _time_of(name: str) -> str | None:
    match = _TIME_NAME.fullmatch(name)
    return utc("{}T{}:{}:{}.{}Z".format(*match.groups())) if match else None


def _experiment_of(folder: Folder) -> str:
    """The folders between the root of all runs and the run's own; `default` since 5.1, which has none."""
    parts = folder.path.split("/")[:-1]
    if "runs" in parts:
        parts = parts[parts.index("runs") + 1 :]
    elif ".agentv" in parts:
        parts = parts[parts.index(".agentv") + 2 :]
    return "default" if ".internal" in folder.folders() else "/".join(parts) or "default"


def _run_id(folder: Folder) -> str:
    experiment, name = _experiment_of(folder), _name(folder.path)
    return name if experiment == "default" else f"{experiment}::{name}"


def _layout(folder: Folder, aggregate: Aggregate, rows_file: str | None) -> str:
    parts = folder.path.split("/")
    under_runs = "runs" in parts[:-1]
    if rows_file == ".internal/index.jsonl" or (aggregate.run_id and not aggregate.manifest_path):
        return "v9"
    if aggregate.manifest_path or (aggregate.metadata and aggregate.metadata.run_id):
        return "v8" if folder.ref and not under_runs else "v7"
    if "summary.json" in folder.files():
        return "v6"
    if under_runs:
        return "v2" if folder.ref and ".agentv" in parts else "v3"
    return "v0" if folder.ref else "v5"


def _rows_file(folder: Folder) -> str | None:
    for path in ROWS:
        parent, _, name = path.rpartition("/")
        where = folder if not parent else folder.find(parent) if parent in folder.folders() else None
        if where is not None and name in where.files():
            return path
    return None


def _read_aggregate(folder: Folder) -> tuple[Aggregate | None, int]:
    for name in AGGREGATES:
        data = folder.read(name, LIMIT) if name in folder.files() else None
        if data is None:
            continue
        aggregate = read_document(Aggregate, name, data)
        if aggregate.metadata is not None or aggregate.run_summary is not None:
            return aggregate, len(data)
    return None, 0


def _read_rows(folder: Folder, rows_file: str | None, broken: dict[str, str]) -> tuple[list[Row], str | None, int]:
    """The latest version of each row, the earliest time of any, and the file's size in bytes.

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
            broken.setdefault(rows_file, f"line {number}: {error.message}")
            continue
        if row.timestamp and (earliest is None or row.timestamp < earliest):
            earliest = row.timestamp
        dimensions = (row.projection_identity and row.projection_identity.dimensions) or Dimensions()
        variant = row.variant or dimensions.variant
        latest[row.suite, dimensions.eval_path, row.test_id, row.target, variant] = row
    if broken and not latest:
        raise unreadable(broken)
    return list(latest.values()), earliest, len(data)


def _read_tags(folder: Folder, broken: dict[str, str]) -> tuple[Tags | None, int]:
    """The tags, from the overlay rather than the run's own folder, and their file's size in bytes."""
    where = overlay(folder.path)
    over = folder.elsewhere(where) if where else None
    for place in (over, folder):
        size = place.size(TAGS) if place is not None else None
        if place is None or size is None:
            continue
        document = read_or_note(place, TAGS, TagsDocument, _TAGS_LIMIT, broken)
        if document is None:
            return None, size
        return Tags(tags=[tag for tag in document.tags if tag], updated_at=document.updated_at), size
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


def _state(aggregate: Aggregate | None, rows: list[Row]) -> RunState:
    """Running until the aggregate says how it ended; without one, until all rows have their final form."""
    if aggregate is None:
        final = all(row.grading_path or row.result_dir or row.artifact_dir for row in rows)
        return "ended" if rows and final else "running"
    if not aggregate.run_summary:
        return "running"
    planned = (aggregate.metadata and aggregate.metadata.planned_test_count) or 0
    return "cancelled" if len(rows) < planned else "ended"
