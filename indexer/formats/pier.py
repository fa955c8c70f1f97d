"""Jobs of Pier and Harbor: one run is one job folder, one trial each of its folders.

A job keeps `config.json`, `lock.json` and a `result.json` that is rewritten in place at every step; a trial's
`result.json` is written once, at its end. Jobs lie flat (`jobs/<job>/`) or, written by copilot-experiments,
nested (`jobs/<job>/<run>/`, with a manifest once they ended). Some of their files may be missing: artifacts of
pipelines have only the results, and restored trials have no job around them. One trial's folder is enough to recognise
a job.

A job's own totals are not used: they are rewritten while it runs, go stale after a kill,
and count a trial with both a reward and an exception twice. Job times are naive local times, trial times are
UTC; the job's zone follows from `lock.json`, which is UTC. These files hold secrets in plain text (arguments and
environment of the agent), so only named fields are read; the secrets are only used to mask error texts.
"""

from indexer.earlier import Earlier
from indexer.formats.pier_job import (
    MANIFEST,
    NAME,
    TRIAL_FILES,
    derived_from,
    documents_of,
    inner_runs,
    inputs_with,
    is_trial_name,
    rank_attempts,
    run_of,
    state_of,
    tells_of_trials,
    times_of,
    trial_file,
    trial_files,
)
from indexer.formats.pier_some import inputs_of, read_trials
from indexer.formats.pier_trials import TrialReader
from indexer.protocols import (
    Conventions,
    Folder,
    Options,
    Unreadable,
    common,
    never_opened,
    no_file,
    nowhere,
    size_of,
    unreadable,
    untold,
)
from indexer.records import Run

__all__ = [
    "ANCHORS", "CONVENTIONS", "KEY", "MANIFEST", "NAME", "VERSION", "inner_runs", "inputs", "inputs_of", "is_file",
    "is_unique", "key_from_names", "opened", "overlay", "read", "read_trials", "recognises", "run_folder",
    "run_of_overlay",
]  # fmt: skip

KEY, VERSION = "pier", 1
ANCHORS = frozenset({"result.json", "config.json"})

_MARKS = frozenset({"config.json", "result.json", "lock.json", "job.log"})
_PLACES = frozenset({"jobs", "runs", "results", ".agentv"})
_NO_TIME = "nothing says when this job began: no time in its lock, result or trials"

CONVENTIONS = Conventions(folders=("jobs",))
overlay = run_of_overlay = nowhere
key_from_names, is_unique = untold, common
is_file, opened = no_file, never_opened


def recognises(folder: Folder) -> bool:
    """A folder with at least two of a job's own files, or with trials, or with a result and no folders."""
    files, folders = folder.files(), folder.folders()
    name = folder.path.rpartition("/")[2]
    if name in _PLACES or not _PLACES.isdisjoint(folders):
        return False  # a stray file among runs
    if any(file in files for file in TRIAL_FILES) and len(_MARKS.intersection(files)) > 1:
        return True
    visible = [each for each in folders if not each.startswith(".")]
    if any(map(is_trial_name, visible)) and _holds_trials(folder, visible):
        return True
    return "result.json" in files and not folders and not is_trial_name(name)


def _holds_trials(folder: Folder, names: list[str]) -> bool:
    """Whether folders named like trials really are trials, not jobs; a wrong guess would hide other jobs."""
    found = False
    for name in names:
        try:
            below = folder.find(name)
            if below is None:
                continue
            is_job = len(_MARKS.intersection(below.files())) > 1
            if not is_trial_name(name):
                if "trial.log" not in below.files() and (is_job or below.folders()):
                    return False
            elif trial_file(folder, name) is not None:
                inside = [each for each in below.folders() if is_trial_name(each)]
                if "job.log" in below.files() or any(trial_file(below, each) is not None for each in inside):
                    return False
                found = True
        except Unreadable:
            continue
    return found


def inputs(folder: Folder) -> list[str]:
    """The files that the rows of a job depend on, as paths inside its folder."""
    return inputs_with(folder, trial_files(folder))


def run_folder(anchor: str) -> str | None:
    """The job folder that an anchor file at this path belongs to; None if it looks like a trial's."""
    folder = anchor.rpartition("/")[0]
    return None if is_trial_name(folder.rpartition("/")[2]) else folder


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The job in a folder; None if it is not one after all, or too young to have an identity. Raises Unreadable."""
    broken: dict[str, str] = {}
    documents = documents_of(folder, broken)
    job, lock, _, config = documents
    partial = bool(broken)
    files = list(trial_files(folder))
    if not files and not tells_of_trials(job) and "config.json" not in folder.files():
        return None  # a result of something else
    state = state_of(folder, job, [file for _, file in files])
    # skipped trials cannot tell what only trials know of their job
    may_skip = job.id is not None and lock.names_tool and "config.json" in folder.files() and not earlier.copies()
    reader = TrialReader(folder, options, earlier, broken, state, may_skip=may_skip)
    trials = [trial for name, file in files if (trial := reader.read(name, file)) is not None]
    if broken and (partial or job.id is None) and earlier.exists():
        raise unreadable(broken | reader.optional)
    job_id = job.id or reader.job_id or (f"trials:{min(reader.ids)}" if reader.ids else None)
    if job_id is None and not broken:
        return None
    rank_attempts(trials)
    run = run_of(folder, documents, state, trials, times_of(trials))
    if job_id is None or not run.timestamp:
        raise unreadable(broken) if broken else Unreadable("", "no-time", _NO_TIME)
    run.key = f"pier:{job_id}"
    is_harbor = lock.harbor is not None if lock.names_tool else reader.saw_harbor
    run.format = "harbor" if is_harbor else "pier"
    run.size_bytes = sum(size_of(folder, name) or 0 for name in inputs_with(folder, files))
    run.derived_from = derived_from(config) or sorted(reader.derived_from)
    run.broken, run.optional = broken, reader.optional
    run.partial = partial or reader.lacks_trials
    return run
