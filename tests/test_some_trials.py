"""One trial of a job changes: only it is read, and the index is the one that a rebuild would make."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from indexer.formats import pier
from indexer.passes.check import check
from indexer.passes.sync import look
from indexer.sources.folder import FolderSource
from indexer.store import file, some_trials
from indexer.store.earlier import EarlierSome
from tests.bundles import at
from tests.jobs import config, job, result, trial
from tests.worlds import World

JOB = "jobs/j"
RUNNING = {"n_completed_trials": 1, "n_running_trials": 1, "n_pending_trials": 3, "n_cancelled_trials": 0}


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The jobs that were read whole by the index under test; a rebuild reads all of them."""
    paths: list[str] = []
    plain = pier.read

    def read(folder: Any, options: Any, earlier: Any) -> Any:
        paths.append(folder.path)
        return plain(folder, options, earlier)

    monkeypatch.setattr(pier, "read", read)
    yield paths


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.sources = [FolderSource("local", world.local)]
    return world


def trials(number: int) -> dict[str, str]:
    return {f"t{at % 4}__{at:07}": trial(f"t{at % 4}", float(at % 2), second=at) for at in range(number)}


def live(world: World, number: int = 8, **fields: Any) -> None:
    world.write(at(JOB, job(trials(number), finished=False, stats=RUNNING, **fields)))
    world.synced()


def looked(world: World, whole: list[str]) -> bool:
    """Sync, and require that the index equals a rebuild; whether no job was read whole."""
    whole.clear()
    world.sync()
    read = list(whole)
    world.synced()
    return not read


def test_a_trial_that_comes_ends_is_retried_and_goes_is_read_by_itself(world: World, whole: list[str]) -> None:
    live(world)
    new = f"{JOB}/t1__0000099"
    world.write({f"{new}/config.json": json.dumps(config("t1"))})
    assert looked(world, whole)
    assert world.column("SELECT running_count FROM runs") == [1]
    world.write({f"{new}/result.json": trial("t1", 0.0, "TimeoutError", second=0)})
    assert looked(world, whole)
    attempts = "SELECT trial FROM trials WHERE test_id = 't1' ORDER BY attempt"
    assert world.column(attempts) == ["t1__0000099", "t1__0000001", "t1__0000005"]  # all others moved
    assert world.column("SELECT failed FROM runs") == [5]
    world.write({f"{new}/result.json": trial("t1", None, "OSError", second=30)})
    assert looked(world, whole)
    assert world.column(attempts)[-1] == "t1__0000099"
    assert (world.column("SELECT errored FROM runs"), world.column("SELECT exceptions FROM runs")) == ([1], [1])
    shutil.rmtree(world.local / new)
    assert looked(world, whole)
    assert world.column("SELECT trial_count FROM runs") == [8]


def test_what_tells_of_the_job_itself_is_read_with_it(world: World, whole: list[str]) -> None:
    live(world)
    changed = json.loads(result(finished=False, stats=RUNNING)) | {
        "updated_at": "2026-01-05T12:00:00",
        "n_total_trials": 9,
    }
    world.write({f"{JOB}/result.json": json.dumps(changed)})
    assert looked(world, whole)
    assert world.select("SELECT updated_at, planned_count FROM runs") == [
        {"updated_at": "2026-01-05T10:00:00.000Z", "planned_count": 9}
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"result.json": result()},  # it ended
        {"result.json": result(finished=False, stats={"n_cancelled_trials": 1, "n_running_trials": 0})},
        {"config.json": json.dumps({"job_name": "j", "datasets": [{"path": "sets/other"}]})},
        {"lock.json": json.dumps({"created_at": "2026-01-05T09:00:00.300000Z", "harbor": {}, "token": "abcdefgh"})},
        {"20260101-101010/copilot-experiments-run.json": "{}", "20260101-101010/result.json": "{}"},
    ],
)
def test_what_changes_for_all_trials_is_read_whole(world: World, whole: list[str], change: dict[str, str]) -> None:
    live(world)
    world.write(at(JOB, change))
    assert not looked(world, whole)


def test_a_job_that_only_its_trials_name_is_read_by_trial_too(world: World, whole: list[str]) -> None:
    files = at(JOB, job(trials(8), finished=False, stats=RUNNING))
    del files[f"{JOB}/lock.json"]
    world.write(files)
    world.synced()
    harbor = trial("t2", 1.0, second=50, verifier_environment_mode="shared")
    world.write({f"{JOB}/t0__0000004/result.json": trial("t0", 1.0, second=40)})
    assert looked(world, whole)
    assert world.column("SELECT format FROM runs") == ["pier"]
    world.write({f"{JOB}/t2__0000002/result.json": harbor})
    assert not looked(world, whole)  # the job is another tool's
    assert world.column("SELECT format FROM runs") == ["harbor"]
    world.write({f"{JOB}/t2__0000002/result.json": harbor.replace("1.0", "0.0")})
    assert looked(world, whole)
    world.write({f"{JOB}/t2__0000002/result.json": trial("t2", 1.0)})
    assert not looked(world, whole)  # nobody says so any more
    assert world.column("SELECT format FROM runs") == ["pier"]


def test_what_is_torn_keeps_its_rows_and_no_other_problem_is_mended_by_that(world: World, whole: list[str]) -> None:
    live(world)
    for name in ("t0__0000000", "t1__0000001"):
        world.write({f"{JOB}/{name}/result.json": "{"})
    assert looked(world, whole)
    assert world.column("SELECT trial_count FROM runs") == [8]
    assert len(world.select("SELECT * FROM problems")) == 2
    world.write({f"{JOB}/t0__0000000/result.json": trial("t0", 0.0)})
    assert looked(world, whole)
    assert world.column("SELECT path FROM problems") == [f"{JOB}/t1__0000001/result.json"]
    world.write({f"{JOB}/result.json": ""})
    world.sync()
    assert world.column("SELECT path FROM problems ORDER BY path") == [
        f"{JOB}/result.json", f"{JOB}/t1__0000001/result.json"
    ]  # fmt: skip
    assert world.column("SELECT trial_count FROM runs") == [8]


def test_a_doubt_about_one_trial_stays_while_another_is_read(world: World, whole: list[str]) -> None:
    live(world)
    world.write({f"{JOB}/t0__0000000/result.json": trial("t0", "much")})
    assert looked(world, whole)
    world.write({f"{JOB}/t1__0000001/result.json": trial("t1", 0.25)})
    assert looked(world, whole)
    assert world.column("SELECT path FROM problems") == [f"{JOB}/t0__0000000/result.json"]


def test_a_look_at_one_trial_finds_what_no_event_told_of_the_jobs_own_folder(world: World, whole: list[str]) -> None:
    live(world)
    database = file.connect(world.db, write=True)
    try:
        shutil.rmtree(world.local / JOB / "t3__0000003")
        world.write({f"{JOB}/t2__0000042/config.json": json.dumps(config("t2"))})
        world.write({f"{JOB}/t1__0000001/result.json": trial("t1", 0.0, second=59)})
        whole.clear()
        look(database, world.sources, world.options, {"local": [f"{JOB}/t1__0000001"]})
        assert not whole
    finally:
        database.close()
    assert world.column("SELECT count(*) FROM trials WHERE trial IN ('t3__0000003', 't2__0000042')") == [1]
    world.synced()


def test_many_changed_trials_are_read_with_the_whole_job(world: World, whole: list[str]) -> None:
    live(world, 60)
    for name in trials(60):
        world.write({f"{JOB}/{name}/result.json": trial(name[:2], 0.5)})
    assert not looked(world, whole)


def test_random_changes_of_trials_leave_what_a_rebuild_makes(world: World, whole: list[str]) -> None:
    live(world, 6)
    chance, alone = random.Random(7), 0
    errors = [None, None, "TimeoutError", "CancelledError"]
    for _ in range(40):
        test, number = chance.randrange(3), chance.randrange(7)
        name = f"{JOB}/t{test}__{number:07}"
        match chance.randrange(6):
            case 0:
                shutil.rmtree(world.local / name, ignore_errors=True)
            case 1:
                shutil.rmtree(world.local / name, ignore_errors=True)
                world.write({f"{name}/config.json": json.dumps(config(f"t{test}"))})
            case _:
                fields: dict[str, Any] = {"task_checksum": chance.choice(["c" * 64, None])}
                if chance.random() < 0.3:
                    fields["agent_result"] = {"n_input_tokens": None, "cost_usd": 0.1 * number}
                    fields["source"] = chance.choice(["ds-main", None, "other"])
                told = trial(f"t{test}", chance.choice([0.1, 0.7, 1.0, None]), chance.choice(errors), number, **fields)
                world.write({f"{name}/config.json": json.dumps(config(f"t{test}")), f"{name}/result.json": told})
        alone += looked(world, whole)
    assert alone > 30


def test_what_two_looks_in_one_pass_read_is_mended(world: World) -> None:
    live(world)
    world.write({f"{JOB}/t0__0000000/result.json": "{"})
    world.sync()
    world.write({f"{JOB}/t0__0000000/result.json": trial("t0", 0.5), f"{JOB}/t1__0000001/result.json": trial("t1")})
    with closing(file.connect(world.db, write=True)) as database:
        look(database, world.sources, world.options, {"local": [JOB, f"{JOB}/t1__0000001"]})
    assert world.column("SELECT path FROM problems") == []
    world.synced()


def test_sums_beyond_all_numbers_are_unknown(world: World, whole: list[str]) -> None:
    live(world)
    for name in ("t0__0000000", "t0__0000004"):
        large = trial("t0", agent_result={"n_input_tokens": 2**62})
        world.write({f"{JOB}/{name}/result.json": large})
        assert looked(world, whole)
    assert world.column("SELECT input_tokens FROM runs") == [None]


@pytest.mark.parametrize("kind", ["link", "loop", "pipe"])
def test_what_is_called_like_a_trial_and_is_none_is_told(world: World, kind: str) -> None:
    live(world)
    place = world.local / JOB / "new__aaaaaaa"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        os.symlink("/nowhere/x" if kind == "link" else world.local / JOB, place)
    for _ in range(2):  # a quiet pass keeps what it does not look at
        world.synced()
        assert world.column("SELECT path FROM problems") == [f"{JOB}/new__aaaaaaa"]
    world.write({f"{JOB}/t1__0000001/result.json": trial("t1", 0.5)})
    world.synced()
    assert world.column("SELECT path FROM problems") == [f"{JOB}/new__aaaaaaa"]


def test_a_link_that_leads_somewhere_again_is_read_beside_another_trial(world: World) -> None:
    live(world)
    place = world.local / JOB / "t0__0000000"
    shutil.rmtree(place)
    os.symlink(world.root / "away", place)
    world.synced()
    (world.root / "away").mkdir()
    (world.root / "away/result.json").write_text(trial("t0", 0.5))
    world.write({f"{JOB}/t1__0000001/result.json": trial("t1", 0.5)})
    world.synced()
    assert world.column("SELECT path FROM problems") == []


def test_a_job_without_trials_is_queued_again(world: World) -> None:
    none = {"n_completed_trials": 0, "n_running_trials": 0, "n_cancelled_trials": 0}
    world.write(at(JOB, job({"t0__0000000": trial("t0")}, finished=False, stats=none)))
    world.synced()
    shutil.rmtree(world.local / JOB / "t0__0000000")
    assert [run["status"] for run in world.synced()] == ["queued"]


@pytest.mark.parametrize("name", ["lock.json", "copilot-experiments-run.json"])
def test_a_torn_document_that_goes_leaves_no_problem(world: World, name: str) -> None:
    live(world)
    before = (world.local / JOB / name).read_text() if name == "lock.json" else None
    world.write({f"{JOB}/{name}": "{"})
    world.synced()
    (world.local / JOB / name).unlink()
    if before:
        world.write({f"{JOB}/{name}": before})
    world.synced()
    assert world.column("SELECT path FROM problems") == []


def test_a_torn_job_tells_of_its_torn_trials_too(world: World) -> None:
    live(world)
    world.write({f"{JOB}/t0__0000000/result.json": "{", f"{JOB}/result.json": "{"})
    world.synced()
    assert len(world.select("SELECT * FROM problems")) == 2
    world.write({f"{JOB}/t0__0000000/result.json": trial("t0", 0.5)})
    world.synced()
    assert world.column("SELECT path FROM problems") == [f"{JOB}/result.json"]


def test_a_job_that_becomes_another_tools_is_seen(world: World) -> None:
    live(world)
    (world.local / JOB / ".internal").mkdir()
    world.synced()
    world.write({f"{JOB}/.internal/index.jsonl": "{}\n", f"{JOB}/t1__0000001/result.json": trial("t1", 0.5)})
    world.synced()


def test_a_copied_trial_makes_a_copy_of_the_job_whatever_else_changes(world: World) -> None:
    copied = trial("t1", config=config("t1") | {"source_trial": {"path": "jobs/other/t1__0000001"}})
    world.write(at(JOB, job({"t0__0000000": trial("t0"), "t1__0000001": copied}, finished=False, stats=RUNNING)))
    world.synced()
    world.write({f"{JOB}/t0__0000000/result.json": trial("t0", 0.5)})
    world.synced()
    assert world.column("SELECT derived_from FROM runs") == ['["other"]']


def test_suites_without_a_name_and_without_any_keep_their_order(world: World) -> None:
    nameless = {"t0__0000000": trial("t0", source=""), "t1__0000001": trial("t1", source=None)}
    world.write(at(JOB, job({**nameless, "t2__0000002": trial("t2")}, finished=False, stats=RUNNING)))
    world.synced()
    world.write({f"{JOB}/t2__0000002/result.json": trial("t2", 0.5)})
    world.synced()


def test_one_trial_is_looked_up_in_its_run_and_not_in_all(world: World) -> None:
    live(world)
    plans = [
        detail
        for query in (some_trials._VERDICTS, EarlierSome.OF_TEST)
        for *_, detail in sqlite3.connect(world.db).execute(f"EXPLAIN QUERY PLAN {query}", [1] * query.count("?"))
    ]
    assert [plan for plan in plans if "trials_test" in plan] == []
    assert any("trials_run" in plan for plan in plans)


def test_a_look_where_nothing_changed_writes_nothing(world: World, whole: list[str]) -> None:
    live(world)
    world.write({f"{JOB}/job.log": "a line\n", f"{JOB}/t1__0000001/trial.log": "another\n"})
    whole.clear()
    with closing(file.connect(world.db, write=True)) as database:
        report = look(database, world.sources, world.options, {"local": [f"{JOB}/job.log", f"{JOB}/t1__0000001"]})
    assert (report.changed, whole) == (False, [])


def test_absurd_scores_are_no_difference(world: World) -> None:
    rewards = (1e308, 1e308, -1e308, 1e22, 1.0, -1e22)
    world.write(at(JOB, job({f"t{at}__{at:07}": trial(f"t{at}", reward) for at, reward in enumerate(rewards)})))
    world.synced()
    world.execute("UPDATE runs SET passed = passed + 1")
    assert check(world.db, world.sources, world.options)


def test_a_run_whose_name_begins_as_anothers_is_a_run_of_its_own(world: World) -> None:
    """An event in `jobs/ab` says nothing of `jobs/a`."""
    world.write(at("jobs/a", job({"fizz__aaaaaaa": trial()})))
    world.sync()
    world.write(at("jobs/ab", job({"fizz__aaaaaaa": trial()}, id="23b29240-0000-4000-8000-000000000002")))
    with closing(file.connect(world.db, write=True)) as database:
        look(database, world.sources, world.options, {"local": ["jobs/ab/fizz__aaaaaaa"]})
    assert world.column("SELECT path FROM runs ORDER BY path") == ["jobs/a", "jobs/ab"]
