"""Turns the records of one run into rows of the tables."""

import dataclasses
import json
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

from indexer.derive import (
    TOTALS,
    Configuration,
    Sums,
    Tests,
    by_configuration,
    counts_on_boards,
    firsts,
    mean,
    outcomes,
    status_of,
)
from indexer.records import Reported, Run, Score, Trial, joined

Row: TypeAlias = tuple[Any, ...]
TrialRows: TypeAlias = tuple[Row, list[Row]]
"""The row of a trial, and those of its scores."""

TRIAL = tuple(field.name for field in dataclasses.fields(Trial) if field.name != "scores")
TRIAL_ROW = (*TRIAL, "timestamp")
SCORE = tuple(field.name for field in dataclasses.fields(Score))
RUN = (
    "key", "run_id", "source", "path", "ref", "format", "layout", "experiment", "target", "agent", "model", "status",
    "timestamp", "started_at", "finished_at", "updated_at", "duration_s", "planned_count", "running_count", *TOTALS,
    "size_bytes", "tags", "sha", "added_at", "author", "code_sha", "host", "attempt",
    "derived_from", "error",
)  # fmt: skip
TARGET = (
    "run_key", "timestamp", "experiment", "on_boards", "target", "agent", "model", "suite", *TOTALS,
    "duration_s", "timed", "firsts", "paid", "scored", "target_tests", "outcomes", "reported_pass_rate",
    "reported_score",
)  # fmt: skip
DELETIONS_KEPT = 100_000
"""Deletions that are kept for readers of the change feed."""

_UNREPORTED = Reported()
ERRORS = ("timestamp", "run_key", "text")
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
TAG = ("run_key", "timestamp", "tag", "key", "value")

CONDITION = (
    "agent", "model", "suite", "test_id", "target", "task_checksum", "reasoning_effort", "agent_version",
)  # fmt: skip
REPEAT = ("timestamp", *CONDITION, "verdicts", "passed")

_condition: Callable[[Trial], Row] = attrgetter(*CONDITION)
_STATUS = TRIAL_ROW.index("status")
FAILURE = ("status", "error_type", "suite", "test_id", "target")
_failure: Callable[[Row], Row] = itemgetter(*map(TRIAL_ROW.index, FAILURE))
FAILURES = """
SELECT t.status, t.error_type, t.suite, t.test_id, t.target, count(*) AS trials,
       count(DISTINCT t.run_pk) AS runs
FROM {0}.trials t JOIN {0}.runs r ON r.id = t.run_pk WHERE t.status IN ('failed', 'errored') AND r.on_boards
GROUP BY 1, 2, 3, 4, 5"""
"""The content of `_failures`, counted anew from the rows of a schema."""
_OF_TARGETS = {"target": "target", "agent": "agent", "model": "model", "dataset": "suite"}
"""Filters on columns of `run_targets`, and these columns."""
VALUES = " UNION ALL ".join([
    *(f"SELECT '{name}', {name}, count(*) FROM {{0}}.runs GROUP BY 2" for name in ("experiment", "status")),
    *(
        f"SELECT '{name}', {column}, sum(firsts >> {1 << at} & 1) FROM {{0}}.run_targets "
        f"WHERE {column} IS NOT NULL GROUP BY 2"
        for at, (name, column) in enumerate(_OF_TARGETS.items())
    ),
    "SELECT 'tag', tag, count(*) FROM {0}.run_tags GROUP BY 2",
])  # fmt: skip
"""The content of `_values`, counted anew from the rows of a schema."""
_run_row: Callable[[dict[str, Any]], Row] = itemgetter(*RUN)
_trial_row: Callable[[Trial], Row] = attrgetter(*TRIAL)
_score_row: Callable[[Score], Row] = attrgetter(*SCORE)


def insert(table: str, columns: Sequence[str]) -> str:
    """An INSERT of all columns, by position."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def select(table: str, columns: Sequence[str], where: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"


INSERT_RUN = insert("runs", ["id", *RUN, "rev"])
INSERT_TRIAL = insert("trials", ["id", "run_pk", *TRIAL_ROW])
INSERT_SCORE = insert("scores", ["trial_pk", *SCORE])
INSERT_TARGET = insert("run_targets", ["run_pk", *TARGET])
INSERT_REPEAT = insert("_repeats", ["run_pk", *REPEAT])
INSERT_ERRORS = insert("_errors", ["run_pk", *ERRORS])
INSERT_TAG = insert("run_tags", ["run_pk", *TAG])


@dataclasses.dataclass(slots=True)
class RunRows:
    """All rows of one run, without the internal ids."""

    run: Row
    trials: dict[str, TrialRows]  # by name: its row, its scores' rows
    targets: list[Row]
    tags: list[Row]
    repeats: list[Row]
    errors: list[Row]  # one row, or none


def run_rows(run: Run, place: tuple[str, str, str | None], tags: Sequence[str], added: Row) -> RunRows:
    """The rows of a run read at `place` (source, path, ref); `added` is (sha, added_at, author)."""
    grouped = by_configuration(run.trials)
    if not grouped and run.configuration is not None:
        grouped[run.configuration] = Sums()
    row, targets = derived_rows(run, place, tags, added, grouped)
    return RunRows(
        run=row,
        trials=trial_rows(run),
        targets=targets,
        tags=tag_rows(run.key, run.timestamp, tags),
        repeats=repeat_rows(run, verdicts(run.trials)),
        errors=error_rows(run, texts(run.trials)),
    )


def derived_rows(
    run: Run,
    place: tuple[str, str, str | None],
    tags: Sequence[str],
    added: Row,
    grouped: Mapping[Configuration, Sums],
) -> tuple[Row, list[Row]]:
    """The row of a run and those of its configurations; `grouped` has the sums over all of its trials."""
    sums = next(iter(grouped.values())) if len(grouped) == 1 else Sums()
    if len(grouped) != 1:
        for each in grouped.values():
            sums.merge(each)
    values = {field: getattr(run, field) for field in _RUN_FIELDS} | dict(zip(TOTALS, sums.totals(), strict=True))
    values["source"], values["path"], values["ref"] = place
    values["sha"], values["added_at"], values["author"] = added
    values["status"] = status_of(run.state, [status for status, trials in sums.count.items() if trials])
    values["derived_from"] = json.dumps(run.derived_from, ensure_ascii=False) if run.derived_from else None
    values["tags"] = tags_text(tags)
    for at, column in enumerate(("target", "agent", "model")):
        values[column] = joined(configuration[at] for configuration in grouped)
    return _run_row(values), _target_rows(run, values["status"], grouped)


def trial_rows(run: Run) -> dict[str, TrialRows]:
    """For each trial, by name, its row and its scores' rows."""
    return {
        trial.trial: ((*_trial_row(trial), run.timestamp), [_score_row(score) for score in trial.scores])
        for trial in run.trials
    }


_RUN_FIELDS = [field.name for field in dataclasses.fields(Run) if field.name in RUN]


def tags_text(tags: Collection[str]) -> str:
    """Tags as a JSON array, sorted, each once."""
    if not tags:
        return "[]"
    return json.dumps(sorted(set(tags)), ensure_ascii=False)


def tag_rows(key: str, timestamp: str, tags: Iterable[str]) -> list[Row]:
    """A row for each tag; `team=support` has a key and a value, `baseline` only a value."""
    rows = []
    for tag in sorted(set(tags)):
        name, equals, value = tag.partition("=")
        rows.append((key, timestamp, tag, name if equals else "", value if equals else tag))
    return rows


def _target_rows(run: Run, status: str, grouped: Mapping[Configuration, Sums]) -> list[Row]:
    on_boards = int(counts_on_boards(status, run))
    of_targets: dict[tuple[str | None, str | None], list[Tests]] = {}
    for (target, _, _, suite), sums in grouped.items():
        of_targets.setdefault((target, suite), []).append(sums.tests)
    rows = []
    for configuration, bits in zip(grouped, firsts(list(grouped)), strict=True):
        target, _, _, suite = configuration
        sums = grouped[configuration]
        reported = run.reported.get(target or "") or _UNREPORTED
        tests = outcomes(of_targets.pop((target, suite), []))
        rows.append((
            run.key, run.timestamp, run.experiment, on_boards, *configuration, *sums.totals(), mean(sums.durations),
            len(sums.durations), bits, sums.paid, len(sums.scores), sum(count for _, _, count in tests),
            f"[{','.join(f'[{executions},{passed},{count}]' for executions, passed, count in tests)}]",
            reported.pass_rate, reported.score,
        ))  # fmt: skip
    return rows


def verdicts(trials: Iterable[Trial]) -> dict[Row, tuple[int, int]]:
    """How many verdicts there are under each condition, and how many of them passed."""
    groups: dict[Row, tuple[int, int]] = {}
    for trial in trials:
        if trial.status in ("passed", "failed"):
            condition = _condition(trial)
            count, passed = groups.get(condition, (0, 0))
            groups[condition] = count + 1, passed + (trial.status == "passed")
    return groups


def repeat_rows(run: Run, groups: Mapping[Row, tuple[int, int]]) -> list[Row]:
    """Rows for verdicts under equal conditions: repeated in this run, or comparable with other runs."""
    together = Counter[Row]()  # a target implies its agent and model
    for condition, (count, _) in groups.items():
        together[condition[2:]] += count
    comparable = run.code_sha is not None
    return sorted(
        (
            (run.timestamp, *condition, *count)
            for condition, count in groups.items()
            if together[condition[2:]] > 1 or (comparable and condition[-1] is not None)
        ),
        key=repr,
    )


def error_rows(run: Run, texts: Iterable[str]) -> list[Row]:
    """The row in which pieces of errors are searched: the distinct texts of a run's trials."""
    text = "\n".join(sorted(map(small_letters, texts)))
    return [(run.timestamp, run.key, text)] if text else []


def texts(trials: Iterable[Trial]) -> set[str]:
    """The errors and reasons of some trials."""
    found = {text for trial in trials for text in (trial.error, *(score.reason for score in trial.scores))}
    return {text for text in found if text}


def small_letters(text: str) -> str:
    """A text with ASCII letters in lower case, as SQL's `lower` does."""
    return text.translate(_SMALL)


def failures(rows: RunRows) -> Counter[Row]:
    """Trials of a run per kind of failure (the values of FAILURE); empty if boards do not count the run."""
    status, derived_from = (rows.run[RUN.index(name)] for name in ("status", "derived_from"))
    if status not in ("completed", "failed") or derived_from is not None:
        return Counter()
    return Counter(_failure(trial) for trial, _ in rows.trials.values() if trial[_STATUS] in ("failed", "errored"))


def values(rows: RunRows) -> set[Row]:
    """The filter values of a run, as (filter, value)."""
    found: set[Row] = {(name, rows.run[RUN.index(name)]) for name in ("experiment", "status")}
    for name, column in _OF_TARGETS.items():
        at = TARGET.index(column)
        found |= {(name, target[at]) for target in rows.targets if target[at] is not None}
    return found | {("tag", tag[TAG.index("tag")]) for tag in rows.tags}
