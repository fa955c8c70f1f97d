"""Counts what a pass did to runs, for its report."""

from collections.abc import Iterable

_NAMED = 5
"""The most runs of a source that a report names."""


class ChangedRuns:
    """The runs that were added, changed and removed, by source; each counts once, and again if it is removed."""

    def __init__(self, sources: Iterable[str], *, fresh: bool):
        self.counts = {source: {"added": 0, "changed": 0, "removed": 0} for source in sources}
        self.named: dict[str, list[str]] = {source: [] for source in self.counts}
        self._fresh = fresh
        self._counted: set[str] = set()

    def note(self, source: str, what: str, key: str, run_id: str) -> None:
        """Note what was done to a run; in a fresh index every run is only added."""
        if source not in self.counts or (self._fresh and what != "added"):
            return
        if not self._fresh:
            if what != "removed" and key in self._counted:
                return
            self._counted.add(key)
        self.counts[source][what] += 1
        if len(self.named[source]) < _NAMED:
            self.named[source].append(run_id)
