"""Reads some trials of a Pier or Harbor job without the others; see `pier`.

What the other trials would tell of the job comes from the job's own documents or from the last read. If it may have
changed, all trials have to be read.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from indexer.earlier import EarlierTrials, Execution
from indexer.formats.pier_documents import JobResult, Stats
from indexer.formats.pier_job import (
    MANIFEST,
    NESTED_NAME,
    derived_from,
    documents_of,
    in_order,
    inputs_with,
    is_trial_name,
    run_of,
    state_of,
    test_of,
    times_of,
    trial_file,
)
from indexer.formats.pier_trials import TrialReader
from indexer.protocols import Folder, Options, size_of
from indexer.records import Run, Trial

_MOST = 50  # other trials whose attempt numbers change


def inputs_of(folder: Folder, trials: Collection[str]) -> list[str] | None:
    """The files that the rows of these trials and of the job itself depend on; None where all have to be looked at.

    They have to be if a name is hidden, may be an inner run, or is a file or link in place of a trial, or if the job
    lacks its own files. Raises Unreadable.
    """
    for name in trials:
        hidden, stands_in = name.startswith("."), is_trial_name(name) and folder.size(name) is not None
        if hidden or stands_in or NESTED_NAME.fullmatch(name):
            return None
    if any(folder.size(name) is None for name in ("result.json", "config.json")):
        return None  # its trials alone make it a job
    return inputs_with(folder, _files_of(folder, trials))


def read_trials(folder: Folder, options: Options, earlier: EarlierTrials, trials: Collection[str]) -> Run | None:
    """The job with these trials alone; None where the others have to be read. Raises Unreadable."""
    broken: dict[str, str] = {}
    documents = documents_of(folder, broken)
    job, lock, _, config = documents
    rest = earlier.rest
    fixed = ("config.json", "lock.json", MANIFEST)  # their values are masked in all trials, or name the job
    if broken or not _tells_state(job) or rest.key != f"pier:{job.id}" or not all(map(earlier.unchanged, fixed)):
        return None
    state = state_of(folder, job, ["result.json"])
    if rest.status not in (("completed", "failed") if state == "ended" else (state,)):
        return None  # trials without a result are cancelled with their job
    reader = TrialReader(folder, options, earlier, broken, state, may_skip=False)
    before = [trial for name in sorted(trials) if (trial := earlier.trial(name)) is not None]
    files = _files_of(folder, trials)
    found = [trial for name, file in files if (trial := reader.read(name, file)) is not None]
    is_harbor = lock.harbor is not None if lock.names_tool else reader.saw_harbor
    if reader.lacks_trials or rest.is_derived or reader.derived_from or is_harbor != (rest.format == "harbor"):
        return None
    ranked = _ranked_anew(found, before, earlier, trials)
    if len(ranked) > len(found) + _MOST:
        return None
    first, last = times_of(found)
    first = min(filter(None, (first, rest.started_at)), default=None)
    last = max(filter(None, (last, rest.finished_at)), default=None)
    run = run_of(folder, documents, state, ranked, (first, last))
    if (run.timestamp, run.experiment) != (rest.timestamp, rest.experiment):
        return None
    run.key, run.format = rest.key, rest.format
    run.running_count = rest.running_count + sum(trial.status == "running" for trial in found)
    run.size_bytes = rest.size_bytes + sum(size_of(folder, name) or 0 for name in inputs_with(folder, files))
    run.derived_from = derived_from(config)
    run.broken, run.optional = broken, reader.optional
    return run


def _files_of(folder: Folder, trials: Iterable[str]) -> list[tuple[str, str]]:
    """Each of these trials that exists, with its main file. Raises Unreadable."""
    return [(name, file) for name in sorted(trials) if (file := trial_file(folder, name)) is not None]


def _tells_state(job: JobResult) -> bool:
    """Whether the job's own result tells its state, whatever files its trials have."""
    told = (job.stats or Stats(), job.status or Stats())
    return job.finished_at is not None or any(
        stats.n_running_trials or (stats.n_running_trials is not None and stats.n_completed_trials) for stats in told
    )


def _ranked_anew(
    found: list[Trial], before: list[Trial], earlier: EarlierTrials, names: Collection[str]
) -> list[Trial]:
    """The trials found, numbered, and others whose numbers change with them: at most one more than _MOST."""
    renumbered: list[Trial] = []
    for test, trial in {test_of(trial): trial for trial in (*before, *found)}.items():
        executions: list[Trial | Execution] = [each for each in found if test_of(each) == test]
        executions += [each for each in earlier.of_test(trial) if each.trial not in names]
        for number, each in enumerate(sorted(executions, key=in_order), 1):
            if isinstance(each, Trial):
                each.attempt = number
            elif each.attempt != number and len(renumbered) <= _MOST:
                other = earlier.trial(each.trial)
                renumbered += [replace(other, attempt=number)] if other is not None else []
    return found + renumbered
