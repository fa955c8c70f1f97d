"""Declarations of questions: each one gives a command, an address of `/api` and its place in the docs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Literal

from indexer.errors import QueryError
from indexer.queries.filters import require_text


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: their time zone, and the seconds of silence after which a run is not live."""

    zone: tzinfo
    stale_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter besides the filters; it has to be given if it is `required`.

    `side` is one side of a comparison: a RUN name, or filters.
    """

    help: str
    kind: Literal["text", "number", "side", "flag"] = "text"
    default: Any = None
    required: bool = False

    def require(self, name: str, value: Any) -> None:
        """Raises QueryError for a value of another kind."""
        if value is None and not self.required and self.kind != "side" and self.default is None:
            return
        kinds: dict[str, Any] = {"text": str, "number": int, "side": (str, Mapping), "flag": bool}
        if not isinstance(value, kinds[self.kind]) or (self.kind == "number" and isinstance(value, bool)):
            raise QueryError(f"{name}: {value!r} is not a {self.kind}")
        if isinstance(value, str):
            require_text(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to an index. `answer` takes the database, filters, who asks, and the parameters by name.

    `rows` says that it answers with a list of rows.
    """

    name: str
    help: str
    example: str
    answer: Callable[..., Any]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    filters: tuple[str, ...] = ()
    rows: bool = False
