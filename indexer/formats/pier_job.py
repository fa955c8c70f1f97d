"""Builds the run of a Pier or Harbor job from its documents and trials; see `pier`."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from indexer.earlier import Execution
from indexer.formats import copilot_session
from indexer.formats.documents import read_or_note
from indexer.formats.pier_documents import JobConfig, JobResult, Lock, Manifest, Stats
from indexer.formats.pier_trials import CONFIG_LIMIT
from indexer.protocols import Folder, Unreadable, size_of
from indexer.records import Run, RunState, Trial, joined, seconds_between, utc

NAME = "pier"
MANIFEST = "copilot-experiments-run.json"
TRIAL_FILES = ("result.json", "config.json")
NESTED_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?")

_JOB_LIMIT = 32 * 2**20
_TRIAL_NAME = re.compile(r".*__[0-9A-Za-z]{7}", re.DOTALL)
_DEFAULT_NAME = re.compile(r"\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d")
_QUARTER = 900  # seconds


def inner_runs(folder: Folder) -> list[str]:
    """Runs of copilot-experiments inside a flat job: only those with a manifest, since trials look like jobs."""
    names = [name for name in folder.folders() if NESTED_NAME.fullmatch(name)]
    return sorted(name for name in names if size_of(folder, f"{name}/{MANIFEST}") is not None)


def is_trial_name(name: str) -> bool:
    return _TRIAL_NAME.fullmatch(name) is not None


Documents = tuple[JobResult, Lock, Manifest | None, JobConfig]


def run_of(
    folder: Folder, documents: Documents, state: RunState, trials: list[Trial], times: tuple[str | None, str | None]
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


def times_of(trials: list[Trial]) -> tuple[str | None, str | None]:
    first = min((trial.started_at for trial in trials if trial.started_at), default=None)
    return first, max((trial.finished_at for trial in trials if trial.finished_at), default=None)


def documents_of(folder: Folder, broken: dict[str, str]) -> Documents:
    """The job's own documents; unreadable ones are noted. Raises Unreadable for the result of a trial."""
    job: JobResult = read_or_note(folder, "result.json", JobResult, _JOB_LIMIT, broken) or JobResult()
    if job.trial_name is not None:
        raise Unreadable("", "no-job", "a trial without its job: it lies beside jobs, and belongs to none of them")
    lock: Lock = read_or_note(folder, "lock.json", Lock, CONFIG_LIMIT, broken) or Lock()
    manifest: Manifest | None = read_or_note(folder, MANIFEST, Manifest, CONFIG_LIMIT, broken)
    config: JobConfig = read_or_note(folder, "config.json", JobConfig, CONFIG_LIMIT, broken) or JobConfig()
    return job, lock, manifest, config


def tells_of_trials(job: JobResult) -> bool:
    return (job.stats, job.status, job.n_total_trials) != (None, None, None)


def inputs_with(folder: Folder, trial_files: Iterable[tuple[str, str | None]]) -> list[str]:
    names = [name for name in ("result.json", "config.json", "lock.json", MANIFEST) if folder.size(name) is not None]
    for trial, file in trial_files:
        if file is not None:
            names.append(f"{trial}/{file}")
        if file == "result.json":
            names += copilot_session.inputs(folder, f"{trial}/agent")
    return names


def trial_files(folder: Folder) -> Iterator[tuple[str, str | None]]:
    """Each trial's folder and main file: its result, or its configuration while there is none.

    The file is None for a folder that cannot be opened.
    """
    inner = inner_runs(folder)
    for name in sorted(folder.folders()):
        if name.startswith(".") or name in inner:
            continue
        try:
            file = trial_file(folder, name)
        except Unreadable:
            yield name, None
            continue
        if file is not None:
            yield name, file
    yield from ((name, None) for name in sorted(folder.files()) if is_trial_name(name))  # a link that leads nowhere


def trial_file(folder: Folder, name: str) -> str | None:
    for file in TRIAL_FILES:
        if folder.size(f"{name}/{file}") is not None:
            return file
    return None


def _planned(lock: Lock) -> int | None:
    """The number of planned trials, for a job whose result lacks it."""
    return None if lock.trials is None else len(lock.trials)


def derived_from(config: JobConfig) -> list[str]:
    """The jobs whose executions a regrade copies: their keys, or their names if their ids are missing."""
    sources = [source for source in config.source_jobs or [] if source is not None]
    keys = (
        f"pier:{each.job_id}" if each.job_id else (each.path or "").rstrip("/").rpartition("/")[2] for each in sources
    )
    return sorted({key for key in keys if key})


def _doubts(trials: Iterable[Trial]) -> dict[str, str]:
    """By file: rewards that are not numbers and so give no verdict."""
    doubts = {}
    for trial in trials:
        if names := sorted(score.name for score in trial.scores if score.score is None):
            doubts[f"{trial.trial}/result.json"] = f"not a number, so no verdict: reward {', '.join(names)}"
    return doubts


def state_of(folder: Folder, job: JobResult, files: list[str | None]) -> RunState:
    """The job's state, from its own result and, where older ones lack it, from the files of its trials."""
    if job.finished_at is not None:
        return "ended"
    if "config.json" not in files and all(size_of(folder, name) is None for name in TRIAL_FILES):
        return "ended"  # restored trials
    stats = job.stats or Stats()
    moved = job.status or Stats()
    running = _first(stats.n_running_trials, moved.n_running_trials, files.count("config.json"))
    cancelled = _first(stats.n_cancelled_trials, moved.n_cancelled_trials, 0)
    if not running and cancelled:
        return "cancelled"
    completed = _first(stats.n_completed_trials, moved.n_completed_trials, stats.n_trials, 0)
    return "running" if running or completed or files else "queued"


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


def rank_attempts(trials: list[Trial]) -> None:
    """Number the executions of the same test and target by their start."""
    ranks: dict[tuple[str | None, ...], int] = {}
    for trial in sorted(trials, key=in_order):
        same = test_of(trial)
        ranks[same] = trial.attempt = ranks.get(same, 0) + 1


def test_of(trial: Trial) -> tuple[str | None, ...]:
    return trial.suite, trial.test_id, trial.target


def in_order(trial: Trial | Execution) -> tuple[bool, str, str]:
    return trial.started_at is None, trial.started_at or "", trial.trial
