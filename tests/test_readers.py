"""Readers beside a pass see whole states only."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from indexer import open_index
from indexer.errors import IndexFileError, QueryError
from indexer.passes import sync
from indexer.passes.check import check
from indexer.store import file
from tests.bundles import at, bundle, row
from tests.crowd import CLIENTS, gather
from tests.observe import in_process
from tests.worlds import World

LATEST = "select run_id, experiment, target, pass_rate from runs order by timestamp desc limit 5"
# what holds in every whole state: each run has its trials, its target rows and its places
WHOLE = """
SELECT (SELECT count(*) FROM runs),
       (SELECT sum(trial_count) FROM runs) - (SELECT count(*) FROM trials),
       (SELECT count(*) FROM runs) - (SELECT count(DISTINCT run_pk) FROM run_targets),
       (SELECT count(*) FROM runs) - (SELECT count(DISTINCT run_pk) FROM places),
       (SELECT max(rev) FROM runs) - (SELECT last_rev FROM meta)
"""


def day(number: int) -> str:
    return f"runs/e{number % 4}/2026-01-{number % 28 + 1:02}T09-{number // 28:02}-00-000Z"


@pytest.mark.parametrize("command", ["sync", "rebuild"])
def test_a_reader_beside_a_pass(world: World, command: str) -> None:
    for number in range(30):
        world.repo.commit(at(day(number), bundle(rows=[row(f"t{n}") for n in range(5)], experiment=None)))
    world.sync()
    done, states, wrong = threading.Event(), set[int](), list[object]()

    def watch() -> None:
        database = sqlite3.connect(world.db)
        with open_index(world.db) as index:
            while not done.is_set():
                count, *differences = database.execute(WHOLE).fetchone()
                states.add(count)
                if any(differences) or len(database.execute(LATEST).fetchall()) != 5:
                    wrong.append((count, *differences))
                if len(index.runs(limit=1000).runs) < 30:
                    wrong.append("short list")
        database.close()

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for number in range(30, 60):
            world.repo.commit(at(day(number), bundle(rows=[row(f"t{n}") for n in range(5)], experiment=None)))
            getattr(world, command)()
    finally:
        done.set()
        reader.join()
    assert not wrong
    assert states <= set(range(30, 61))
    assert len(states) > 1


def test_an_open_reader_follows_a_rebuild_and_a_replaced_file(world: World) -> None:
    world.repo.commit(at(day(1), bundle()))
    world.sync()
    with open_index(world.db) as index:
        assert len(index.runs().runs) == 1
        world.repo.commit(at(day(2), bundle()))
        world.rebuild()
        assert len(index.runs().runs) == 2
        for suffix in ("", "-wal", "-shm"):
            world.db.with_name(f"index.db{suffix}").unlink(missing_ok=True)
        world.repo.commit(at(day(3), bundle()))
        world.sync()
        assert len(index.runs().runs) == 3


def test_a_reader_that_never_lets_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LONGEST_LOG", 100_000)
    world.repo.commit(at(day(0), bundle()))
    world.sync()
    log = Path(f"{world.db}-wal")
    work = {"team": None}
    with closing(sqlite3.connect(world.db)) as reader, closing(file.connect(world.db, write=True)) as watcher:
        reader.execute("BEGIN")
        (count,) = reader.execute("SELECT count(*) FROM runs").fetchone()
        for number in range(1, 41):
            world.repo.commit(at(day(number), bundle(rows=[row(f"t{n}") for n in range(20)])))
            sync.look(watcher, world.sources, world.options, work)
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (count,)
        assert world.column("SELECT count(*) FROM runs") == [41]
        longest = log.stat().st_size
        assert longest > 1_000_000
        reader.execute("COMMIT")
        for number in range(41, 44):
            world.repo.commit(at(day(number), bundle()))
            sync.look(watcher, world.sources, world.options, work)
        assert log.stat().st_size < longest / 2
    assert check(world.db, world.sources, world.options) == []


@pytest.mark.parametrize("mode", ["NORMAL", "EXCLUSIVE"])
def test_an_index_that_another_program_locks(world: World, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    world.repo.commit(at(day(0), bundle()))
    world.sync()
    world.repo.commit(at(day(1), bundle()))
    monkeypatch.setattr(file, "_PATIENCE", 0.1)
    with closing(sqlite3.connect(world.db, isolation_level=None)) as other:
        other.execute(f"PRAGMA locking_mode = {mode}")
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (a)")
        for command in (world.sync, world.rebuild):
            with pytest.raises(IndexFileError, match="database is locked"):
                command()
        if mode == "EXCLUSIVE":
            with pytest.raises(IndexFileError, match="locked"), open_index(world.db) as index:
                index.runs()
        other.execute("ROLLBACK")
    assert len(world.synced()) == 2


def test_two_indexes_of_one_process_see_every_pass(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with open_index(world.db) as first:
        for number in range(1, 4):
            with open_index(world.db) as second:
                assert len(second.runs().runs) == number
            assert len(first.runs().runs) == number
            world.repo.commit(at(f"runs/e/2026-02-0{number}T09-00-00-123Z", bundle(experiment=None)))
            process = in_process("sync", world.db, [("git", "team", world.repo.path)], world.options)
            process.join()
            assert len(first.runs().runs) == number + 1


def test_a_log_that_was_replaced_is_noticed(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with open_index(world.db) as index:
        assert len(index.runs().runs) == 1
        for suffix in ("-wal", "-shm"):
            world.db.with_name(f"index.db{suffix}").unlink()
        world.repo.commit(at("runs/e/2026-02-05T09-00-00-123Z", bundle(experiment=None)))
        world.sync()
        assert len(index.runs().runs) == 2


def test_threads_share_an_index(world: World) -> None:
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle(experiment=None)))
    world.sync()
    with open_index(world.db) as index, ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(lambda: len(index.runs().runs)) for _ in range(400)]
        for number in range(1, 4):
            world.repo.commit(at(f"runs/e/2026-02-0{number}T09-00-00-123Z", bundle(experiment=None)))
            world.sync()
        asked += [threads.submit(lambda: len(index.runs().runs)) for _ in range(40)]
        counts = [each.result() for each in asked]
        assert set(counts) <= {1, 2, 3, 4}
        assert counts[-40:] == [4] * 40  # asked after the last pass
        index.close()
        with pytest.raises(IndexFileError, match="was closed"):
            threads.submit(index.runs).result()


def test_errors_in_sql_of_ones_own_are_told_as_such(world: World) -> None:
    world.sync()
    with open_index(world.db) as index:
        for query in ("select nothing from runs", "selec", "delete from runs", "select zeroblob(1000000000)"):
            with pytest.raises(QueryError, match="sql: "):
                index.select(query)
        with pytest.raises(QueryError, match="status"):
            index.trials("x", trial_status="bogus")


@pytest.mark.slow
def test_a_crowd_of_readers_beside_writers_that_come_and_go(tmp_path: Path) -> None:
    crowd = gather(tmp_path, 10)
    assert crowd.wrong == []
    assert len(crowd.answers) == CLIENTS + 2
    assert len(crowd.memory) > 5
