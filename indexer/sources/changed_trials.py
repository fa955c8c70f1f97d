"""Which trials of a run on disk changed, so that only these are read again.

A run may have thousands of trials, each in its own folder, and a live run changes one at a time. A walk compares all
stamps; an event says where to look. Either way the run's own files are checked too, and if names came or went in its
folder, new and removed trials are found by name. If that is not certain, or many trials changed, the whole run is read.
"""

import os
from collections.abc import Collection, Mapping

from indexer.changes import ABSENT, Found, Indexed, Stamp
from indexer.formats import FORMATS, recognise
from indexer.protocols import RunFolder, Unreadable
from indexer.sources.disk import DiskFolder

MOST = 50
"""The most trials read on their own; with more, the whole run is read."""


def differing(folder: DiskFolder, stamps: Mapping[str, Stamp]) -> list[str]:
    """The names whose stamps changed; stops early once more than MOST trials changed."""
    found: list[str] = []
    trials: set[str] = set()
    (root, _), (real, _) = folder.snapshot.found[""] or ("", None), folder.snapshot.found[folder.path] or ("", None)
    for name, stamp in stamps.items():
        try:
            status = os.stat(f"{root}/{name[2:]}" if name.startswith("//") else f"{real}/{name}")
        except (OSError, ValueError):
            same = stamp == ABSENT
        else:
            same = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) == stamp
        if not same:
            found.append(name)
            if "/" in name:
                trials.add(name.partition("/")[0])
                if len(trials) > MOST:
                    break
    return found


def changed_trials(folder: DiskFolder, changed: Collection[str], indexed: Indexed) -> Found | None:
    """The run in a folder with its changed trials; None if the whole run has to be read."""
    key = indexed.format_of(folder.path)
    run = next((RunFolder(form, folder) for form in FORMATS if key == form.KEY), None)
    names = {name.partition("/")[0] for name in changed if "/" in name}
    if run is None or "" in names:
        return None
    others: Collection[str] = ()
    try:
        if "" in changed:  # names came or went
            now = recognise(folder)
            if now is None or key != now.format.KEY:
                return None
            moved = set(folder.folders()) ^ set(indexed.trials(folder.path))
            names |= {name for name in moved if not name.startswith(".")}
            others = folder.files()
        if len(names) > MOST or (inputs := run.inputs_of({*names, *others})) is None:
            return None
        stamps = {name: stamp for name in inputs if (stamp := folder.stamp(name))}
    except Unreadable:  # a full read reports which, without harm to the others
        return None
    return Found(None, folder.path, "stamps", run, stamps | folder.searched(), frozenset(names))
