"""Real files of every format, changed at random: no crash, no hang, bounded memory, and nothing else suffers."""

import shutil
import tracemalloc
from pathlib import Path
from random import Random

import pytest

from indexer.earlier import Nothing
from indexer.formats import recognise
from indexer.protocols import Options, Unreadable
from indexer.sources.folder import FolderSource
from tests.formats.memory import MemoryFolder
from tests.mutations import OWN, mutated, read_mutated, real_runs
from tests.worlds import World

MEMORY_LIMIT = 96 << 20  # bytes


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_a_mutated_file_gives_a_run_or_a_reason(number: int) -> None:
    told = read_mutated(number, 1000)
    assert min(told["read"], told["unreadable"]) > 100


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["agentv", "pier", "copilot-lab"])
def test_a_mutated_file_of_any_version_gives_a_run_or_a_reason(shared: Path, tool: str) -> None:
    told = read_mutated(1, 1000, shared / "fixtures" / tool)
    assert min(told["read"], told["unreadable"]) > 100


@pytest.mark.parametrize("number", range(3))
def test_memory_for_a_mutated_file_is_bounded(number: int) -> None:
    random = Random(number)
    runs = real_runs()
    for _ in range(40):
        path, tree, inputs = random.choice(runs)
        victim = random.choice(inputs)
        tree = tree | {victim: mutated(random, tree[victim]) * random.choice([1, 50])}
        folder = MemoryFolder(tree, path)
        run = recognise(folder)
        assert run is not None
        tracemalloc.start()
        try:
            run.read(Options(), Nothing())
        except Unreadable:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_mutated_files_cost_only_their_own_runs(world: World, number: int) -> None:
    random = Random(number)
    for name, tree in (
        (".agentv/results", "agentv/local-results"), ("jobs", "pier/jobs"), ("results", "copilot/results")
    ):  # fmt: skip
        shutil.copytree(OWN / tree, world.local / name)
    world.sources = [FolderSource("local", world.local)]
    before = {run["path"]: run for run in world.synced()}
    files = "SELECT p.path, f.path AS file FROM _files f JOIN places p ON p.id = f.place_pk"
    stamps = world.select(f"{files} WHERE f.path <> '' AND f.path NOT LIKE '%/'")
    assert len(before) == 7
    victims = {(each["path"], each["file"]) for each in random.sample(stamps, 3)}
    kept = {}
    for folder, name in victims:
        path = world.local / folder / name
        kept[path] = path.read_bytes()
        path.write_bytes(mutated(random, kept[path]))
    touched = {folder for folder, _ in victims}
    after = {run["path"]: run for run in world.synced()}
    assert {path: run for path, run in after.items() if path not in touched} == {
        path: run for path, run in before.items() if path not in touched
    }
    problems = world.column("SELECT path FROM problems")
    assert len(problems) == len(set(problems))
    assert set(problems) <= {f"{folder}/{name}" for folder, name in victims} | touched
    for path, data in kept.items():
        path.write_bytes(data)
    mended = {run["path"]: run for run in world.synced()}
    assert [run | {"rev": 0} for run in mended.values()] == [run | {"rev": 0} for run in before.values()]
    assert world.select("SELECT * FROM problems") == []
