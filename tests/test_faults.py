"""Whatever a system call does, the index is as it was or as it has to be, and the next pass makes it right."""

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from indexer.passes.check import check
from indexer.store import file
from tests.bundles import at, bundle, row
from tests.faults import Fault, Faults, faults
from tests.jobs import job, trial
from tests.observe import Named, Reader
from tests.worlds import World

Rows = list[list[tuple[object, ...]]]
WIP = "refs/heads/agentv/wip/host/2026-01-09T09-00-00-000Z"


@pytest.fixture(scope="module")
def failing() -> Iterator[Faults]:
    with faults() as each:
        yield each


@pytest.fixture
def sources(world: World) -> list[Named]:
    """Runs of two tools in git and on disk, and an index of the first of them."""
    for number in range(3):
        path = f"runs/e{number}/2026-01-0{number + 1}T09-00-00-000Z"
        world.repo.commit(at(path, bundle(rows=[row(f"t{n}") for n in range(4)], experiment=f"e{number}")))
    world.write(at("jobs/a", job({f"fizz__{n:07}": trial(second=n) for n in range(4)})))
    world.write(at("jobs/b", job(id="23b29240-0000-4000-8000-000000000002")))
    return [("git", "team", world.repo.path), ("folder", "local", world.local)]


def go_on(world: World) -> None:
    """Runs that come, change and go."""
    world.repo.commit(at("runs/e3/2026-01-04T09-00-00-000Z", bundle(experiment="e3")))
    world.repo.commit({"runs/e0": None, "runs/metadata/e1/2026-01-02T09-00-00-000Z/tags.json": '{"tags": {"a": "b"}}'})
    world.repo.commit(at("runs/w/2026-01-09T09-00-00-000Z", bundle(summary={})), ref=WIP, parents=[world.repo.tip()])
    world.write({"jobs/a/fizz__0000001/result.json": trial(reward=0.0)})
    world.write(at("jobs/c", job(id="23b29240-0000-4000-8000-000000000003")))
    shutil.rmtree(world.local / "jobs/b")


def put_back(world: World, copy: Path) -> None:
    shutil.rmtree(world.db.parent, ignore_errors=True)
    if copy.exists():
        shutil.copytree(copy, world.db.parent)


def rows(world: World) -> Rows:
    """What a reader sees, but for what differs between two passes that do the same."""
    try:
        with closing(Reader(world.db)) as reader:
            assert reader.faults() == []
    except sqlite3.DatabaseError as error:
        if file.is_damage(error) or "no such table" in str(error) or "unable to open" in str(error):
            return []  # not mended yet, or the first pass has not ended
        raise
    tables = {
        "runs": "key, path, ref, status, tags, passed, failed, sha",
        "trial_details": "run_id, trial, status, score",
        "places": "path, ref, sha, status",
        "problems": "path, kind",
    }
    return [
        sorted(tuple(row.values()) for row in world.select(f"SELECT {columns} FROM {table}"))
        for table, columns in tables.items()
    ]


def pass_to_break(world: World, state: str) -> tuple[str, Path, list[Rows]]:
    """A command, a copy of the index before it, and what a reader may see when it was broken off: before, after."""
    before: Rows = []
    if state != "first":
        world.sync()
        before = rows(world)
        go_on(world)
    if state == "damaged":
        with world.db.open("r+b") as damaged:
            damaged.seek(100)
            damaged.write(b"\xff" * 4000)
        before = []
    copy = world.root / "kept"
    if world.db.exists():
        shutil.copytree(world.db.parent, copy)
    world.sync()
    assert check(world.db, world.sources, world.options) == []
    return "rebuild" if state == "rebuild" else "sync", copy, [before, rows(world)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "how"),
    [("first", "tear"), ("incremental", "kill"), ("incremental", "tear"), ("rebuild", "kill"), ("damaged", "kill")],
)
def test_killed_at_every_write(failing: Faults, world: World, sources: list[Named], state: str, how: str) -> None:
    command, copy, (before, after) = pass_to_break(world, state)
    seen: list[Rows] = []
    killed, at_call = True, 0
    while killed:
        put_back(world, copy)
        at_call += 5 if (state, how) == ("incremental", "kill") else 13
        fault = Fault("write", how, world.db.parent, at_call, at_call)
        outcome = failing.run(command, world.db, sources, fault, cache=8)
        killed = outcome.killed
        assert killed or not (outcome.error or outcome.traceback), outcome
        seen.append(rows(world))
        world.sync()
        assert rows(world) == after
    assert check(world.db, world.sources, world.options) == []
    assert at_call > 200
    assert all(each in (before, after) for each in seen)


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("state", ["first", "incremental", "rebuild"])
def test_a_disk_that_fails_from_some_write_on(
    failing: Faults, world: World, sources: list[Named], state: str, error: int
) -> None:
    command, copy, (before, after) = pass_to_break(world, state)
    at_call = failed = 0
    while True:
        at_call += 17
        put_back(world, copy)
        outcome = failing.run(command, world.db, sources, Fault("write", error, world.db.parent, at_call), cache=8)
        assert not outcome.killed
        assert not outcome.traceback, (at_call, outcome.traceback)
        if outcome.calls < at_call:
            break
        seen = rows(world)
        assert seen in (before, after)
        if outcome.error:
            failed += 1
            assert "index.db" in outcome.error
        else:
            assert seen == after
        world.sync()
        assert rows(world) == after
    assert failed > 3
    assert outcome.error is None


@pytest.mark.parametrize(("first", "why"), [(1, "unable to open"), (2, "disk is full")])
def test_a_full_disk_for_what_is_sorted(
    failing: Faults, world: World, sources: list[Named], first: int, why: str
) -> None:
    world.write(at("jobs/many", job({f"fizz__{n:07}": trial(second=n % 60) for n in range(400)})))
    command, copy, (before, after) = pass_to_break(world, "rebuild")
    put_back(world, copy)
    outcome = failing.run(command, world.db, sources, Fault("write", errno.ENOSPC, "etilqs", first), cache=8)
    assert why in (outcome.error or "")
    assert "SQLITE_TMPDIR" in (outcome.error or "")
    assert rows(world) == before
    world.rebuild()
    assert rows(world) == after


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("how", [errno.EIO, "short"])
@pytest.mark.parametrize("place", ["results.git", "local-results"])
def test_a_read_that_fails(
    failing: Faults, world: World, sources: list[Named], place: str, how: str | int, lasting: bool
) -> None:
    command, copy, (before, after) = pass_to_break(world, "incremental")
    read = world.root / place
    at_call = 0
    while True:
        at_call += 23 if lasting else 7
        put_back(world, copy)
        fault = Fault("read", how, read, at_call, 1 << 40 if lasting else at_call)
        outcome = failing.run(command, world.db, sources, fault)
        assert not outcome.traceback, (at_call, outcome.traceback)
        if outcome.calls < at_call:
            break
        seen = rows(world)
        for was, is_, will_be in zip(before[:3], seen[:3], after[:3], strict=True):
            kept = {row for row in was if row in will_be}
            assert kept <= set(is_), (at_call, outcome, kept - set(is_))
            told = outcome.error or seen[3]
            assert told or set(is_) <= {*was, *will_be}, (at_call, outcome)
        if how == "short" or not (outcome.error or seen[3]):
            assert seen == after, (at_call, outcome)
        world.sync()
        assert rows(world) == after, at_call
    assert check(world.db, world.sources, world.options) == []
    assert at_call > 50


@pytest.mark.slow
@pytest.mark.parametrize("how", [errno.EIO, "short", "kill"])
def test_a_git_whose_reads_fail(failing: Faults, world: World, sources: list[Named], how: str | int) -> None:
    command, copy, (_, after) = pass_to_break(world, "incremental")
    told = 0
    for at_call in range(1, 60, 4):
        put_back(world, copy)
        outcome = failing.run(command, world.db, sources, Fault("read", how, world.repo.path, at_call), git=True)
        assert not outcome.traceback, (at_call, outcome.traceback)
        seen = rows(world)
        if outcome.error or seen[3]:
            told += 1
            without_commit = [[row[:-1] for row in runs[0]] for runs in (seen, after)]
            assert outcome.error or without_commit[0] == without_commit[1]
        else:
            assert seen == after, at_call
        world.sync()
        assert rows(world) == after, at_call
    assert told == 0 if how == "short" else told > 3
