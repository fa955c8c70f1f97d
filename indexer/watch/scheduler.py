"""When to look where: pure arithmetic over monotonic times in seconds.

The first event of a path is answered at once; later ones are debounced until AGAIN after a look that changed something,
so a stream of events can neither starve nor delay a look. Unreadable paths are retried with exponential back-off.
"""

from collections.abc import Collection

AGAIN = 0.05
"""Seconds between a look that changed a run and the next one."""
FIRST_RETRY, LAST_RETRY = 0.1, 60.0

Where = str | None
"""A path inside a source; None stands for the whole source."""


class Schedule:
    """What is due when, for one source."""

    def __init__(self) -> None:
        self._due: dict[Where, float] = {}
        self._looked: dict[Where, float] = {}
        self.retries: dict[str, float] = {}
        """By unreadable path: the pause until its next retry."""

    def soon(self, path: Where, now: float, pause: float = 0.0, *, run: Where = None) -> None:
        """Look after `pause` seconds, or later if the path has not rested yet; a part of a run rests with its run."""
        self.later(path, max(self._looked.get(run or path, 0.0) + AGAIN, now + pause))

    def later(self, path: Where, when: float) -> None:
        """Look at this time, or earlier if it is due earlier."""
        self._due[path] = min(self._due.get(path, float("inf")), when)

    def next(self) -> float:
        """When something is due."""
        return min(self._due.values(), default=float("inf"))

    def take(self, now: float, *, partly: bool) -> Collection[str] | None:
        """The paths that are due; None for the whole source, also if parts cannot be looked at alone."""
        due = [path for path, when in self._due.items() if when <= now]
        if due and (None in due or not partly):
            self._due.clear()
            return None
        for path in due:
            del self._due[path]
        return [path for path in due if path]

    def looked(self, paths: Collection[str] | None, ended: float, *, rest: bool) -> None:
        """A look ended; if it changed something, its runs rest for a moment."""
        self._looked = {path: when for path, when in self._looked.items() if ended - when < AGAIN}
        if rest:
            self._looked.update(dict.fromkeys([None] if paths is None else paths, ended))

    def retry(self, unreadable: set[str], paths: Collection[str] | None, ended: float) -> None:
        """Schedule retries of paths that a look could not read, and drop those that it could."""
        for path in [path for path in self.retries if path not in unreadable and (paths is None or path in paths)]:
            del self.retries[path]
        for path in unreadable if paths is None else unreadable & set(paths):
            pause = self.retries[path] = min(2 * self.retries.get(path, FIRST_RETRY / 2), LAST_RETRY)
            self.later(path, ended + pause)

    def restart(self, when: float | None = None) -> None:
        """Forget what is due; look at everything at `when`, if given."""
        self._due = {} if when is None else {None: when}
