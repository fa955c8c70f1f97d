"""Breaks the promise as long as it is given time: the machine, kills and mutations with new random seeds.

Prints every failing example as it is found, then what was covered. Exits 1 if anything failed.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from multiprocessing.queues import Queue
from queue import Empty

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine import machine
from tests.test_machine import MACHINE
from tests.test_mutations import read_mutated

EXAMPLES = 20


def soak(number: int, until: float, told: "Queue[tuple[dict[str, int], str]]") -> None:
    """One process: rounds of examples with seeds of its own until the time is over."""
    while time.time() < until:
        number += 1
        failure = ""
        machine.done.clear()
        try:
            run_state_machine_as_test(
                seed(number)(type("Seeded", (machine.Machine,), {})),
                settings=settings(MACHINE, max_examples=EXAMPLES, phases=[Phase.generate, Phase.shrink]),
            )
            machine.done["examples"] += EXAMPLES
            machine.done.update({f"mutated file: {what}": count for what, count in read_mutated(number, 200).items()})
        except Exception as error:
            failure = f"seed {number}: {traceback.format_exc(limit=-3)}" + "\n".join(getattr(error, "__notes__", []))
        told.put((dict(machine.done), failure))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="to repeat what failed")
    options = parser.parse_args()
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
