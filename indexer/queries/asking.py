"""The declared questions as methods of an open index, typed."""

from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from indexer.errors import QueryError
from indexer.queries.filters import Filters, FiltersOfTest
from indexer.queries.names import STALE_AFTER
from indexer.queries.reading import Reading
from indexer.queries.select import Row

if TYPE_CHECKING:
    from indexer.queries.compare import Name


class Asking(Reading):
    """An open index that answers the declared questions.

    Times without a zone in filters, and the days of boards, are in `zone`. After `stale_after` seconds of silence, a
    run is not live.
    """

    def __init__(self, path: Path, zone: tzinfo = UTC, stale_after: int = STALE_AFTER):
        self.zone, self.stale_after, self.place = zone, stale_after, str(path)
        super().__init__(path)

    def compare(self, a: "Name", b: "Name", **wanted: Unpack[Filters]) -> Row:
        """Two sides, each a RUN name or the filters of a group: see `compare.compare`. Raises UnknownRunError."""
        return cast("Row", self.ask("compare", a=a, b=b, **wanted))

    def history(self, test: str, *, suite: str | None = None, limit: int = 50, **wanted: Unpack[FiltersOfTest]) -> Row:
        """One test over time for each target: see `history.history`. Raises UnknownTestError."""
        return cast("Row", self.ask("history", test=test, suite=suite, limit=limit, **wanted))

    def drift(
        self,
        *,
        window: str = "40",
        by: str | None = None,
        every: bool = False,
        limit: int = 20,
        **wanted: Unpack[Filters],
    ) -> Row:
        """What fell lately by more than chance: see `drift.drift`."""
        return cast("Row", self.ask("drift", window=window, by=by, every=every, limit=limit, **wanted))

    def leaderboard(
        self, *, by: str | None = None, across: str | None = None, k: int = 1, **wanted: Unpack[Filters]
    ) -> list[Row]:
        """A board by one or two dimensions: see `leaderboard.leaderboard`."""
        return cast("list[Row]", self.ask("leaderboard", by=by, across=across, k=k, **wanted))

    def flaky(self, *, limit: int = 50, **wanted: Unpack[Filters]) -> list[Row]:
        """Tests whose verdicts disagree under equal conditions: see `flaky.flaky`."""
        return cast("list[Row]", self.ask("flaky", limit=limit, **wanted))

    def failures(self, *, limit: int = 50, **wanted: Unpack[Filters]) -> list[Row]:
        """Error type x test x target: see `failures.failures`."""
        return cast("list[Row]", self.ask("failures", limit=limit, **wanted))

    def ask(self, question: str, **arguments: Any) -> Any:
        """The answer to a declared question, from its parameters and filters by name. Raises QueryError."""
        from indexer.queries.question import Reader
        from indexer.queries.questions import QUESTIONS

        if question not in QUESTIONS:
            raise QueryError(f"unknown question: {question}; the questions are {', '.join(QUESTIONS)}")
        asked = QUESTIONS[question]
        wanted = {name: arguments.pop(name) for name in list(arguments) if name not in asked.parameters}
        if unknown := sorted(wanted.keys() - set(asked.filters)):
            raise QueryError(f"unknown filter: {', '.join(unknown)}; {question} has {', '.join(asked.filters)}")
        given = {name: value for name, value in wanted.items() if value is not None}
        for name, parameter in asked.parameters.items():
            parameter.require(name, arguments.get(name, parameter.default))
        with self._reading() as database:
            return asked.answer(database, given, Reader(self.zone, self.stale_after), **arguments)
