"""Real files of every format, changed at random: no crash, no hang, bounded memory, and nothing else suffers."""

import math
import os
import shutil
import signal
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from indexer.formats import FORMATS, recognise
from indexer.index import file, rows
from indexer.protocols import Nothing, Options, Unreadable
from indexer.sources.folder import DiskFolder, FolderSource
from tests.conftest import SHARED
from tests.formats.memory import MemoryFolder
from tests.machine.mutations import mutated
from tests.worlds import World

OWN = Path(__file__).parent / "fixtures"
CPU_LIMIT = 20.0  # seconds for one file: far beyond what any needs, so that only a hang is one
MEMORY_LIMIT = 64 << 20  # bytes beside the file itself
SECRETS = ("LEAK", "u:pw@h", "FAKE-")


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {CPU_LIMIT:.0f} s of processor time")

    old = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def real_runs() -> list[tuple[str, dict[str, bytes], list[str]]]:
    """Every real run here: its path, its tree, and the files that its rows are read from."""
    roots = [OWN / "agentv", OWN / "pier", OWN / "copilot"]
    if (SHARED / "fixtures").is_dir():
        roots += [SHARED / "fixtures" / name for name in ("agentv", "pier", "copilot-lab")]
    found = []
    for root in roots:
        for folder, _, _ in os.walk(root):
            disk = DiskFolder(str(root), folder, os.path.relpath(folder, root))
            if (form := recognise(disk)) is None:
                continue
            files = [p for p in Path(folder).rglob("*") if p.is_file() and p.stat().st_size < 1 << 20]
            tree = {p.relative_to(root).as_posix(): p.read_bytes() for p in files}
            inputs = [f"{disk.path}/{name}" for name in form.inputs(disk) if f"{disk.path}/{name}" in tree]
            found.append((disk.path, tree, inputs))
    assert {form.NAME for form in FORMATS} == {recognise(MemoryFolder(t, p)).NAME for p, t, _ in found}  # type: ignore[union-attr]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_a_mutated_file_gives_a_run_or_a_reason(number: int) -> None:
    told = read_mutated(number, 1500)
    assert min(told["read"], told["unreadable"]) > 100


def read_mutated(number: int, count: int) -> dict[str, int]:
    """Read that many mutated files; how many gave a run and how many a reason."""
    random = Random(number)
    database = sqlite3.connect(":memory:", isolation_level=None)
    for script in ("schema.sql", "lookups.sql", "indexes.sql"):
        file.run_script(database, script)
    runs = real_runs()
    told = {"read": 0, "unreadable": 0}
    for _ in range(count):
        path, tree, inputs = random.choice(runs)
        victim = random.choice(inputs)
        tree = tree | {victim: mutated(random, tree[victim])}
        folder = MemoryFolder(tree, path)
        form = recognise(folder)
        assert form is not None
        try:
            with no_hang():
                run = form.read(folder, Options(), Nothing())
        except Unreadable as error:
            told["unreadable"] += 1
            assert error.message
            continue
        told["read"] += 1
        if run is not None:
            database.execute("BEGIN")
            new = rows.run_rows(run, ("s", path, None), run.tags.tags if run.tags else [], (None, None, None))
            database.execute(rows.INSERT_RUN, (1, *new.run, 1))
            for at, (trial, scores) in enumerate(new.trials.values(), 1):
                database.execute(rows.INSERT_TRIAL, (at, 1, *trial))
                database.executemany(rows.INSERT_SCORE, [(at, *score) for score in scores])
            database.executemany(rows.INSERT_TARGET, [(1, *target) for target in new.targets])
            database.executemany(rows.INSERT_TAG, [(1, *tag) for tag in new.tags])
            values = [value for row in (new.run, *(trial for trial, _ in new.trials.values())) for value in row]
            assert all(math.isfinite(value) for value in values if isinstance(value, float))
            assert not [secret for secret in SECRETS if secret in repr(values)]
            assert not [t for t in run.trials if t.error and len(t.error) > 200]
            database.execute("ROLLBACK")
    return told


@pytest.mark.parametrize("number", range(3))
def test_memory_for_a_mutated_file_is_bounded(number: int) -> None:
    random = Random(number)
    runs = real_runs()
    for _ in range(40):
        path, tree, inputs = random.choice(runs)
        victim = random.choice(inputs)
        tree = tree | {victim: mutated(random, tree[victim]) * random.choice([1, 50])}
        folder = MemoryFolder(tree, path)
        form = recognise(folder)
        assert form is not None
        tracemalloc.start()
        try:
            form.read(folder, Options(), Nothing())
        except Unreadable:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY_LIMIT + 20 * len(tree[victim])


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
    stamps = world.select("SELECT p.path, f.path AS file FROM _files f JOIN places p ON p.id = f.place_pk")
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
