"""Which runs and trials a question is about: the one declaration of every filter.

The command line, `/api`, Python, the web form and the docs are all built from `Filters`: an entry there is a filter
everywhere. In lists of runs a filter matches any value of the run; in every other question target, agent, model,
dataset and test select trials, the others select their runs.

A value that exists exactly is taken literally, else `*` and `?` are wildcards and stand for the values they match.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from indexer.errors import QueryError
from indexer.queries.moments import Moment

STATUSES = ("queued", "running", "completed", "failed", "cancelled")
CUT = "…"
"""Ends a name that a table truncates."""
MOST_TOGETHER = 100
"""Most values that can be required together."""

Values = str | Sequence[str]
"""One value of a filter or several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter: its help, where lists of runs find its value (table, column), and the column of trials, if any."""

    help: str
    kind: Literal["text", "time", "number", "commit", "search"] = "text"
    table: str = ""
    column: str = ""
    of_trials: str = ""
    every: bool = False  # several values must all match, not just any
    choices: tuple[str, ...] = ()
    leads: int = 0  # 1 or more if an index has its runs in timestamp order; the lowest one given leads

    @property
    def several(self) -> bool:
        return self.kind in ("text", "commit", "search")


class FiltersOfTest(TypedDict, total=False):
    """The filters of questions about one test: all but the test."""

    search: Annotated[
        Values | None,
        Filter(
            help="Runs with these words in their name, experiment, target, model, dataset or tags.",
            kind="search",
            every=True,
        ),
    ]
    experiment: Annotated[
        Values | None, Filter(help="Runs of this experiment.", table="runs", column="experiment", leads=5)
    ]
    target: Annotated[
        Values | None, Filter(help="This target.", table="run_targets", column="target", of_trials="target", leads=2)
    ]
    agent: Annotated[Values | None, Filter(help="This agent.", table="run_targets", column="agent", of_trials="agent")]
    model: Annotated[
        Values | None, Filter(help="This model.", table="run_targets", column="model", of_trials="model", leads=3)
    ]
    dataset: Annotated[
        Values | None, Filter(help="This dataset or suite.", table="run_targets", column="suite", of_trials="suite")
    ]
    status: Annotated[
        Values | None,
        Filter(
            help=f"Runs that are {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.",
            table="runs",
            column="status",
            choices=STATUSES,
            leads=6,
        ),
    ]
    source: Annotated[
        Values | None, Filter(help="Runs found in this source.", table="places", column="source", leads=4)
    ]
    tag: Annotated[
        Values | None, Filter(help="Runs with this tag.", table="run_tags", column="tag", every=True, leads=1)
    ]
    since: Annotated[Moment | None, Filter(help="From a date, time, today, or a span ago (7d, 1mo).", kind="time")]
    until: Annotated[Moment | None, Filter(help="Before a date, time, today, or a span ago (1h).", kind="time")]
    min_pass_rate: Annotated[float | None, Filter(help="Runs with at least this pass rate, 0 to 1.", kind="number")]
    commit: Annotated[
        Values | None, Filter(help="Runs of this commit: its id, or a prefix of 4 digits or more.", kind="commit")
    ]


class Filters(FiltersOfTest, total=False):
    """The filters of runs and trials. Any of several values may match; of tags, all must."""

    test: Annotated[
        Values | None, Filter(help="This test, or dataset/test.", table="trials", column="test_id", of_trials="test_id")
    ]


DECLARED: dict[str, Filter] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Filters, include_extras=True).items()
}
"""Every filter by name."""


def texts(filters: Filters, name: str) -> list[str]:
    """The distinct values of a filter, sorted; empty without it. Raises QueryError if one is not text."""
    given: Any = filters.get(name)
    values = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else given
    if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise QueryError(f"{name}: {given!r} is neither a text nor a list of texts")
    for value in values or ():
        require_text(name, value)
    if DECLARED[name].kind == "search":
        values = [word for value in values or () for word in value.split()]
    different = sorted(set(values or ()))
    if DECLARED[name].every and len(different) > MOST_TOGETHER:
        raise QueryError(f"{name}: at most {MOST_TOGETHER} values can be required together, not {len(different)}")
    return different


def number(name: str, text: str) -> float:
    """Parse a number. Raises QueryError."""
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"{name}: {text!r} is not a number") from None


def require_text(name: str, value: str) -> None:
    """Raises QueryError for lone surrogates, which no database can store."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(f"{name}: {value!r} is not valid Unicode") from None


def given(filters: Filters) -> dict[str, Any]:
    """The filters in canonical form, to which a cursor is bound."""
    plain: dict[str, Any] = {}
    for name in (name for name in filters if DECLARED[name].several and texts(filters, name)):
        plain[name] = texts(filters, name)
    for name in (name for name in filters if not DECLARED[name].several):
        value: Any = filters.get(name)
        if value is not None:
            plain[name] = value.isoformat() if isinstance(value, date) else value
    return dict(sorted(plain.items()))
