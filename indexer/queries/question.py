"""What a question is: from its declaration come a command, an address of `/api` and its place in the docs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter beside the filters; without a default it has to be given.

    `side` is one side of a comparison: a RUN name, or filters.
    """

    help: str
    kind: Literal["text", "number", "several", "side", "flag"] = "text"
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to an index. `answer` takes the database, filters, a time zone and the parameters by name.

    `rows` says that it answers with a list of rows.
    """

    name: str
    help: str
    example: str
    answer: Callable[..., Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    filters: tuple[str, ...] = ()
    rows: bool = False
