"""Jobs of Pier and Harbor: one run is one job folder, one trial each of its folders.

A job keeps `config.json`, `lock.json` and a `result.json` that is rewritten in place at every step; a trial's
`result.json` is written once, at its end. Jobs lie flat (`jobs/<job>/`) or, written by copilot-experiments,
nested (`jobs/<job>/<run>/`, with a manifest once they ended). They come without some of their files: artifacts of
pipelines have only the results, restored trials no job around them; one trial's folder is enough to know a job.

What a job says of its totals is not used: it is rewritten while it runs, stays as it was for ever after a kill,
and counts a trial with both a reward and an exception twice. Job times are naive local times, trial times are
UTC; the job's zone follows from `lock.json`, which is UTC. Secrets stand in these files in clear (arguments and
environment of the agent), so only named fields are read; those values are only ever used to mask error texts.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from indexer.formats import copilot_session
from indexer.formats.documents import read_or_note
from indexer.formats.pier_documents import JobConfig, JobResult, Lock, Manifest, Stats
from indexer.formats.pier_trials import CONFIG_LIMIT, TrialReader
from indexer.protocols import (
    Conventions,
    Earlier,
    EarlierTrials,
    Execution,
    Folder,
    Options,
    Unreadable,
    common,
    never_opened,
    no_file,
    nowhere,
    unreadable,
    untold,
)
from indexer.records import Run, RunState, Trial, joined, seconds_between, utc

KEY, VERSION = "pier", 1
NAME = "pier"
ANCHORS = frozenset({"result.json", "config.json"})
MANIFEST = "copilot-experiments-run.json"

_JOB_LIMIT = 32 * 2**20
_MARKS = frozenset({"config.json", "result.json", "lock.json", "job.log"})
_TRIAL_FILES = ("result.json", "config.json")
_TRIAL_NAME = re.compile(r".*__[0-9A-Za-z]{7}", re.DOTALL)
_NESTED_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?")
_DEFAULT_NAME = re.compile(r"\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d")
_PLACES = frozenset({"jobs", "runs", "results", ".agentv"})
_NO_TIME = "nothing tells when this job began: no lock, trial or start"
_QUARTER = 900  # seconds

CONVENTIONS = Conventions(folders=("jobs",))
overlay = run_of_overlay = nowhere
key_from_names, is_unique = untold, common
is_file, opened = no_file, never_opened


def recognises(folder: Folder) -> bool:
    """A folder with at least two of the files that every job has, or with trials, or with a result and nothing else."""
    files, folders = folder.files(), folder.folders()
    name = folder.path.rpartition("/")[2]
    if name in _PLACES or not _PLACES.isdisjoint(folders):
        return False  # a stray file among runs
    if any(file in files for file in _TRIAL_FILES) and len(_MARKS.intersection(files)) > 1:
        return True
    visible = [each for each in folders if not each.startswith(".")]
    if any(map(_is_trial_name, visible)) and _holds_trials(folder, visible):
        return True
    return "result.json" in files and not folders and not _is_trial_name(name)


def _is_trial_name(name: str) -> bool:
    return _TRIAL_NAME.fullmatch(name) is not None


def _holds_trials(folder: Folder, names: list[str]) -> bool:
    """Whether folders that are called like trials are some, and not jobs beside others that would be hidden."""
    found = False
    for name in names:
        try:
            below = folder.find(name)
            if below is None:
                continue
            is_job = len(_MARKS.intersection(below.files())) > 1
            if not _is_trial_name(name):
                if "trial.log" not in below.files() and (is_job or below.folders()):
                    return False
            elif _trial_file(folder, name) is not None:
                inside = [each for each in below.folders() if _is_trial_name(each)]
                if "job.log" in below.files() or any(_trial_file(below, each) is not None for each in inside):
                    return False
                found = True
        except Unreadable:
            continue
    return found


def inputs(folder: Folder) -> list[str]:
    """The files that the rows of a job depend on, as paths inside its folder."""
    return _inputs(folder, _trial_files(folder))


def inputs_of(folder: Folder, trials: Collection[str]) -> list[str] | None:
    """The same of some trials, and the job's own; None where one may be a run inside. Raises Unreadable."""
    if any(_NESTED_NAME.fullmatch(name) for name in trials):
        return None
    return _inputs(folder, _files_of(folder, trials))


def inner_runs(folder: Folder) -> list[str]:
    """Runs of copilot-experiments inside a flat job: only those with a manifest, since trials look like jobs."""
    names = [name for name in folder.folders() if _NESTED_NAME.fullmatch(name)]
    return sorted(name for name in names if _size(folder, f"{name}/{MANIFEST}") is not None)


def run_folder(anchor: str) -> str | None:
    """The job folder that an anchor file at this path stands for; None if it looks like a trial's."""
    folder = anchor.rpartition("/")[0]
    return None if _is_trial_name(folder.rpartition("/")[2]) else folder


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The job in a folder; None if it is none after all, or too young to tell its identity. Raises Unreadable."""
    broken: dict[str, str] = {}
    documents = _documents(folder, broken)
    job, lock, _, config = documents
    partial = bool(broken)
    files = list(_trial_files(folder))
    if not files and not _tells_of_trials(job) and "config.json" not in folder.files():
        return None  # a result of something else
    state = _state(folder, job, [file for _, file in files])
    # what only trials tell of the job is told by none that is not read
    may_skip = job.id is not None and lock.names_tool and "config.json" in folder.files()
    reader = TrialReader(folder, options, earlier, broken, state, may_skip=may_skip)
    trials = [trial for name, file in files if (trial := reader.read(name, file)) is not None]
    if broken and (partial or job.id is None) and earlier.exists():
        raise unreadable(broken | reader.optional)
    job_id = job.id or reader.job_id or (f"trials:{min(reader.ids)}" if reader.ids else None)
    if job_id is None and not broken:
        return None
    _rank_attempts(trials)
    run = _run(folder, documents, state, trials, _times_of(trials))
    if job_id is None or not run.timestamp:
        raise unreadable(broken) if broken else Unreadable("", "no-time", _NO_TIME)
    run.key = f"pier:{job_id}"
    is_harbor = lock.harbor is not None if lock.names_tool else reader.saw_harbor
    run.format = "harbor" if is_harbor else "pier"
    run.size_bytes = sum(_size(folder, name) or 0 for name in _inputs(folder, files))
    run.derived_from = _derived_from(config) or sorted(reader.derived_from)
    run.broken, run.optional = broken, reader.optional
    run.partial = partial or reader.lacks_trials
    return run


def read_trials(folder: Folder, options: Options, earlier: EarlierTrials, trials: Collection[str]) -> Run | None:
    """The job with these trials alone, whose names are those of their folders; None where the others have to be read.

    What one trial tells of the job, or of another one, is told by the job's own documents or was told before; where it
    may differ, all are read. Raises Unreadable while a document of the job cannot be read.
    """
    broken: dict[str, str] = {}
    documents = _documents(folder, broken)
    if broken:
        raise unreadable(broken)
    job, lock, _, config = documents
    rest = earlier.rest
    fixed = ("config.json", "lock.json", MANIFEST)  # what they hold is masked in all trials, or names the job
    state = _state(folder, job, ["result.json"])
    if not _tells_running(job) or rest.key != f"pier:{job.id}" or not all(map(earlier.unchanged, fixed)):
        return None
    if rest.status not in (("completed", "failed") if state == "ended" else (state,)):
        return None  # trials without a result are cancelled with their job
    reader = TrialReader(folder, options, earlier, broken, state, may_skip=False)
    before = [trial for name in sorted(trials) if (trial := earlier.trial(name)) is not None]
    files = _files_of(folder, trials)
    found = [trial for name, file in files if (trial := reader.read(name, file)) is not None]
    is_harbor = lock.harbor is not None if lock.names_tool else reader.saw_harbor
    if reader.lacks_trials or rest.is_derived or reader.derived_from or is_harbor != (rest.format == "harbor"):
        return None
    first, last = _times_of(found)
    first = min(filter(None, (first, rest.started_at)), default=None)
    last = max(filter(None, (last, rest.finished_at)), default=None)
    run = _run(folder, documents, state, _ranked_anew(found, before, earlier, trials), (first, last))
    if (run.timestamp, run.experiment) != (rest.timestamp, rest.experiment):
        return None
    run.key, run.format = rest.key, rest.format
    run.running_count = rest.running_count + sum(trial.status == "running" for trial in found)
    run.size_bytes = rest.size_bytes + sum(_size(folder, name) or 0 for name in _inputs(folder, files))
    run.derived_from = _derived_from(config)
    run.broken, run.optional = broken, reader.optional
    return run


_Documents = tuple[JobResult, Lock, Manifest | None, JobConfig]


def _run(
    folder: Folder, documents: _Documents, state: RunState, trials: list[Trial], times: tuple[str | None, str | None]
) -> Run:
    """The run that a job's documents and trials make; `times` are the first start and the last end of any trial."""
    job, lock, manifest, config = documents
    offset = _utc_offset(job.started_at, lock.created_at)
    started_at, finished_at = _job_time(job.started_at, offset), _job_time(job.finished_at, offset)
    first, last = times
    run_id, experiment, nested = _names(folder, manifest, config, trials)
    return Run(
        key="",
        run_id=run_id,
        format=NAME,
        layout="nested" if nested else "flat",
        experiment=experiment,
        state=state,
        timestamp=lock.created_at or first or started_at or "",
        started_at=started_at or first,
        finished_at=finished_at,
        updated_at=max(filter(None, (last, _job_time(job.updated_at, offset))), default=None),
        duration_s=seconds_between(started_at, finished_at),
        planned_count=job.n_total_trials if job.n_total_trials is not None else _planned(lock),
        running_count=sum(trial.status == "running" for trial in trials),
        trials=trials,
        doubts=_doubts(trials),
    )


def _times_of(trials: list[Trial]) -> tuple[str | None, str | None]:
    first = min((trial.started_at for trial in trials if trial.started_at), default=None)
    return first, max((trial.finished_at for trial in trials if trial.finished_at), default=None)


def _documents(folder: Folder, broken: dict[str, str]) -> _Documents:
    """The job's own files; what cannot be read is noted. Raises Unreadable for the result of a trial."""
    job: JobResult = read_or_note(folder, "result.json", JobResult, _JOB_LIMIT, broken) or JobResult()
    if job.trial_name is not None:
        raise Unreadable("", "no-job", "a trial without its job: it lies beside jobs, and belongs to none of them")
    lock: Lock = read_or_note(folder, "lock.json", Lock, CONFIG_LIMIT, broken) or Lock()
    manifest: Manifest | None = read_or_note(folder, MANIFEST, Manifest, CONFIG_LIMIT, broken)
    config: JobConfig = read_or_note(folder, "config.json", JobConfig, CONFIG_LIMIT, broken) or JobConfig()
    return job, lock, manifest, config


def _tells_of_trials(job: JobResult) -> bool:
    return (job.stats, job.status, job.n_total_trials) != (None, None, None)


def _inputs(folder: Folder, trial_files: Iterable[tuple[str, str | None]]) -> list[str]:
    names = [name for name in ("result.json", "config.json", "lock.json", MANIFEST) if folder.size(name) is not None]
    for trial, file in trial_files:
        if file is not None:
            names.append(f"{trial}/{file}")
        if file == "result.json":
            names += copilot_session.inputs(folder, f"{trial}/agent")
    return names


def _size(folder: Folder, path: str) -> int | None:
    """A file's size; None if there is none, or if nobody knows."""
    try:
        return folder.size(path)
    except Unreadable:
        return None


def _trial_files(folder: Folder) -> Iterator[tuple[str, str | None]]:
    """Each trial's folder and the file that tells of it: its result, or its configuration while there is none.

    Of a folder that may not be opened nobody knows: it has None.
    """
    inner = inner_runs(folder)
    for name in sorted(folder.folders()):
        if name.startswith(".") or name in inner:
            continue
        try:
            file = _trial_file(folder, name)
        except Unreadable:
            yield name, None
            continue
        if file is not None:
            yield name, file
    yield from ((name, None) for name in sorted(folder.files()) if _is_trial_name(name))  # a link that leads nowhere


def _files_of(folder: Folder, trials: Iterable[str]) -> list[tuple[str, str]]:
    """The same of trials of these names, those there are. Raises Unreadable."""
    seen = sorted(name for name in trials if not name.startswith("."))
    return [(name, file) for name in seen if (file := _trial_file(folder, name)) is not None]


def _trial_file(folder: Folder, name: str) -> str | None:
    for file in _TRIAL_FILES:
        if folder.size(f"{name}/{file}") is not None:
            return file
    return None


def _planned(lock: Lock) -> int | None:
    """The trials that were planned, where the job's result does not tell."""
    return None if lock.trials is None else len(lock.trials)


def _derived_from(config: JobConfig) -> list[str]:
    """The jobs whose executions a regrade copies: their keys, or their names where their ids are not told."""
    sources = [source for source in config.source_jobs or [] if source is not None]
    keys = (
        f"pier:{each.job_id}" if each.job_id else (each.path or "").rstrip("/").rpartition("/")[2] for each in sources
    )
    return sorted({key for key in keys if key})


def _doubts(trials: Iterable[Trial]) -> dict[str, str]:
    """By file: rewards that are no number, which are no verdict."""
    doubts = {}
    for trial in trials:
        if names := sorted(score.name for score in trial.scores if score.score is None):
            doubts[f"{trial.trial}/result.json"] = f"no number, so no verdict: reward {', '.join(names)}"
    return doubts


def _state(folder: Folder, job: JobResult, files: list[str | None]) -> RunState:
    """What the job's own result tells, and for what older ones do not say, the files of its trials."""
    if job.finished_at is not None:
        return "ended"
    if "config.json" not in files and all(_size(folder, name) is None for name in _TRIAL_FILES):
        return "ended"  # trials that were brought back from elsewhere
    stats = job.stats or Stats()
    moved = job.status or Stats()
    running = _first(stats.n_running_trials, moved.n_running_trials, files.count("config.json"))
    cancelled = _first(stats.n_cancelled_trials, moved.n_cancelled_trials, 0)
    if not running and cancelled:
        return "cancelled"
    completed = _first(stats.n_completed_trials, moved.n_completed_trials, stats.n_trials, 0)
    return "running" if running or completed or files else "queued"


def _tells_running(job: JobResult) -> bool:
    """Whether the job's own result tells its state, whatever files its trials have."""
    told = (job.stats or Stats(), job.status or Stats())
    return job.finished_at is not None or any(stats.n_running_trials is not None for stats in told)


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _names(folder: Folder, manifest: Manifest | None, config: JobConfig, trials: list[Trial]) -> tuple[str, str, bool]:
    """Run id, experiment, and whether the job is nested."""
    parts = folder.path.split("/")
    if "jobs" in parts[:-1]:
        parts = parts[len(parts) - parts[::-1].index("jobs") :]
    if manifest is not None or len(parts) > 1:
        named = manifest or Manifest()
        job = named.job_name or (parts[-2] if len(parts) > 1 else parts[-1])
        return f"{job}/{named.run_id or parts[-1]}", job, True
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
    for trial in sorted(trials, key=_order):
        same = _test_of(trial)
        ranks[same] = trial.attempt = ranks.get(same, 0) + 1


def _ranked_anew(
    found: list[Trial], before: list[Trial], earlier: EarlierTrials, names: Collection[str]
) -> list[Trial]:
    """What was found of trials, numbered, and the others whose number changes with that."""
    renumbered = []
    for test, trial in {_test_of(trial): trial for trial in (*before, *found)}.items():
        executions: list[Trial | Execution] = [each for each in found if _test_of(each) == test]
        executions += [each for each in earlier.of_test(trial) if each.trial not in names]
        for number, each in enumerate(sorted(executions, key=_order), 1):
            if isinstance(each, Trial):
                each.attempt = number
            elif each.attempt != number and (other := earlier.trial(each.trial)) is not None:
                renumbered.append(replace(other, attempt=number))
    return found + renumbered


def _test_of(trial: Trial) -> tuple[str | None, ...]:
    return trial.suite, trial.test_id, trial.target


def _order(trial: Trial | Execution) -> tuple[bool, str, str]:
    return trial.started_at is None, trial.started_at or "", trial.trial
