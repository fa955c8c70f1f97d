"""Runs of copilot-experiments in its own `results/` tree, in all its generations.

`results/<experiment>/<run>/run.json` is written at the end of a run and holds everything: trials under variants
(G1, G2) or under the tasks of variants (G3), with or without a status and token counts. While a run goes on, or
after it was killed, there are only the trials' own files under `variants/`; their `workspace/` is never entered.
`run.json` holds the variants' secrets in plain text; they are only used to mask error texts.
"""

import re
from collections.abc import Iterator

from indexer.earlier import Earlier
from indexer.formats.documents import Amount, Count, Document, Int, Text, Time, Words, read_document, read_or_note
from indexer.masking import error_line, error_type
from indexer.masking.given import secrets_in
from indexer.protocols import (
    MALFORMED,
    Conventions,
    Folder,
    Options,
    Unreadable,
    alone,
    common,
    never_divided,
    never_opened,
    no_file,
    nowhere,
    undivided,
    unreadable,
)
from indexer.records import Run, RunState, Score, Trial, TrialStatus, seconds_between, utc

KEY, VERSION = "copilot", 1
NAME = "copilot-experiments"
ANCHORS = frozenset({"run.json", "variant.json", "meta.json"})

_MIB = 2**20
_RUN_LIMIT, _FILE_LIMIT = 64 * _MIB, 8 * _MIB
_RUN_NAME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z_[0-9a-f]{6}")
_SLUG_WORD = re.compile(r"[a-z0-9]+")
_TRIAL_FILES = ("meta.json", "metrics.json", "verify.json")
_STATES: dict[str, RunState] = {"completed": "ended", "partial": "ended", "failed": "failed"}


class Metrics(Document):
    n_turns: Count | None = None
    n_tool_calls: Count | None = None
    n_tool_failures: Count | None = None
    models: list[Text | None] | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    aiu: Amount | None = None
    peak_context_tokens: Count | None = None
    lines_added: Count | None = None
    lines_removed: Count | None = None


class TrialDocument(Document):
    trial_no: Count | None = None
    exit_code: Int | None = None
    duration_s: Amount | None = None
    success: bool | None = None
    status: Text | None = None
    error: str | None = None
    metrics: Metrics | None = None


class TaskRuns(Document):
    task_slug: Text | None = None
    trials: list[TrialDocument | None] | None = None


class Provider(Document):
    type: Words | None = None


class Variant(Document):
    name: Text | None = None
    model: Text | None = None
    reasoning_effort: Words | None = None
    agent: Text | None = None
    provider: Provider | None = None


class VariantRuns(Document):
    variant: Variant | None = None
    trials: list[TrialDocument | None] | None = None
    tasks: list[TaskRuns | None] | None = None


class RunDocument(Document, kw_only=True):
    run_id: Text | None = None
    experiment_slug: Text | None = None
    started_at: Time = None
    finished_at: Time = None
    git_base: Words | None = None
    status: Text | None = None
    variants: list[VariantRuns | None]


CONVENTIONS = Conventions(folders=("results",))
inner_runs = alone
inputs_of, read_trials = undivided, never_divided
is_unique = common
is_file, opened = no_file, never_opened
overlay = run_of_overlay = nowhere


def recognises(folder: Folder) -> bool:
    """A folder named like a run, with its `run.json` or its variants; one renamed by hand needs both."""
    marks = ("run.json" in folder.files()) + ("variants" in folder.folders())
    return marks == 2 or (marks == 1 and _RUN_NAME.fullmatch(folder.path.rpartition("/")[2]) is not None)


def inputs(folder: Folder) -> list[str]:
    """`run.json` once it exists; before that, the files of the trials."""
    if "run.json" in folder.files():
        return ["run.json"]
    names = []
    for variant, _, place in _trial_places(folder):
        names += [f"{place}/{name}" for name in _TRIAL_FILES if folder.size(f"{place}/{name}") is not None]
        described = f"variants/{variant}/variant.json"
        if described not in names and folder.size(described) is not None:
            names.append(described)
    return names


def run_folder(anchor: str) -> str | None:
    """The run folder that an anchor file at this path stands for."""
    return anchor.rpartition("/variants/")[0] or (anchor.rpartition("/")[0] if anchor.endswith("/run.json") else None)


def key_from_names(folder: Folder) -> str | None:
    """The identity of a run whose files cannot be read."""
    parts = folder.path.split("/")
    return f"copilot:{parts[-2]}/{parts[-1]}" if len(parts) > 1 else None


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a folder. Raises Unreadable."""
    data = folder.read("run.json", _RUN_LIMIT)
    broken: dict[str, str] = {}
    optional: dict[str, str] = {}
    parts = folder.path.split("/")
    if data is not None:
        run = read_document(RunDocument, "run.json", data)
        trials = list(_finished_trials(run, options, _secrets(data)))
        has_tasks = any(variant and variant.tasks is not None for variant in run.variants)
        state: RunState = _STATES.get(run.status or "", "running")
        size = len(data)
    else:
        run = RunDocument(variants=[])
        has_tasks = any(task for _, task, _ in _trial_places(folder))
        trials = list(_live_trials(folder, options, broken, optional))
        if broken and earlier.exists():
            raise unreadable(broken | optional)
        state = "running"
        size = sum(folder.size(name) or 0 for name in inputs(folder))
    slug = run.experiment_slug or (parts[-2] if len(parts) > 1 else "unnamed")
    run_id = run.run_id or parts[-1]
    started_at = run.started_at or _time_of(run_id)
    if started_at is None:
        why = Unreadable("run.json", "no-time", "nothing says when this run began")
        raise unreadable(broken) if broken else why
    for trial in trials:
        trial.test_id = trial.test_id or slug
        trial.trial = f"{trial.target or ''}/{trial.test_id}/{trial.attempt or 0:03}"
    return Run(
        key=f"copilot:{slug}/{run_id}",
        run_id=run_id,
        format=NAME,
        layout="tasks" if has_tasks else "variants",
        experiment=slug,
        state=state,
        timestamp=started_at,
        started_at=started_at,
        finished_at=run.finished_at,
        updated_at=run.finished_at,
        duration_s=seconds_between(started_at, run.finished_at),
        planned_count=len(trials) if data is not None else None,
        running_count=0 if state != "running" else None,
        size_bytes=size,
        code_sha=run.git_base,
        trials=_named_apart(trials),
        broken=broken,
        partial=bool(broken),
        optional=optional,
    )


def _secrets(data: bytes) -> list[str]:
    """The values to mask in errors. Raises Unreadable if they cannot be determined."""
    try:
        return secrets_in(data)
    except ValueError as error:
        raise Unreadable("run.json", MALFORMED, f"invalid JSON: {error}") from None


def _time_of(run_id: str) -> str | None:
    match = _RUN_NAME.fullmatch(run_id)
    return utc("{}-{}-{}T{}:{}:{}Z".format(*match.groups())) if match else None


def _finished_trials(run: RunDocument, options: Options, secrets: list[str]) -> Iterator[Trial]:
    for each in run.variants:
        if each is None:
            continue
        tasks = [*(task for task in each.tasks or [] if task), TaskRuns(trials=each.trials)]
        for task in tasks:
            for trial in task.trials or []:
                if trial is not None:
                    metrics = trial.metrics or Metrics()
                    place = _place(each.variant or Variant(), task.task_slug, trial.trial_no)
                    yield _trial(each.variant or Variant(), task.task_slug, trial, metrics, options, secrets, place)


def _live_trials(folder: Folder, options: Options, broken: dict[str, str], optional: dict[str, str]) -> Iterator[Trial]:
    """The trials of a run without `run.json`, from the files that each writes as it ends.

    Unreadable files are noted: in `broken` those that a trial needs, in `optional` those that only add details.
    """
    for variant_name, task, place in _trial_places(folder):
        described = f"variants/{variant_name}/variant.json"
        variant_document = read_or_note(folder, described, Variant, _FILE_LIMIT, optional)
        variant = variant_document or Variant(name=variant_name)
        number = place.rpartition("/")[2]
        meta = read_or_note(folder, f"{place}/meta.json", TrialDocument, _FILE_LIMIT, broken)
        if meta is None:
            yield Trial(
                trial="", status="running", target=variant.name, test_id=task, attempt=int(number), folder=place
            )
            continue
        metrics = read_or_note(folder, f"{place}/metrics.json", Metrics, _FILE_LIMIT, optional) or Metrics()
        secrets: list[str] | None = None  # what to mask in an error is not known yet
        if variant_document is not None:
            secrets = secrets_in(folder.read(described, _FILE_LIMIT)) if meta.error else []
        yield _trial(variant, task, meta, metrics, options, secrets, place)


def _place(variant: Variant, task: str | None, number: int | None) -> str | None:
    """The folder of a finished trial: folders are named by slugs, numbers have three digits."""
    if variant.name is None or number is None:
        return None
    slug = "-".join(_SLUG_WORD.findall(variant.name.lower())) or "unnamed"
    return f"variants/{slug}/{f'tasks/{task}/' if task else ''}trials/{number:03}"


def _trial_places(folder: Folder) -> Iterator[tuple[str, str | None, str]]:
    """For every numbered trial: variant folder, task folder if there are tasks, and the trial's path."""
    variants = folder.find("variants")
    for variant in sorted(variants.folders()) if variants else []:
        tasks = folder.find(f"variants/{variant}/tasks")
        places: list[tuple[str | None, str]] = [(None, f"variants/{variant}/trials")]
        places += [
            (task, f"variants/{variant}/tasks/{task}/trials") for task in sorted(tasks.folders() if tasks else [])
        ]
        for task, place in places:
            trials = folder.find(place)
            for number in sorted(trials.folders()) if trials else []:
                path = f"{place}/{number}"
                if number.isascii() and number.isdigit() and len(number) < 10 and _has_files(folder, path):
                    yield variant, task, path


def _has_files(folder: Folder, trial: str) -> bool:
    return any(folder.size(f"{trial}/{name}") is not None for name in _TRIAL_FILES)


def _trial(
    variant: Variant,
    task: str | None,
    trial: TrialDocument,
    metrics: Metrics,
    options: Options,
    secrets: list[str] | None,
    place: str | None,
) -> Trial:
    models = [model for model in metrics.models or [] if model]
    failed_itself = trial.status is not None and trial.status != "ok"
    return Trial(
        trial="",
        test_id=task,
        target=variant.name,
        agent=variant.agent,
        model=options.model(models[-1] if models else variant.model),
        provider=variant.provider.type if variant.provider else None,
        reasoning_effort=variant.reasoning_effort,
        attempt=trial.trial_no,
        status=_verdict(trial),
        score=None if trial.success is None else float(trial.success),
        error_type=error_type(trial.status) if failed_itself else None,
        error=error_line(trial.error, secrets, whole=options.whole_errors) if options.errors else None,
        exit_code=trial.exit_code,
        duration_s=trial.duration_s,
        input_tokens=metrics.input_tokens,
        cached_tokens=metrics.cache_read_tokens,
        cache_write_tokens=metrics.cache_write_tokens,
        output_tokens=metrics.output_tokens,
        reasoning_tokens=metrics.reasoning_tokens,
        aiu=metrics.aiu,
        turns=metrics.n_turns,
        tool_calls=metrics.n_tool_calls,
        tool_failures=metrics.n_tool_failures,
        peak_context_tokens=metrics.peak_context_tokens,
        lines_added=metrics.lines_added,
        lines_removed=metrics.lines_removed,
        folder=place,
        scores=[] if trial.success is None else [_verify_score(trial.success)],
    )


def _verify_score(success: bool) -> Score:
    return Score(name="verify", type="verify", score=float(success), passed=success)


def _verdict(trial: TrialDocument) -> TrialStatus:
    if trial.success is not None:
        return "passed" if trial.success else "failed"
    return "errored" if trial.status == "harness_error" else "skipped"


def _named_apart(trials: list[Trial]) -> list[Trial]:
    """Trial names are unique in a run: a second one of the same name gets `#2`."""
    seen: dict[str, int] = {}
    for trial in trials:
        count = seen[trial.trial] = seen.get(trial.trial, 0) + 1
        if count > 1:
            trial.trial += f"#{count}"
    return trials
