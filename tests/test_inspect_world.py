"""Logs of Inspect among the sources: copies, retries and edits of one run, on disk in git, and while it is written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.passes.check import check
from tests.commands import done, indexer
from tests.inspect_logs import NAME, TASK_ID, Doc, document, ended, header, log, sample, spec
from tests.test_daemon import Watching, until
from tests.worlds import World

KEY = f"inspect:{TASK_ID}"
LATER = NAME.replace("T09", "T10")


def put(world: World, name: str, data: bytes) -> None:
    """Write a log as Inspect does: a temporary file that takes the name."""
    path = world.local / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".inspect_tmp_x.writing")
    temporary.write_bytes(data)
    temporary.rename(path)


def retried(*samples: Doc) -> bytes:
    """A retry: another log of the same task, an hour later."""
    return log(samples, header(eval=spec(created="2026-01-05T10:00:00+00:00", eval_id="f" * 22)))


def test_a_log_is_a_run_and_goes_with_its_file(world: World) -> None:
    put(world, f"logs/{NAME}", ended(sample("q1"), sample("q2", "I")))
    put(world, "logs/nested/a/best run.eval", ended(sample(), eval=spec(task_id="b" * 22)))
    world.write({"logs/logs.json": "{}", "logs/eval-set.json": "{}", "logs/2026-01-05T09-00-00_notes.json": '{"a": 1}'})
    first, other = world.synced()
    assert (first["key"], first["run_id"], first["passed"], first["failed"]) == (KEY, NAME.removesuffix(".eval"), 1, 1)
    assert (other["run_id"], other["path"]) == ("nested/a/best run", "logs/nested/a/best run.eval")
    assert world.column("SELECT trial FROM trials WHERE run_pk = 1 ORDER BY 1") == ["q1_epoch_1", "q2_epoch_1"]
    assert world.select("SELECT * FROM problems") == []
    (world.local / "logs" / NAME).rename(world.local / "logs/renamed.eval")
    assert [run["run_id"] for run in world.synced()] == ["renamed", "nested/a/best run"]
    (world.local / "logs/renamed.eval").unlink()
    assert [run["key"] for run in world.synced()] == ["inspect:" + "b" * 22]


def test_a_retry_goes_on_with_the_run_and_the_latest_log_with_samples_tells_of_it(world: World) -> None:
    put(world, f"logs/{NAME}", log([sample("q1"), sample("q2", None, error="E('x')")], header("error")))
    assert [(run["status"], run["errored"]) for run in world.synced()] == [("failed", 1)]
    put(world, f"logs/{LATER}", log([], eval=spec(created="2026-01-05T10:00:00+00:00")))  # it has only begun
    (run,) = world.synced()
    assert (run["status"], run["path"]) == ("failed", f"logs/{NAME}")
    put(world, f"logs/{LATER}", retried(sample("q1"), sample("q2")))
    (run,) = world.synced()
    assert (run["status"], run["passed"], run["trial_count"], run["path"]) == ("completed", 2, 2, f"logs/{LATER}")
    assert world.column("SELECT rank FROM places ORDER BY path") == [
        "2026-01-05T09:00:00.000Z",
        "2026-01-05T10:00:00.000Z",
    ]
    (world.local / "logs" / LATER).unlink()
    assert [(run["status"], run["path"]) for run in world.synced()] == [("failed", f"logs/{NAME}")]


def test_of_copies_the_latest_edit_then_the_most_scores_tell(world: World) -> None:
    put(world, f"logs/{NAME}", ended(sample()))
    two = sample(scores={"match": {"value": "C"}, "style": {"value": 0.5}})
    put(world, f"logs/{NAME.replace('.eval', '-scored.eval')}", ended(two))
    assert [run["path"] for run in world.synced()] == [f"logs/{NAME.replace('.eval', '-scored.eval')}"]
    edit = {"edits": [{"type": "tags"}], "provenance": {"timestamp": "2026-02-01T00:00:00Z"}}
    put(world, "logs/z.eval", ended(sample(), tags=["reviewed"], log_updates=[edit]))
    (run,) = world.synced()
    assert (run["path"], json.loads(run["tags"])) == ("logs/z.eval", ["reviewed"])


def test_converted_logs_are_the_same_run(world: World) -> None:
    put(world, f"logs/{NAME}", ended(sample()))
    put(world, f"logs/{NAME.replace('.eval', '.json')}", document([sample()]))
    assert len(world.synced()) == 1
    assert len(world.select("SELECT * FROM places")) == 2


def test_a_run_without_samples_has_a_target_and_what_inspect_reports(world: World) -> None:
    put(world, f"logs/{NAME}", log([], header()))
    (run,) = world.synced()
    assert (run["target"], run["agent"], run["model"], run["trial_count"]) == ("acme/alpha", "generate", "alpha", 0)
    assert world.column("SELECT reported_score FROM run_targets") == [0.5]


def test_a_torn_log_keeps_its_rows_and_a_mended_one_closes_the_problem(world: World) -> None:
    data = ended(sample())
    put(world, f"logs/{NAME}", data)
    world.synced()
    put(world, f"logs/{NAME}", data[:200])
    assert [run["passed"] for run in world.synced()] == [1]
    assert world.column("SELECT path FROM problems") == [f"logs/{NAME}"]
    put(world, f"logs/{NAME}", data)
    world.synced()
    assert world.select("SELECT * FROM problems") == []


def test_parts_of_a_merged_log_are_no_runs_and_a_log_that_ends_early_keeps_its_rows(world: World) -> None:
    name = NAME.replace(".eval", ".json")
    put(world, f"logs/{name}", document([sample()]))
    put(world, f"logs/{NAME}.shards/0/part.eval", ended(sample(), eval=spec(task_id="p" * 22)))
    assert [run["key"] for run in world.synced()] == [KEY]
    for cut in (b"", b'{"version": 2,'):
        put(world, f"logs/{name}", cut)
        assert [run["key"] for run in world.synced()] == [KEY]
        assert world.column("SELECT path FROM problems") == [f"logs/{name}"]


def test_a_file_that_cannot_be_read_is_one_problem(world: World) -> None:
    put(world, f"logs/{NAME}", ended(sample()))
    (world.local / "logs/m.eval").symlink_to("/proc/self/mem")
    (world.local / "logs/folder.eval").mkdir()
    assert [run["key"] for run in world.synced()] == [KEY]
    assert world.column("SELECT path FROM problems") == ["logs/m.eval"]


def test_in_git_a_log_may_take_the_place_of_a_folder_and_the_other_way_round(world: World) -> None:
    world.repo.commit({"logs/x.eval/in.eval": ended(sample(), eval=spec(task_id="i" * 22))})
    assert [run["path"] for run in world.synced()] == ["logs/x.eval/in.eval"]
    world.repo.commit({"logs/x.eval": ended(sample())})
    assert [run["path"] for run in world.synced()] == ["logs/x.eval"]
    world.repo.commit({"logs/x.eval": None, "logs/x.eval/in.eval": ended(sample())})
    assert [run["path"] for run in world.synced()] == ["logs/x.eval/in.eval"]


def test_logs_in_git_have_the_commit_that_brought_them(world: World) -> None:
    first = world.repo.commit({f"logs/{NAME}": ended(sample())}, author="Ann")
    (run,) = world.synced()
    assert (run["key"], run["sha"], run["author"], run["passed"]) == (KEY, first, "Ann", 1)
    other = ended(sample(), eval=spec(task_id="b" * 22))
    second = world.repo.commit({f"logs/{NAME}": ended(sample(value="I")), "logs/other.eval": other})
    assert [(run["sha"], run["passed"]) for run in world.synced()] == [(first, 0), (second, 1)]
    world.repo.commit({"logs": None})
    assert world.synced() == []


def test_a_watcher_sees_a_log_flush_by_flush(world: World) -> None:
    put(world, f"logs/{NAME}", log([]))
    watching = Watching(world, sweep=3600)
    try:
        until(lambda: world.column("SELECT status FROM runs") == ["running"])
        for number in range(1, 5):
            put(world, f"logs/{NAME}", log([sample(f"q{each}") for each in range(number)]))
            until(lambda number=number: world.column("SELECT ended_count FROM runs") == [number])  # type: ignore[misc]
        put(world, f"logs/{NAME}", ended(*(sample(f"q{each}") for each in range(4))))
        until(lambda: world.column("SELECT status FROM runs") == ["completed"])
        put(world, f"logs/new/{LATER}", ended(sample(), eval=spec(task_id="c" * 22)))
        until(lambda: len(world.column("SELECT 1 FROM runs")) == 2)
        (world.local / "logs" / NAME).unlink()
        until(lambda: world.column("SELECT key FROM runs") == ["inspect:" + "c" * 22])
    finally:
        watching.stop()
    assert check(world.db, world.sources, world.options) == []


def test_the_sample_of_a_trial_is_its_file(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / NAME).write_bytes(ended(sample("q1"), sample("dir/q 2")))
    done(tmp_path, "sync")
    shown = done(tmp_path, "show", "latest", "q1")
    assert "samples/q1_epoch_1.json" in shown
    text = done(tmp_path, "show", "latest", "q1", "--file", "samples/q1_epoch_1.json")
    assert json.loads(text)["messages"] == []
    assert json.loads(done(tmp_path, "show", "latest", "--file", "samples/dir/q 2_epoch_1.json"))["id"] == "dir/q 2"
    assert done(tmp_path, "show", "latest", "--path") == f"{tmp_path}/logs\n"
    json_name = "2026-01-06T09-00-00_x.json"
    broken = sample("q9", None, error="KeyError('a')\nand more")
    (tmp_path / "logs" / json_name).write_bytes(document([broken], eval=spec(task_id="j" * 22)))
    done(tmp_path, "sync")
    process = indexer(tmp_path, "show", "inspect:" + "j" * 22, "q9")
    assert ("KeyError('a')\n  and more" in process.stdout, process.stderr) == (True, "")
    (tmp_path / "logs" / NAME).write_bytes(b"torn")
    torn = indexer(tmp_path, "show", f"inspect:{TASK_ID}", "q1", "--file", "samples/q1_epoch_1.json")
    assert (torn.returncode, "not a readable zip file" in torn.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["folder", "git"])
def test_generated_logs_equal_their_truth(shared: Path, world: World, place: str) -> None:
    logs = world.local / "logs" if place == "folder" else world.root / "work/logs"
    truth = world.root / "truth.jsonl"
    options = ["--runs", "300", "--states", "0.2", "--retries", "0.15", "--errors", "0.1", "--truth", str(truth)]
    subprocess.run([sys.executable, shared / "tools/gen_inspect_logs.py", logs, *options], check=True)
    if place == "git":
        world.repo.commit({f"logs/{path.name}": path.read_bytes() for path in logs.iterdir()})
    wanted = {fact["key"]: fact for fact in map(json.loads, truth.read_text().splitlines())}
    found = {run["key"]: run for run in world.synced()}
    assert found.keys() == wanted.keys()
    for key, fact in wanted.items():
        run = found[key] | {"tags": json.loads(found[key]["tags"])}
        told = {name: value for name, value in fact.items() if name in run}
        assert run["tags"] == told.pop("tags")
        assert {name: run[name] for name in told} == pytest.approx(told), key
