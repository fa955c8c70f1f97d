"""Logs of Inspect: one run is one file, a zip (`.eval`) or a JSON document.

Of a zip only `header.json` and the summaries of its samples are read, by their place; one that has not ended, or was
killed, has no header, and its summaries lie in a journal. A retry is a new file with the same `task_id`, in which the
samples that had ended are repeated: it is the same run gone on with, and the latest log with any sample tells of it.
Copies, conversions, recovered and re-scored logs are further places of one run.

User data and secrets stand in these files in clear (arguments, inputs, metadata), so only named fields are read; what
the run was given only ever serves to mask its errors, and to tell whether two runs had the same conditions.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from indexer.formats.documents import read_document
from indexer.formats.given import secrets_in
from indexer.formats.inspect_documents import Eval, Header, Log, Summaries, Summary, Update
from indexer.formats.inspect_samples import headline_of, reported, trials_of
from indexer.formats.masking import error_line
from indexer.formats.one_file import OneFile
from indexer.formats.zipped import ZipFolder
from indexer.protocols import (
    MALFORMED,
    Conventions,
    Earlier,
    Folder,
    Options,
    Unreadable,
    alone,
    common,
    nowhere,
    untold,
)
from indexer.records import Run, RunState, Tags, Trial, seconds_between

KEY, VERSION = "inspect", 1
NAME = "inspect"
ANCHORS = frozenset[str]()
CONVENTIONS = Conventions(folders=("logs",))
HEADER, START, SUMMARIES = "header.json", "_journal/start.json", "summaries.json"

_JOURNAL = re.compile(r"_journal/summaries/(\d{1,9})\.json")
_JSON_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\d.*\.json", re.DOTALL)
_TEMPORARY = ".inspect_tmp_"
_HEADER_LIMIT, _SUMMARIES_LIMIT, _JSON_LIMIT = 32 * 2**20, 256 * 2**20, 256 * 2**20
_LARGE = 16 * 2**20
_BEGINNING = 4096  # bytes by which a log is told from other JSON
_NOT_FINITE = re.compile(rb"(?<=[:,\[\s])(?:NaN|-?Infinity)(?=[,\]}\s])")
_POINTER = b"version https://git-lfs"
_STATES: dict[str | None, RunState] = {
    None: "running", "started": "running", "success": "ended", "cancelled": "cancelled", "error": "failed"
}  # fmt: skip
_INVALIDATED = "invalidated"

inner_runs = alone
overlay = run_of_overlay = nowhere
is_unique, key_from_names = common, untold


def recognises(folder: Folder) -> bool:
    """No folder: a log is a file."""
    return False


def is_file(name: str) -> bool:
    """`*.eval`, or JSON that is called by an ISO time first, as Inspect itself tells."""
    if name.startswith(_TEMPORARY):
        return False
    return name.endswith(".eval") or _JSON_NAME.fullmatch(name) is not None


def opened(folder: Folder, name: str) -> Folder:
    """A log as a folder: of the members of a zip, or of the JSON document alone."""
    return ZipFolder(folder, name) if name.endswith(".eval") else OneFile(folder, name)


def run_folder(anchor: str) -> str | None:
    """A log stands for itself."""
    return anchor


def inputs(folder: Folder) -> list[str]:
    """None of its own: a log is one file."""
    return []


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a log; None if a JSON file is none. Raises Unreadable."""
    if isinstance(folder, ZipFolder):
        return _of_zip(folder, options)
    assert isinstance(folder, OneFile)
    if not _looks_like_a_log(folder.beginning(_BEGINNING)):
        return None
    data = folder.read(folder.name, _JSON_LIMIT) or b""
    log = read_document(Log, folder.name, _finite(data))
    if log.eval is None:
        raise Unreadable(folder.name, MALFORMED, "it says nothing of what was evaluated")
    return _run(folder.path, log, log.samples or [], data, len(data), options, layout="json")


def _finite(data: bytes) -> bytes:
    """A large document whose numbers are numbers: one with NaN would be decoded with all that is in it."""
    is_large = len(data) > _LARGE and (b"NaN" in data or b"Infinity" in data)
    return _NOT_FINITE.sub(b"null", data) if is_large else data


def _looks_like_a_log(beginning: bytes) -> bool:
    if beginning.startswith(_POINTER):
        raise Unreadable("", "pointer", "a pointer of git LFS: the log is not in the repository")
    return b'"status"' in beginning and (b'"eval"' in beginning or b'"version"' in beginning)


def _of_zip(folder: ZipFolder, options: Options) -> Run:
    size = folder.file_size
    if size < 1000 and folder.beginning(len(_POINTER)) == _POINTER:
        raise Unreadable("", "pointer", "a pointer of git LFS: the log is not in the repository")
    name = HEADER if HEADER in folder.names else START
    data = folder.read(name, _HEADER_LIMIT)
    if data is None:
        raise Unreadable("", MALFORMED, "a zip file without the members of a log")
    header = read_document(Header, name, data)
    if header.eval is None:
        raise Unreadable(name, MALFORMED, "it says nothing of what was evaluated")
    if name == START:
        header.status = "started"
    run = _run(folder.path, header, list(_summaries(folder)), data, size, options, layout="eval")
    odd = next((name for name in folder.names if name.startswith("/") or ".." in name.split("/")), None)
    if odd is not None:
        run.optional = {odd: "its name leads out of the log"}
    return run


def _summaries(folder: ZipFolder) -> Iterator[Summary | None]:
    """Those of the end, else those of the journal in their order. Raises Unreadable."""
    if SUMMARIES in folder.names:
        yield from _listed(folder, SUMMARIES, _SUMMARIES_LIMIT)
        return
    left = _SUMMARIES_LIMIT
    numbered = sorted((int(match[1]), name) for name in folder.names if (match := _JOURNAL.fullmatch(name)))
    for _, name in numbered:
        yield from _listed(folder, name, left)
        left -= folder.size(name) or 0


def _listed(folder: ZipFolder, name: str, limit: int) -> list[Summary | None]:
    data = folder.read(name, limit) or b"[]"
    return read_document(Summaries, name, b'{"samples":' + data + b"}").samples


def _run(
    path: str,
    header: Header,
    samples: Iterable[Summary | None],
    given: bytes,
    size: int,
    options: Options,
    *,
    layout: str,
) -> Run:
    """The run that a log tells of; `given` is the document that holds what the run was given."""
    spec = header.eval or Eval()
    identity = spec.task_id or spec.eval_id
    if identity is None:
        raise Unreadable("", MALFORMED, "it has no task_id: nothing tells which run it is")
    if spec.created is None:
        raise Unreadable("", "no-time", "nothing tells when this run began")
    latest = {(str(each.id), each.epoch or 1): each for each in samples if each is not None and each.id is not None}
    headline = headline_of(header, latest.values())
    secrets = _secrets(given, header, latest.values()) if options.errors else []
    names = [name for name in (spec.task_id, spec.eval_id, spec.task, spec.model) if name]
    target, agent, provider, model = _configuration(header, options)
    effort = _effort(header)
    template = Trial(
        trial="", suite=spec.task, target=target, agent=agent, provider=provider, model=model,
        reasoning_effort=effort, status="skipped", task_checksum=_checksum(spec),
    )  # fmt: skip
    threshold = options.inspect_tasks.get(spec.task or "", options.inspect_threshold)
    judged = spec.task in options.inspect_tasks
    error = _Errors(secrets, names, options)
    trials = trials_of(latest, template, headline, threshold, error.line, judged=judged)
    state = _state(header)
    stats = header.stats
    finished_at = stats.completed_at if stats else None
    started_at = (stats.started_at if stats else None) or spec.created
    updates = [update for update in header.log_updates or [] if update is not None]
    times = [finished_at, *(trial.finished_at for trial in trials), *(_time(update) for update in updates)]
    return Run(
        key=f"inspect:{identity}",
        run_id=_run_id(path),
        format=NAME,
        layout=layout,
        experiment=spec.task or "default",
        state=state,
        timestamp=spec.created,
        started_at=started_at,
        finished_at=finished_at,
        updated_at=max(filter(None, times), default=None),
        duration_s=seconds_between(started_at, finished_at),
        planned_count=_planned(spec),
        running_count=None if state == "running" else 0,
        size_bytes=size,
        code_sha=spec.revision.commit if spec.revision else None,
        error=error.line(header.error.message) if header.error else None,
        authored_tags=[tag for tag in spec.tags or [] if tag],
        tags=_tags(header, updates),
        reported={target or "": reported(header, headline)},
        configuration=(target, agent, model, spec.task),
        rank=spec.created if trials else "",
        edition=f"{max(filter(None, map(_time, updates)), default='')} {sum(len(t.scores) for t in trials):09}",
        trials=trials,
    )


class _Errors:
    """Makes errors that may be kept of messages."""

    def __init__(self, secrets: list[str] | None, names: list[str], options: Options):
        self._secrets, self._names, self._options = secrets, names, options

    def line(self, message: str | None) -> str | None:
        if not self._options.errors:
            return None
        return error_line(message, self._secrets, names=self._names, whole=self._options.whole_errors)


def _secrets(given: bytes, header: Header, samples: Iterable[Summary]) -> list[str] | None:
    """What the run was given under names that say secret, if anything has to be masked; None if nobody knows."""
    if header.error is None and not any(sample.error or sample.limit for sample in samples):
        return []
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
    """The same for runs of a task under equal conditions."""
    dataset = spec.dataset.name if spec.dataset else None
    told = json.dumps([spec.task, spec.task_version, dataset, spec.task_args_passed], sort_keys=True, default=str)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _state(header: Header) -> RunState:
    ended = header.stats is not None and header.stats.completed_at is not None
    return _STATES.get(header.status, "ended" if ended else "running")


def _planned(spec: Eval) -> int | None:
    """The samples, after those that were chosen, times the epochs."""
    dataset = spec.dataset
    samples = None if dataset is None else dataset.samples if dataset.sample_ids is None else len(dataset.sample_ids)
    epochs = (spec.config.epochs if spec.config else None) or 1
    return None if samples is None else samples * epochs


def _tags(header: Header, updates: list[Update]) -> Tags | None:
    """What the header decides, at the time of its last edit of tags; whether samples were invalidated is one, too."""
    edits = [update for update in updates if any(edit and edit.type == "tags" for edit in update.edits or [])]
    told = header.tags if header.tags is not None else (header.eval.tags if header.eval else None)
    tags = [tag for tag in told or [] if tag] + ([_INVALIDATED] if header.invalidated else [])
    if header.tags is None and not header.invalidated:
        return None
    return Tags(tags=tags, updated_at=max(filter(None, map(_time, edits)), default=None))


def _time(update: Update) -> str | None:
    return update.provenance.timestamp if update.provenance else None


def _run_id(path: str) -> str:
    """The file's name without its suffix, the folders inside the source in front."""
    name = path.rpartition(".")[0]
    return name.removeprefix("logs/")
