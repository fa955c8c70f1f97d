"""Tries to break the promise as long as it is given time: the machine, and random files, texts and settings.

Prints every failing example as it is found, then what was covered. Exits 1 if anything failed.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests import crowd, month, orphans
from tests.machine import machine
from tests.mutations import read_mutated
from tests.parsers import ask_mutated, load_mutated, small_index
from tests.shared import team

EXAMPLES = 20


def soak(number: int, until: float, told: "Queue[tuple[dict[str, int], str]]") -> None:
    """One process: rounds with a seed each until the time is over, at least one."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        _rounds(number, until, told, small_index(Path(folder)))


def _rounds(number: int, until: float, told: "Queue[tuple[dict[str, int], str]]", index: Path) -> None:
    while True:
        failures = []
        machine.done.clear()
        try:
            round_ = settings(machine.SETTINGS, max_examples=EXAMPLES)
            run_state_machine_as_test(machine.seeded(number), settings=round_)
            machine.done["examples"] += EXAMPLES
        except Exception as error:
            failures.append("\n".join([traceback.format_exc(limit=-3), *getattr(error, "__notes__", [])]))
        fuzzers: dict[str, Callable[[], dict[str, int]]] = {
            "mutated file": partial(read_mutated, number, 400),
            "mutated text": partial(ask_mutated, index, number, 2000),
            "mutated settings": partial(load_mutated, index.parent, number, 300),
        }
        for name, fuzz in fuzzers.items():
            try:
                machine.done.update({f"{name}: {what}": count for what, count in fuzz().items()})
            except Exception:
                failures.append(traceback.format_exc())
        told.put((dict(machine.done), "\n".join(f"seed {number}: {failure}" for failure in failures)))
        number += 1
        if time.time() > until:
            break


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--minutes", type=float)
    one.add_argument("--crowd", type=float, metavar="MINUTES", help="instead: readers beside writers that come and go")
    one.add_argument("--kills", type=int, help="instead: so many watchers are killed while their remote hangs")
    one.add_argument("--month", type=int, metavar="EVENTS", help="instead: so many events beside one watcher")
    one.add_argument("--team", type=int, metavar="KILLS", help="instead: so many kills of senders to a shared index")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="of a round that is to be repeated")
    options = parser.parse_args()
    if options.month:
        return month.main(options.month)
    if options.crowd:
        return crowd.main(options.crowd)
    if options.kills:
        return orphans.main(options.kills)
    if options.team:
        return team.main(options.team, options.seed)
    until = time.time() + 60 * options.minutes
    context = get_context("spawn")
    told = context.Queue()
    processes = [
        context.Process(target=soak, args=(options.seed + 10**9 * worker, until, told))
        for worker in range(os.cpu_count() or 1)
    ]
    for process in processes:
        process.start()
    covered, failures = Counter[str](), 0
    while any(process.is_alive() for process in processes) or not told.empty():
        try:
            counts, failure = told.get(timeout=1)
        except Empty:
            continue
        covered.update(counts)
        if failure:
            failures += 1
            print(failure, flush=True)
    for what, count in covered.most_common():
        print(f"{count:8,} {what}")
    print(f"{failures:8,} failures; seeds from {options.seed}")
    return 1 if failures or any(process.exitcode for process in processes) else 0


if __name__ == "__main__":
    sys.exit(main())
