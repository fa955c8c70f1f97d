"""Which trials of a run on disk changed, so that only these are read again.

A run may have thousands of trials, each in a folder of its own, and while it goes on one of them changes at a time. A
walk compares the stamps of all; an event says where to look. Either way what tells of the run itself is looked at too,
and where names came or went in its folder, each trial that is new or gone is found by its name. Where that is not
certain, or many changed, the whole run is read.
"""

import os
from collections.abc import Collection, Mapping

from indexer.changes import ABSENT, Found, Indexed, Stamp
from indexer.formats import FORMATS, recognise
from indexer.protocols import RunFolder, Unreadable
from indexer.sources.disk import DiskFolder

MOST = 50
"""Trials that are read by themselves; for more of them the whole run is read."""


def differing(folder: DiskFolder, stamps: Mapping[str, Stamp]) -> list[str]:
    """The names whose stamps are not as they were; not all of them once more than MOST trials changed."""
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
    """The run in a folder with the trials of these names that differ; None where the whole run has to be read."""
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
    except Unreadable:  # reading all tells which, and costs the others nothing
        return None
    return Found(None, folder.path, "stamps", run, stamps | folder.searched(), frozenset(names))
