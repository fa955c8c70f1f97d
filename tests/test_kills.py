"""A pass that is killed at any moment leaves the index as it was, or as it would be."""

import random
import signal
import threading
from contextlib import closing

import pytest

from indexer.passes.check import check
from tests.bundles import at, bundle, row
from tests.jobs import job, trial
from tests.observe import Named, Reader, in_process
from tests.worlds import World


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sync", "rebuild"])
def test_killed_at_random_moments_beside_a_reader(world: World, command: str) -> None:
    chance = random.Random(command)
    sources: list[Named] = [("git", "team", world.repo.path), ("folder", "local", world.local)]
    world.write(at("jobs/a", job({f"fizz__{n:07}": trial() for n in range(20)})))
    world.sync()
    done, wrong = threading.Event(), list[list[str]]()

    def watch() -> None:
        with closing(Reader(world.db)) as reader:
            while not done.is_set():
                if faults := reader.faults():
                    wrong.append(faults)

    reader = threading.Thread(target=watch)
    reader.start()
    killed = 0
    try:
        for number in range(40):
            day = f"runs/e{number % 4}/2026-01-{number % 28 + 1:02}T09-{number // 28:02}-00-000Z"
            world.repo.commit(at(day, bundle(rows=[row(f"t{n}") for n in range(5)], experiment=None)))
            world.write({f"jobs/a/fizz__{number % 20:07}/result.json": trial(second=number % 60)})
            # half of them between two statements, half at any moment
            at_statement = chance.randrange(1, 150) if number % 2 else 0
            process = in_process(command, world.db, sources, world.options, at_statement)
            process.join(None if at_statement else chance.expovariate(15))
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            killed += bool(at_statement and process.exitcode)
    finally:
        done.set()
        reader.join()
    assert not wrong
    assert killed > 10
    world.sync()
    assert check(world.db, world.sources, world.options) == []
