"""One pass: what differs is written, everything else is left alone, and the index equals a rebuild."""

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from indexer import open_index
from indexer.changes import Added, History
from indexer.errors import IndexFileError, LockedError, SourceError
from indexer.passes.sync import rebuild
from indexer.protocols import Options
from indexer.records import Run, Trial
from indexer.sources.disk import DiskFolder
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.sources.objects import GitFolder
from indexer.store import file, lock, rows
from indexer.store.added import take_in
from indexer.store.differences import differences
from indexer.store.transaction import Transaction
from tests.bundles import NAME, at, bundle, row, without
from tests.jobs import job
from tests.worlds import World

A, B = f"runs/with_skills/{NAME}", "runs/baseline/2026-01-06T09-00-00-000Z"
KEY_A, KEY_B = f"agentv:with_skills::{NAME}", "agentv:baseline::2026-01-06T09-00-00-000Z"
PLACES = "SELECT run_key, source, path FROM places ORDER BY source, path"


def revs(world: World) -> dict[str, int]:
    return {run["key"]: run["rev"] for run in world.select("SELECT key, rev FROM runs")}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened through the folder interface."""
    opened: list[str] = []
    for folder in (GitFolder, DiskFolder):
        plain = folder.read

        def read(self, path, limit, plain=plain):  # type: ignore[no-untyped-def]
            opened.append(f"{self.path}/{path}")
            return plain(self, path, limit)

        monkeypatch.setattr(folder, "read", read)
    return opened


def test_one_run_in_two_places_is_one_row_with_the_tags_of_both(world: World) -> None:
    older = {"tags": ["git"], "updated_at": "2026-01-05T10:00:00Z"}
    newer = {"tags": ["folder"], "updated_at": "2026-01-06T10:00:00Z"}
    sha = world.repo.commit(at(A, bundle()) | {f"metadata/{A}/tags.json": json.dumps(older)})
    world.write(at(A, bundle(tags=newer)))
    (run,) = world.synced()
    assert (run["source"], run["path"], run["sha"], run["tags"]) == ("team", A, sha, '["folder"]')
    assert world.column("SELECT source FROM places ORDER BY source") == ["local", "team"]
    world.write(at(A, {"tags.json": json.dumps(newer | {"tags": []})}))
    assert world.synced()[0]["tags"] == "[]"  # an empty list is a decision too
    (world.local / A / "tags.json").unlink()
    assert world.synced()[0]["tags"] == '["git"]'


def test_the_best_place_tells_the_row_and_the_next_takes_over(world: World) -> None:
    world.repo.commit(at(A, bundle(rows=[row("t1")], planned=2, summary={})))
    finished = [row("t1"), row("t2", timestamp="2026-01-05T09:00:09.000Z")]
    world.write(at(A, bundle(rows=finished)))
    (run,) = world.synced()
    assert (run["source"], run["status"], run["trial_count"]) == ("local", "completed", 2)
    before = run["rev"]
    shutil.rmtree(world.local / A)
    (run,) = world.synced()
    assert (run["source"], run["status"], run["trial_count"]) == ("team", "running", 1)
    assert run["rev"] > before
    world.repo.commit({A: None})
    assert world.synced() == []
    assert world.column("SELECT key FROM deletions") == [KEY_A]
    world.write(at(A, bundle()))
    world.synced()
    assert world.column("SELECT key FROM deletions") == []


def test_a_second_sync_opens_nothing_and_writes_nothing(world: World, reads: list[str]) -> None:
    world.repo.commit(at(A, bundle()) | at(B, bundle()))
    world.write(at(A, bundle()))
    world.sync()
    assert reads
    reads.clear()
    size, content = world.db.stat(), world.db.read_bytes()
    wal = world.db.with_name("index.db-wal")
    logged = wal.read_bytes() if wal.exists() else b""
    world.sync()
    assert reads == []
    assert (world.db.stat().st_mtime_ns, world.db.read_bytes()) == (size.st_mtime_ns, content)
    assert (wal.read_bytes() if wal.exists() else b"") == logged


def test_only_what_changed_is_read_and_gets_a_new_revision(world: World, reads: list[str]) -> None:
    world.repo.commit(at(A, bundle()) | at(B, bundle()))
    world.sync()
    before = revs(world)
    reads.clear()
    world.repo.commit(at(B, bundle(rows=[row("t1"), row("t2")])))
    world.sync()
    assert {path.rpartition("/")[0] for path in reads} == {B}
    after = revs(world)
    assert after[KEY_A] == before[KEY_A]
    assert max(after.values()) > max(before.values())


def test_other_bytes_that_give_equal_rows_change_nothing(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.write(at(B, bundle()))
    world.sync()
    before = revs(world)
    world.repo.commit(
        at(A, {"transcript.md": "long", "benchmark.json": bundle()["benchmark.json"].replace(": []", ":[] ")})
    )
    (world.local / B / "benchmark.json").touch()
    report = world.sync()
    assert revs(world) == before
    assert [sum(s.counts.values()) for s in report.sources] == [0, 0]


def test_a_renamed_folder_is_never_a_gap(world: World) -> None:
    world.write(at(A, bundle()))
    world.sync()
    shutil.move(world.local / A, world.local / "runs" / NAME)
    (run,) = world.synced()
    assert (run["key"], run["path"]) == (f"agentv:{NAME}", f"runs/{NAME}")
    world.write(at(B, bundle()))
    world.synced()
    (world.local / "runs/baseline").rename(world.local / "baseline")
    report = world.sync()
    assert world.column("SELECT key FROM deletions") == [KEY_A]
    assert (report.sources[1].counts["added"], report.sources[1].counts["removed"]) == (0, 0)


def test_an_unreadable_run_keeps_its_rows_and_is_told_until_it_is_mended(world: World) -> None:
    for place in ("team", "local"):
        world.write(at(A, bundle())) if place == "local" else world.repo.commit(at(B, bundle()))
    world.synced()
    (world.local / A / "benchmark.json").write_text('{"metadata": ')
    world.repo.commit(at(B, {"benchmark.json": ""}))
    assert len(world.synced()) == 2
    problems = world.select("SELECT source, path, run_key, kind FROM problems ORDER BY source")
    assert problems == [
        {"source": "local", "path": f"{A}/benchmark.json", "run_key": KEY_A, "kind": "malformed"},
        {"source": "team", "path": f"{B}/benchmark.json", "run_key": KEY_B, "kind": "malformed"},
    ]
    world.sync()
    assert world.column("SELECT count(*) FROM problems") == [2]
    (world.local / A / "benchmark.json").write_text(bundle()["benchmark.json"])
    assert len(world.synced()) == 2
    assert world.column("SELECT source FROM problems") == ["team"]
    world.repo.commit({B: None})
    assert len(world.synced()) == 1
    assert world.column("SELECT source FROM problems") == []


def test_a_torn_rows_file_never_makes_a_run_worse(world: World) -> None:
    whole = bundle()
    torn = whole | {"index.jsonl": whole["index.jsonl"][:-40]}
    world.write(at(A, torn))
    (run,) = world.synced()
    assert run["trial_count"] == 1  # first sight shows what there is
    assert world.column("SELECT path FROM problems") == [f"{A}/index.jsonl"]
    world.write(at(A, whole))
    assert world.synced()[0]["trial_count"] == 2
    assert world.column("SELECT kind FROM problems") == []
    world.write(at(A, torn))
    assert world.synced()[0]["trial_count"] == 2
    assert world.column("SELECT path FROM problems") == [f"{A}/index.jsonl"]


def test_a_run_without_verdicts_has_no_rates(world: World) -> None:
    world.write(at(A, bundle(rows=[], planned=2, summary={})))
    (run,) = world.synced()
    assert (run["trial_count"], run["pass_rate"], run["avg_score"], run["cost_usd"]) == (0, None, None, None)


def test_a_source_that_is_away_keeps_its_rows(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.write(at(B, bundle()))
    world.synced()
    world.repo.path.rename(world.root / "elsewhere")
    world.write(at("runs/baseline/2026-01-07T09-00-00-000Z", bundle()))
    report = world.sync()
    assert report.failed
    assert len(world.select("SELECT 1 FROM runs")) == 3
    (team,) = world.select("SELECT failing_since, error FROM sources WHERE name = 'team'")
    assert team["error"].endswith("results.git does not exist")
    with pytest.raises(SourceError, match="the index is as it was"):
        world.rebuild()
    assert len(world.select("SELECT 1 FROM runs")) == 3
    world.sync()
    assert world.column("SELECT failing_since FROM sources WHERE name = 'team'") == [team["failing_since"]]
    (world.root / "elsewhere").rename(world.repo.path)
    assert len(world.synced()) == 3
    assert world.column("SELECT error FROM sources WHERE name = 'team'") == [None]


def test_sources_come_go_and_change_their_order(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.write(at(A, bundle()))
    copy = world.root / "copy"
    shutil.copytree(world.local, copy)
    git, local = world.sources
    world.sources = [FolderSource("copy", copy), local]
    assert world.synced()[0]["source"] == "copy"
    world.sources.reverse()
    assert world.synced()[0]["source"] == "local"
    world.sources = [local, git]
    assert world.synced()[0]["source"] == "team"
    assert world.column("SELECT name FROM sources ORDER BY id") == ["local", "team"]
    world.sources = [FolderSource("local", copy)]
    world.synced()
    assert world.column("SELECT source FROM places") == ["local"]
    world.sources = [GitSource("local", world.repo.path)]
    world.synced()
    assert world.column("SELECT ref FROM places") == ["refs/heads/agentv/results/v1"]


def test_counts_in_sources_are_those_of_their_runs(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.repo.set_ref("refs/remotes/origin/agentv/results/v1", world.repo.tip())
    world.write(at(A, bundle()) | at(B, bundle()))
    counts = "SELECT name || ' ' || runs AS n FROM sources ORDER BY name"
    world.synced()
    assert world.column(counts) == ["local 2", "team 1"]
    shutil.rmtree(world.local / B)
    world.repo.delete_ref("refs/remotes/origin/agentv/results/v1")
    world.synced()
    assert world.column(counts) == ["local 1", "team 1"]


def test_two_refs_with_the_same_folder_are_read_once(world: World, reads: list[str]) -> None:
    world.repo.commit(at(A, bundle()))
    world.repo.set_ref("refs/remotes/origin/agentv/results/v1", world.repo.tip())
    world.sync()
    assert sorted(reads) == [f"{A}/benchmark.json", f"{A}/index.jsonl"]
    assert world.column("SELECT ref FROM places ORDER BY ref") == [
        "refs/heads/agentv/results/v1",
        "refs/remotes/origin/agentv/results/v1",
    ]


def test_changed_options_build_the_index_anew(world: World) -> None:
    world.write(at(A, bundle(rows=[{"test_id": "t1", "score": 0.6}])))
    assert world.synced()[0]["passed"] == 0
    world.options = Options(agentv_threshold=0.5)
    assert world.sync().built == "the index was read by another version or with other settings"
    assert world.synced()[0]["passed"] == 1


def test_generations_differ_after_a_rebuild_and_content_does_not(world: World) -> None:
    world.repo.commit(at(A, bundle()) | at(B, bundle()))
    world.sync()
    before = world.select("SELECT * FROM trials ORDER BY id"), world.column("SELECT generation FROM meta")
    world.rebuild()
    after = world.select("SELECT * FROM trials ORDER BY id"), world.column("SELECT generation FROM meta")
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_file_that_is_no_database_is_left_alone_even_in_the_indexs_own_place(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.sync()
    inode = world.db.stat().st_ino
    for suffix in ("-wal", "-shm"):
        world.db.with_name(f"index.db{suffix}").unlink(missing_ok=True)
    world.db.write_bytes(b"notes of mine" * 1000)
    assert world.db.stat().st_ino == inode
    for act in (world.sync, world.rebuild, lambda: open_index(world.db)):
        with pytest.raises(IndexFileError, match="is not an index and was left alone"):
            act()
    assert world.db.read_bytes() == b"notes of mine" * 1000


@pytest.mark.parametrize("damage", ["deleted", "emptied", "cut", "other version", "lost table", "overwritten"])
def test_a_damaged_index_comes_back(world: World, damage: str) -> None:
    world.repo.commit(at(A, bundle(rows=[row(f"t{n}") for n in range(200)])) | at(B, bundle()))
    world.sync()
    runs = world.select("SELECT key, trial_count FROM runs ORDER BY key")
    if damage == "deleted":
        file.remove(world.db)
    elif damage == "emptied":
        file.remove(world.db)
        world.db.touch()
    elif damage == "cut":
        content = world.db.read_bytes()
        file.remove(world.db)
        world.db.write_bytes(content[: len(content) // 2])
    elif damage == "other version":
        file.connect(world.db, write=True).execute("PRAGMA user_version = 99")
    elif damage == "lost table":
        file.connect(world.db, write=True).execute("DROP TABLE run_tags")
    else:
        content = world.db.read_bytes()
        file.remove(world.db)
        world.db.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    world.sync()
    assert world.select("SELECT key, trial_count FROM runs ORDER BY key") == runs
    world.synced()


def test_foreign_files_are_refused_and_left_alone(world: World) -> None:
    world.db.parent.mkdir()
    for content in (b"notes of mine", b"SQLite format 3\0" + b"\0" * 52 + b"GPKG" + b"\0" * 28):
        world.db.write_bytes(content)
        with pytest.raises(IndexFileError, match="left alone"):
            world.sync()
        assert world.db.read_bytes() == content
        assert list(world.db.parent.iterdir()) == [world.db]
    world.db.unlink()
    world.db.mkdir()
    with pytest.raises(IndexFileError, match="is a folder"):
        world.sync()


def test_the_database_of_another_program_is_refused(world: World) -> None:
    world.db.parent.mkdir()
    with closing(file.connect(world.db, write=True)) as database:
        database.execute("CREATE TABLE runs (id)")
    with pytest.raises(IndexFileError, match="another program's database and was left alone"):
        world.sync()


def test_the_index_of_copilot_experiments_is_refused_by_name(world: World) -> None:
    world.db.parent.mkdir()
    database = file.connect(world.db, write=True)
    for table in ("experiments", "runs", "variants"):
        database.execute(f"CREATE TABLE {table} (id)")
    database.close()
    with pytest.raises(IndexFileError, match=r"copilot-experiments' own index .* move it away"):
        world.sync()


def test_who_looks_for_a_writer_does_not_keep_one_out(world: World) -> None:
    world.sync()
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            lock.writer(world.db)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with file.locked(world.db, "watch"):
                pass
    finally:
        looking.set()
        thread.join()


def test_one_writer_at_a_time_and_the_holder_is_named(world: World) -> None:
    with file.locked(world.db, "watch"), pytest.raises(LockedError, match=r"`indexer watch` \(process \d+ on"):
        world.sync()
    lock.lock_path(world.db).write_text("notes of mine")
    with pytest.raises(IndexFileError, match="another program's file"):
        world.sync()
    lock.lock_path(world.db).write_text("")
    world.sync()


ORIGIN = "refs/remotes/origin/agentv/results/v1"


def rows_until(second: int) -> list[dict[str, object]]:
    return [row(f"t{n}", timestamp=f"2026-01-05T09:00:0{n}.000Z") for n in range(1, second + 1)]


def test_a_fetch_and_then_a_pull_bring_the_new_rows(world: World) -> None:
    old = world.repo.commit(at(A, bundle(rows=[row("t1", 0.0)])))
    world.repo.set_ref(ORIGIN, old)
    assert world.synced()[0]["passed"] == 0
    new = world.repo.commit(at(A, bundle(rows=[row("t1", 1.0)])), ref=ORIGIN)
    world.synced()
    world.repo.set_ref("refs/heads/agentv/results/v1", new)
    assert world.synced()[0]["passed"] == 1


def test_two_places_that_get_worse_in_one_pass(world: World) -> None:
    world.repo.set_ref(ORIGIN, world.repo.commit(at(A, bundle(rows=rows_until(2)))))
    assert world.synced()[0]["trial_count"] == 2
    world.repo.set_ref(ORIGIN, world.repo.commit(without(A) | at(A, bundle(rows=rows_until(1)))))
    assert world.synced()[0]["trial_count"] == 1


def test_the_best_place_gets_worse_while_a_better_one_goes(world: World) -> None:
    world.repo.commit(at(A, bundle(rows=rows_until(3))))
    world.write(at(A, bundle(rows=rows_until(2))))
    assert world.synced()[0]["trial_count"] == 3
    world.repo.commit(without(A) | at(A, bundle(rows=rows_until(1))))
    shutil.rmtree(world.local / A)
    assert world.synced()[0]["trial_count"] == 1


@pytest.mark.parametrize("git_is", ["gone", "worse"])
def test_a_run_whose_best_place_is_away_is_settled_when_it_is_back(world: World, git_is: str) -> None:
    world.repo.commit(at(A, bundle(rows=rows_until(3))))
    world.write(at(A, bundle(rows=rows_until(2))))
    world.synced()
    away = world.root / "away"
    world.local.rename(away)
    change = without(A) | ({} if git_is == "gone" else at(A, bundle(rows=rows_until(1))))
    world.repo.commit(change)
    assert world.sync().failed
    assert len(world.select("SELECT 1 FROM runs")) == 1
    away.rename(world.local)
    (run,) = world.synced()
    assert (run["source"], run["trial_count"]) == ("local", 2)
    assert world.select("SELECT * FROM _unsettled") == []


def test_a_torn_file_does_not_take_over(world: World) -> None:
    world.repo.commit(at(A, bundle(rows=rows_until(3))))
    torn = bundle(rows=rows_until(2))
    world.write(at(A, torn | {"index.jsonl": torn["index.jsonl"] + '{"test'}))
    world.synced()
    world.repo.commit({A: None})
    world.sync()
    assert world.column("SELECT trial_count FROM runs") == [3]
    world.write(at(A, torn))
    assert world.synced()[0]["trial_count"] == 2


def test_new_settings_wait_for_a_source_that_is_away(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.write(at(B, bundle()))
    world.synced()
    world.options = Options(errors=False)
    world.repo.path.rename(world.root / "elsewhere")
    world.write(at("runs/more/2026-01-09T09-00-00-000Z", bundle()))
    report = world.sync()  # the others are followed on the old rows
    assert report.failed
    assert "it is built anew once every source can be read: source team" in (report.waiting or "")
    assert len(world.select("SELECT 1 FROM runs")) == 3
    (world.root / "elsewhere").rename(world.repo.path)
    report = world.sync()
    assert (report.waiting, report.failed) == (None, False)
    assert "other settings" in (report.built or "")
    assert len(world.synced()) == 3


def test_another_place_is_taken_only_once_it_can_be_read(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.synced()
    world.sources[0] = GitSource("team", world.root / "absent.git")
    assert world.sync().failed
    assert len(world.select("SELECT 1 FROM runs")) == 1


def test_a_rebuild_that_fails_leaves_no_empty_file(world: World) -> None:
    world.sources[0] = GitSource("team", world.root / "absent.git")
    with pytest.raises(SourceError):
        world.rebuild()
    assert not world.db.exists()


def test_report_counts_each_run_once(world: World) -> None:
    world.synced()
    world.repo.commit(at(A, bundle()))
    world.write(at(A, bundle()))
    report = world.sync()
    assert [(s.counts["added"], s.counts["changed"]) for s in report.sources] == [(1, 0), (0, 0)]


def test_a_left_lock_gives_no_right_to_another_file(world: World) -> None:
    world.sync()
    file.remove(world.db)
    keep = world.db.with_name("keep")
    keep.write_text("precious")
    keep.rename(world.db)
    with pytest.raises(IndexFileError, match="left alone"):
        world.sync()
    assert world.db.read_text() == "precious"


def test_a_pipe_in_the_place_of_the_index_is_left_alone(world: World) -> None:
    world.db.parent.mkdir()
    os.mkfifo(world.db)
    with pytest.raises(IndexFileError, match="not a regular file"):
        world.sync()
    assert world.db.is_fifo()


def test_check_derives_what_is_counted_a_second_way(world: World) -> None:
    """An index compared with itself differs where what it keeps is not what its own trials say."""
    huge = [row("t3", 0.0, status="execution_error", cost_usd=1e308), row("t4", cost_usd=1e308)]
    rows = [row("t1"), row("t2", 0.0), *huge]
    world.write(at(A, bundle(rows=rows)))
    world.sync()
    assert list(differences(world.db, world.db)) == []
    for wrong in (
        "UPDATE runs SET passed = passed + 1",
        "UPDATE runs SET quality_rate = 0.5",
        "UPDATE runs SET avg_score = NULL",
        "UPDATE _failures SET trials = trials + 1 WHERE status = 'failed'",
        "DELETE FROM _failures WHERE status = 'errored'",
    ):
        with closing(sqlite3.connect(world.db)) as database:
            database.execute(wrong)
            database.commit()
        assert len(list(differences(world.db, world.db))) >= 1, wrong
        rebuild(world.db, world.sources, world.options)


def test_repeats_of_a_target_count_together_whatever_model_each_used() -> None:
    trials = [
        Trial(trial=f"{n}", test_id="t", target="base", model=f"m{n}", status="passed" if n % 2 else "failed")
        for n in range(6)
    ]
    run = Run(
        key="k", run_id="r", format="f", layout="l", experiment="e", state="ended",
        timestamp="2026-01-05T09:00:00.000Z",
        trials=[*trials, Trial(trial="alone", test_id="once", target="base", status="passed")],
    )  # fmt: skip
    repeats = rows.run_rows(run, ("s", "p", None), [], (None, None, None)).repeats
    verdicts, passed = (rows.REPEAT.index(name) for name in ("verdicts", "passed"))
    assert [sum(row[at] for row in repeats) for at in (verdicts, passed)] == [6, 3]
    assert {row[rows.REPEAT.index("test_id")] for row in repeats} == {"t"}


def test_a_rebuild_needs_room_for_a_second_index(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(at(A, bundle()))
    world.sync()
    size = world.db.stat().st_size
    room = type(shutil.disk_usage("/"))(10**9, 10**9 - size + 1, size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(IndexFileError, match="bytes free, and a rebuild needs about"):
        world.rebuild()
    monkeypatch.undo()
    assert world.column("SELECT key FROM runs") == [KEY_A]


def test_a_row_without_its_parent_is_never_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(at(A, bundle()))
    world.sync()
    before = world.select("SELECT * FROM scores")
    monkeypatch.setattr(rows, "INSERT_SCORE", rows.INSERT_SCORE.replace("VALUES (?", "VALUES (? + 1000000"))
    with pytest.raises(AssertionError, match="row without its parent"):
        world.rebuild()
    assert world.select("SELECT * FROM scores") == before


def test_half_a_history_leaves_nothing(world: World) -> None:
    name = "refs/heads/agentv/results/v1"
    with closing(sqlite3.connect(world.db.parent.parent / "other.db", isolation_level=None)) as database:
        file.run_script(database, "schema.sql")
        database.execute("BEGIN")
        transaction = Transaction(database, fresh=False)

        def told() -> Iterator[Added]:
            for number in range(1_000):  # more than are written together
                yield Added(f"runs/e/{number}", "1" * 40, number, "somebody")
            history.error = "torn"

        history = History(name, told(), complete=True)
        take_in(transaction, "team", history)
        assert database.execute("SELECT count(*) FROM _added").fetchone() == (0,)


@pytest.mark.parametrize("identities", ["12", "21"])
def test_a_job_that_becomes_another_one_leaves_nothing(world: World, identities: str) -> None:
    first, second = (f"23b29240-0000-4000-8000-{number:0>12}" for number in identities)
    runs = "SELECT runs FROM sources WHERE name = 'local'"
    world.write(at("jobs/a", job(id=first)))
    world.sync()
    world.write(at("jobs/a", job(id=second)))
    assert [run["key"] for run in world.synced()] == [f"pier:{second}"]
    assert world.column(runs) == [1]
    world.write(at("jobs/copy", job(id=second)))
    world.sync()
    world.write(at("jobs/a", job(id=first)))
    assert {run["key"] for run in world.synced()} == {f"pier:{first}", f"pier:{second}"}
    assert world.column(runs) == [2]
    world.write(at("jobs/a", job(id=second)))
    assert [run["key"] for run in world.synced()] == [f"pier:{second}"]
    assert world.column(runs) == [1]


def test_a_copy_of_a_run_is_a_change_of_its_source(world: World) -> None:
    changed_at = "SELECT changed_at FROM sources WHERE name = 'local'"
    world.write(at("jobs/a", job()))
    world.sync()
    (before,) = world.column(changed_at)
    time.sleep(0.002)  # times have milliseconds
    world.sync()
    assert world.column(changed_at) == [before]
    world.write(at("jobs/b", job()))
    world.sync()
    (after,) = world.column(changed_at)
    assert after > before


def test_a_problem_of_an_optional_file_in_git_lasts_while_other_runs_come(world: World) -> None:
    folder = "runs/a/2026-01-05T09-00-00-000Z"
    samples = [{"sample_index": at, "sample_path": f"sample-{at + 1}", "score": 1} for at in (0, 1)]
    files = bundle("v9", [row("t1", samples=samples, result_dir="t1--0a")], experiment=None)
    world.repo.commit(at(folder, files | {"t1--0a/sample-1/metrics.json": "{", "t1--0a/sample-2/metrics.json": "{}"}))
    world.sync()
    problems = world.column("SELECT path FROM problems")
    assert problems == [f"{folder}/t1--0a/sample-1/metrics.json"]
    world.repo.commit(at("runs/b/2026-01-06T09-00-00-000Z", bundle(experiment=None)))
    world.sync()
    assert world.column("SELECT path FROM problems") == problems
    world.repo.commit(at(folder, {"t1--0a/sample-1/metrics.json": "{}"}))
    world.sync()
    assert world.column("SELECT path FROM problems") == []


def test_a_report_names_the_first_runs_of_each_source(world: World) -> None:
    for number in range(7):
        world.write(at(f"jobs/j{number}", job(id=f"23b29240-0000-4000-8000-{number:012}")))
    _, local = world.sync().sources
    assert (local.counts, len(local.runs)) == ({"added": 7, "changed": 0, "removed": 0}, 5)
    assert set(local.runs) < {f"j{number}" for number in range(7)}
    world.write({"jobs/j3/result.json": job(id="23b29240-0000-4000-8000-000000000003", finished=False)["result.json"]})
    shutil.rmtree(world.local / "jobs/j5")
    _, local = world.sync().sources
    assert (local.counts, sorted(local.runs)) == ({"added": 0, "changed": 1, "removed": 1}, ["j3", "j5"])
