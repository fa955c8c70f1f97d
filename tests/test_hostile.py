"""Input that nobody would write on purpose costs its own run, and is told."""

import os
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
import pytest

from indexer.errors import IndexFileError, LockedError
from indexer.sources import gitcommand
from indexer.store import file, lock
from tests.bundles import at, bundle, row
from tests.jobs import job, trial
from tests.observe import in_process, statements
from tests.repos import RESULTS, T0
from tests.worlds import World

TRIAL = "jobs/bad/fizz__aaaaaaa/result.json"
GOOD = trial()
UNREADABLE = {
    "empty": b"",
    "torn": GOOD.encode()[:-20],
    "invalid UTF-8": GOOD.encode().replace(b"fizz", b"f\xffzz"),
    "a lone surrogate": GOOD.encode().replace(b"fizz", b"\\ud800"),
    "nested too deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": b"[" + GOOD.encode() + b"]",
    "a number": b"1",
    "nothing but NUL": b"\0" * 5000,
    "UTF-16": GOOD.encode("utf-16"),
    "two documents": GOOD.encode() * 2,
}
ODD = {
    "every type wrong": b'{"task_name": [1], "config": "x", "agent_info": 3, "verifier_result": [], "started_at": {}}',
    "duplicate keys": GOOD.encode()[:-1] + b', "task_name": "half", "task_name": "other"}',
    "NaN": GOOD.encode().replace(b"0.25", b"NaN").replace(b"100", b"-Infinity"),
    "numbers beyond 64 bits": GOOD.encode().replace(b"100", b"9" * 400).replace(b"0.25", b"1e999"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "control characters": GOOD.encode().replace(b"fizz", b"f\\u0000\\u001b[31m\\n'\\\""),
    "a huge text": GOOD.encode().replace(b"fizz", b"f" * 1_000_000),
}


@pytest.fixture
def beside(world: World) -> World:
    """A good job, beside which a bad one is written."""
    world.write(at("jobs/good", job()))
    world.write(at("jobs/bad", job({"fizz__aaaaaaa": "{}"}, id="23b29240-0000-4000-8000-000000000002")))
    return world


def good(world: World) -> tuple[object, ...]:
    """What the index tells of the good job, and nothing else may change."""
    (run,) = [run for run in world.synced() if run["path"] == "jobs/good"]
    return run["passed"], run["failed"], run["input_tokens"], run["cost_usd"]


def write(world: World, data: bytes) -> None:
    (world.local / TRIAL).write_bytes(data)


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_trial_is_one_problem(beside: World, what: str) -> None:
    write(beside, UNREADABLE[what])
    assert good(beside) == (1, 1, 200, 0.5)
    problems = beside.select("SELECT path, kind FROM problems")
    assert problems == [{"path": TRIAL, "kind": "malformed"}]
    write(beside, GOOD.encode())
    good(beside)
    assert beside.select("SELECT * FROM problems") == []


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_inside_a_trial_is_unknown_or_text(beside: World, what: str) -> None:
    write(beside, ODD[what])
    assert good(beside) == (1, 1, 200, 0.5)
    (run,) = beside.select("SELECT * FROM runs WHERE path = 'jobs/bad'")
    assert run["cost_usd"] in (None, 0.25)
    assert len(str(beside.select("SELECT * FROM trials"))) < 20_000


def test_a_file_of_a_gigabyte_is_told_without_reading_it(beside: World) -> None:
    with (beside.local / TRIAL).open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert good(beside) == (1, 1, 200, 0.5)
    (problem,) = beside.select("SELECT path, message FROM problems")
    assert problem["path"] == TRIAL
    assert "1,073,741,824 bytes are more than" in problem["message"]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_what_is_no_regular_file_is_not_opened(beside: World, kind: int) -> None:
    (beside.local / TRIAL).unlink()
    try:
        os.mknod(beside.local / TRIAL, kind | 0o666, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")
    assert good(beside) == (1, 1, 200, 0.5)
    assert beside.select("SELECT path FROM problems") == [{"path": TRIAL}]


def test_names_with_quotes_newlines_and_control_characters(world: World) -> None:
    names = ["it's", 'a "b"', "new\nline", "tab\tbell\a", "--help", "%s%00", "; DROP TABLE runs", "ünï", "\x1b[31m"]
    for number, name in enumerate(names):
        files = job(id=f"23b29240-0000-4000-8000-{number:012}")
        world.write(at(f"jobs/{name}", files))
        world.repo.commit(at(f"jobs/git {name}", files | {"lock.json": "{}"}))
    found = {run["run_id"].removeprefix("git ") for run in world.synced()}
    assert found == set(names)


def test_a_hundred_thousand_entries_that_are_no_runs(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    repository = world.repo.pygit2
    tree = repository[world.repo.tip()].peel(pygit2.Tree)
    blob, empty = repository.create_blob(b"{}"), repository.TreeBuilder().write()
    files, folders = repository.TreeBuilder(), repository.TreeBuilder(tree)
    for number in range(50_000):
        files.insert(f"{number}.json", blob, pygit2.enums.FileMode.BLOB)
        folders.insert(f"{number}", empty, pygit2.enums.FileMode.TREE)
    folders.insert("many", files.write(), pygit2.enums.FileMode.TREE)
    signature = pygit2.Signature("a", "a@b", T0, 0)
    repository.create_commit(RESULTS, signature, signature, "", folders.write(), [world.repo.tip()])
    assert len(world.synced()) == 1
    assert world.select("SELECT * FROM problems") == []


def test_a_git_that_hangs_is_ended_and_told(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    hanging = tmp_path / "bin" / "git"
    hanging.parent.mkdir()
    hanging.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/started\nexec sleep 1000\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(gitcommand, "SILENCE", 2.0)
    world.sync()
    assert world.column("SELECT count(*) FROM runs") == [1]
    assert world.column("SELECT kind FROM problems") == ["history"]
    for process in (tmp_path / "started").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)
    monkeypatch.undo()
    assert world.synced()[0]["sha"] == world.repo.tip()


# the index file and its lock


def test_a_lock_that_a_dead_process_left_is_free(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    process = in_process("sync", world.db, [("git", "team", world.repo.path)], world.options, kill_at=30)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert str(process.pid) in lock.lock_path(world.db).read_text()
    assert len(world.synced()) == 1


@pytest.mark.parametrize("statement", [2, 3, 5])
def test_an_index_whose_first_sync_was_killed_is_made_by_the_next(world: World, statement: int) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    process = in_process("sync", world.db, [("git", "team", world.repo.path)], world.options, kill_at=statement)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(world.synced()) == 1


def test_two_writers(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    told: list[str] = []

    def second(_statement: str) -> None:
        if not told:
            told.append("")
            with pytest.raises(LockedError) as error:
                world.rebuild()
            told.append(str(error.value))

    with statements(second):
        world.sync()
    assert f"`indexer sync` (process {os.getpid()} on" in told[1]
    assert len(world.synced()) == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No index may be larger than 60 pages."""
    plain = file.connect

    def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
        database = plain(path, write=write)
        database.execute("PRAGMA max_page_count = 60")
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "connect", connect)
        yield


@pytest.mark.parametrize("command", ["sync", "rebuild"])
def test_a_full_disk_is_one_clear_line_and_the_index_stays(world: World, command: str) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    world.repo.commit(at("runs/e/2026-01-06T09-00-00-123Z", bundle(rows=[row(f"t{n}") for n in range(3000)])))
    with full_disk(), pytest.raises(IndexFileError, match=r"index\.db cannot be written: database or disk is full"):
        getattr(world, command)()
    assert world.column("SELECT count(*) FROM runs") == [1]


def test_an_index_that_is_deleted_or_replaced_while_it_is_written(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    for how in ("deleted", "replaced"):
        world.repo.commit(at(f"runs/{how}/2026-01-06T09-00-00-123Z", bundle(experiment=how)))
        count = 0

        def interfere(_statement: str, how: str = how) -> None:
            nonlocal count
            count += 1
            if count == 20 and how == "deleted":
                file.remove(world.db)
            elif count == 20:
                new = world.db.with_name("new")
                file.create(new)
                new.rename(world.db)

        with statements(interfere):
            world.sync()
        assert count > 20
    assert len(world.synced()) == 3


def test_a_file_that_takes_the_place_of_a_first_index_that_failed_is_left_alone(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(rows=[row(f"t{n}") for n in range(3000)])))
    with full_disk(), pytest.raises(IndexFileError):
        world.sync()
    assert not world.db.exists()
    world.db.write_text("notes of mine")  # it may get the number of the file that was removed
    with pytest.raises(IndexFileError, match="left alone"):
        world.sync()
    assert world.db.read_text() == "notes of mine"


def test_a_newer_schema_version_is_built_anew(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with file.connect(world.db, write=True) as database:
        database.execute(f"PRAGMA user_version = {file.SCHEMA + 1}")
    database.close()
    report = world.sync()
    assert report.built == f"the index has schema version {file.SCHEMA + 1} and this program {file.SCHEMA}"
    assert len(world.synced()) == 1


def test_tables_of_others_inside_the_index_stop_no_rebuild(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with file.connect(world.db, write=True) as database:
        database.execute("CREATE VIRTUAL TABLE runs_fts USING fts5(run_id)")
    database.close()
    world.rebuild()
    assert len(world.synced()) == 1


def test_text_that_is_none_inside_the_index_is_damage(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.write(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with file.connect(world.db, write=True) as database:
        database.execute("UPDATE places SET path = CAST(x'ff' AS TEXT)")
    database.close()
    assert "damaged" in (world.sync().built or "")
    assert len(world.synced()) == 1


def test_an_index_cut_behind_its_header_comes_back(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    os.truncate(world.db, 100)
    assert len(world.synced()) == 1
    os.truncate(world.db, 50)  # nothing proves whose that is
    with pytest.raises(IndexFileError, match="left alone"):
        world.sync()


@pytest.mark.parametrize("how", ["link", "pipe", "nested"])
def test_a_lock_that_is_another_file_is_left_alone(world: World, how: str) -> None:
    path = lock.lock_path(world.db)
    path.parent.mkdir()
    other = world.root / "empty"
    other.touch()
    if how == "link":
        path.symlink_to(other)
    elif how == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("[" * 200_000)
    with pytest.raises(IndexFileError, match=r"index\.db\.lock"):
        world.sync()
    assert other.read_bytes() == b""


def test_a_folder_in_the_place_of_the_lock(world: World) -> None:
    lock.lock_path(world.db).mkdir(parents=True)
    with pytest.raises(IndexFileError, match=r"index\.db\.lock cannot be written"):
        world.sync()
