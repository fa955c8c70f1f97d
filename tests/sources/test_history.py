"""Which commit first brought a run to a ref, in one pass and after every kind of change."""

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pygit2
import pytest

from indexer.errors import SourceError
from indexer.sources import gitcommand
from indexer.sources.git import GitSource
from indexer.sources.gitcommand import run_git
from tests.bundles import at, bundle, without
from tests.repos import RESULTS, T0, git
from tests.worlds import World

A, B, C = (f"runs/with_skills/2026-01-0{day}T09-00-00-000Z" for day in (5, 6, 7))
FACTS = "SELECT path, sha FROM runs ORDER BY timestamp"


def instead_of_git(patched: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """From now on `git` is this shell script."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    patched.setenv("PATH", str(program.parent), prepend=":")


def commits(world: World) -> dict[str, str | None]:
    return {row["path"]: row["sha"] for row in world.synced(FACTS)}


def test_the_commit_its_time_and_author_and_republishing_keeps_them(world: World) -> None:
    first = world.repo.commit(at(A, bundle()), author="Ünal", seconds=T0)
    world.repo.commit(at(B, bundle()))
    world.repo.commit(without(A) | at(A, bundle("v6")))
    (run, _) = world.synced("SELECT sha, added_at, author FROM runs ORDER BY timestamp")
    assert run == {"sha": first, "added_at": "2026-01-05T08:00:00.000Z", "author": "Ünal"}


def test_a_run_deleted_and_added_again_keeps_its_first_commit(world: World) -> None:
    first = world.repo.commit(at(A, bundle()))
    world.repo.commit({A: None})
    world.repo.commit(at(B, bundle()))
    second = world.repo.tip()
    assert commits(world) == {B: second}
    world.repo.commit(at(A, bundle()))
    assert commits(world) == {A: first, B: second}
    world.repo.commit({A: None})
    world.synced()
    world.repo.commit(at(A, bundle()))
    assert commits(world) == {A: first, B: second}


def test_a_new_path_is_new(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.synced()
    moved = world.repo.commit(without(A) | at(f"runs/archive/{A.rpartition('/')[2]}", bundle()))
    assert list(commits(world).values()) == [moved]


def test_a_merge_brings_both_sides_and_what_it_adds_itself(world: World) -> None:
    base = world.repo.commit({"README.md": "-"})
    left = world.repo.commit(at(A, bundle()))
    right = world.repo.commit(at(B, bundle()), ref="refs/heads/side", parents=[base])
    assert commits(world) == {A: left}
    merge = world.repo.commit(at(B, bundle()) | at(C, bundle()), parents=[left, right])
    assert commits(world) == {A: left, B: right, C: merge}


def test_two_unrelated_histories_with_one_run_give_the_earlier_commit(world: World) -> None:
    late = world.repo.commit(at(A, bundle()), seconds=T0 + 5000)
    assert commits(world) == {A: late}
    early = world.repo.commit(at(A, bundle()), ref="refs/heads/side", parents=[], seconds=T0)
    world.repo.commit({}, parents=[late, early], seconds=T0 + 6000)
    assert commits(world) == {A: early}


def test_equal_times_are_decided_by_the_id(world: World) -> None:
    one = world.repo.commit(at(A, bundle()), seconds=T0)
    other = world.repo.commit(at(A, bundle()), ref="refs/heads/side", parents=[], seconds=T0, author="other")
    world.repo.commit({}, parents=[one, other])
    assert commits(world) == {A: min(one, other)}


def test_a_force_push_forgets_commits_that_are_not_reachable(world: World) -> None:
    base = world.repo.commit(at(A, bundle()))
    world.repo.commit(at(B, bundle()))
    world.synced()
    again = world.repo.commit(at(B, bundle()), parents=[base], author="other")
    assert commits(world) == {A: base, B: again}


def test_an_anchor_that_comes_after_its_folder(world: World) -> None:
    folder = world.repo.commit({f"{A}/notes.md": "first"})
    world.repo.commit({"README.md": "-"})
    world.repo.commit(at(A, bundle()))
    assert commits(world) == {A: folder}
    later = world.repo.commit({f"{B}/notes.md": "first"})
    assert commits(world) == {A: folder}
    world.repo.commit(at(B, bundle()))
    assert commits(world) == {A: folder, B: later}


def test_a_lone_summary_has_its_commit_too(world: World) -> None:
    added = world.repo.commit(at(A, {"summary.json": bundle("v6")["summary.json"]}))
    assert commits(world) == {A: added}


def test_a_ref_of_a_run_in_progress_gives_the_commit_until_it_is_published(world: World) -> None:
    base = world.repo.commit(at(B, bundle()))
    ref = f"refs/heads/agentv/wip/vm/{A.rpartition('/')[2]}"
    draft = world.repo.commit(at(A, bundle(summary={})), ref=ref, parents=[base], seconds=T0)
    assert commits(world) == {A: draft, B: base}
    published = world.repo.commit(at(A, bundle()))
    assert commits(world) == {A: published, B: base}


def test_where_a_shallow_clone_ends_nothing_is_known(world: World, tmp_path: Path) -> None:
    world.repo.commit(at(A, bundle()))
    world.repo.commit(at(B, bundle()))
    added = world.repo.commit(at(C, bundle()))
    clone = tmp_path / "shallow.git"
    git(
        "clone",
        "--quiet",
        "--bare",
        "--depth=2",
        "--branch",
        "agentv/results/v1",
        f"file://{world.repo.path}",
        str(clone),
    )
    world.sources[0] = GitSource("team", clone)
    assert commits(world) == {A: None, B: None, C: added}
    git("-C", str(clone), "fetch", "--quiet", "--unshallow", "origin", f"+{RESULTS}:{RESULTS}")
    assert None not in commits(world).values()


def test_replaced_objects_and_user_settings_do_not_matter(world: World) -> None:
    first = world.repo.commit(at(A, bundle()))
    second = world.repo.commit(at(B, bundle()))
    world.repo.git("replace", second, first)
    world.repo.git("config", "log.showRoot", "false")
    world.repo.git("config", "diff.renames", "copies")
    assert commits(world) == {A: first, B: second}


def test_history_that_cannot_be_read_is_a_problem_and_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    added = world.repo.commit(at(A, bundle()))
    with monkeypatch.context() as patched:
        instead_of_git(patched, tmp_path, "echo fatal: no luck >&2; exit 128")
        assert commits(world) == {A: None}
        assert world.column("SELECT message FROM problems") == ["git cannot read the history: fatal: no luck"]
        instead_of_git(patched, tmp_path, "exec sleep 60")
        patched.setattr(gitcommand, "SILENCE", 0.05)
        world.sync()
        assert "did not answer" in world.column("SELECT message FROM problems")[0]
    assert commits(world) == {A: added}
    assert world.column("SELECT message FROM problems") == []


def test_the_end_of_one_command_is_heard_by_the_one_before(world: World) -> None:
    for number in range(3):
        world.repo.commit({"x": "x"}, ref=f"refs/heads/{number}")
    repository = pygit2.Repository(str(world.repo.path))
    long = ["for-each-ref", f"--format={'x' * 100_000}"]  # more than a pipe holds
    listing = gitcommand.Listing(repository, long, ["diff-tree", "--nonsense"], task="be read")
    with closing(listing), pytest.raises(SourceError, match=r"git cannot be read: (?!it did not answer)"):
        list(listing.chunks())


def test_a_git_that_says_nothing_is_not_believed(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    added = world.repo.commit(at(A, bundle()))
    with monkeypatch.context() as patched:
        instead_of_git(patched, tmp_path, "exit 0")
        assert commits(world) == {A: None}
        assert world.column("SELECT message FROM problems") == ["git cannot read the history: it lists no commits"]
    assert commits(world) == {A: added}


def test_many_commits_agree_with_git_log(world: World) -> None:
    expected = {}
    for number in range(60):
        path = f"runs/e{number % 3}/2026-02-01T09-00-{number:02}-000Z"
        expected[path] = world.repo.commit(at(path, bundle(experiment=None)))
        if number % 20 == 0:
            assert commits(world) == expected
    assert commits(world) == expected
    path = "runs/e0/2026-02-01T09-00-00-000Z/benchmark.json"
    log = ["git", "-C", str(world.repo.path), "log", "--diff-filter=A", "--format=%H", RESULTS, "--", path]
    assert subprocess.run(log, capture_output=True, text=True, check=True).stdout.split() == [
        expected[path.rpartition("/")[0]]
    ]


def test_an_earlier_branch_with_a_late_anchor_that_is_merged_later(world: World) -> None:
    base = world.repo.commit({"README.md": "-"})
    late = world.repo.commit(at(A, bundle()), seconds=T0 + 1000)
    assert commits(world) == {A: late}
    early = world.repo.commit({f"{A}/notes.md": "-"}, ref="refs/heads/side", parents=[base], seconds=T0)
    world.repo.commit(at(A, bundle()), ref="refs/heads/side", seconds=T0 + 10)
    world.repo.commit({}, parents=[late, world.repo.tip("refs/heads/side")], seconds=T0 + 2000)
    assert commits(world) == {A: early}


def test_a_merge_that_adds_a_run_beside_the_first_folder_of_the_other_side(world: World) -> None:
    base = world.repo.commit({"README.md": "-"})
    side = world.repo.commit(at(B, bundle()), ref="refs/heads/side", parents=[base])
    merge = world.repo.commit(at(A, bundle()) | at(B, bundle()), parents=[base, side])
    assert commits(world) == {A: merge, B: side}


def test_a_run_in_progress_in_a_shallow_clone_has_no_commit(world: World, tmp_path: Path) -> None:
    base = world.repo.commit(at(B, bundle()))
    ref = f"agentv/wip/vm/{A.rpartition('/')[2]}"
    world.repo.commit(at(A, bundle(summary={})), ref=f"refs/heads/{ref}", parents=[base])
    clone = tmp_path / "shallow.git"
    git("clone", "--quiet", "--bare", "--depth=1", "--branch", ref, f"file://{world.repo.path}", str(clone))
    world.sources[0] = GitSource("team", clone)
    assert commits(world) == {A: None}


def test_a_run_in_progress_gets_its_commit_once_the_clone_is_whole(world: World, tmp_path: Path) -> None:
    draft = "refs/heads/agentv/wip/host/" + A.rpartition("/")[2]
    added = world.repo.commit(at(A, bundle(summary={})), ref=draft)
    world.repo.commit(at(A, {"index.jsonl": ""}), ref=draft)
    clone = tmp_path / "clone"
    refs = "+refs/heads/*:refs/heads/*"
    git("init", "--quiet", "--bare", str(clone))
    git("-C", str(clone), "fetch", "--quiet", "--depth=1", f"file://{world.repo.path}", refs)
    world.sources[0] = GitSource("team", clone)
    assert commits(world) == {A: None}
    git("-C", str(clone), "fetch", "--quiet", "--unshallow", f"file://{world.repo.path}", refs)
    assert commits(world) == {A: added}


def test_grafts_do_not_matter(world: World) -> None:
    first = world.repo.commit(at(A, bundle()))
    second = world.repo.commit(at(B, bundle()))
    world.sync()
    (world.repo.path / "info").mkdir(exist_ok=True)
    (world.repo.path / "info/grafts").write_text(f"{second}\n")
    assert commits(world) == {A: first, B: second}


def test_a_history_that_fails_once_forgets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    added = world.repo.commit(at(A, bundle()))
    assert commits(world) == {A: added}
    before = world.select("SELECT rev FROM runs")
    world.repo.commit({"README.md": "-"})
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nonexistent")
        for _ in range(2):
            world.sync()
            assert world.select("SELECT sha FROM runs") == [{"sha": added}]
    assert commits(world) == {A: added}
    assert world.select("SELECT rev FROM runs") == before


def test_git_has_no_terminal_to_ask_on(tmp_path: Path) -> None:
    """ssh asks for passwords on the terminal of its session, so git has a session of its own."""
    session = run_git(["-c", "alias.session=!cut -d ' ' -f 6 /proc/self/stat", "session"], tmp_path)
    assert int(session) != os.getsid(0)
