"""Repositories elsewhere, of which a clone is kept."""

import os
from pathlib import Path

import pytest

from indexer import open_index
from indexer.freshness import newer_sources
from indexer.passes.check import check
from indexer.passes.sync import sync
from indexer.sources import gitcommand
from indexer.sources.clone import CloneSource
from tests import orphans
from tests.bundles import at, bundle, row
from tests.worlds import World

A, B = "runs/with_skills/2026-01-05T09-00-00-123Z", "runs/with_skills/2026-01-06T09-00-00-000Z"
WIP = "refs/heads/agentv/wip/laptop/"


@pytest.fixture
def remote(world: World, monkeypatch: pytest.MonkeyPatch) -> CloneSource:
    """The world's repository as a remote that can leave out files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.root / "cache"))
    world.repo.git("config", "uploadpack.allowFilter", "true")
    source = CloneSource("team", f"file://{world.repo.path}")
    world.sources = [source]
    return source


def paths(world: World) -> list[str]:
    world.sync()
    assert check(world.db, world.sources, world.options) == []
    return world.column("SELECT path FROM runs ORDER BY path")


@pytest.mark.parametrize("can_filter", ["true", "false"])
def test_runs_come_change_and_go_as_in_the_remote(world: World, remote: CloneSource, can_filter: str) -> None:
    world.repo.git("config", "uploadpack.allowFilter", can_filter)
    world.repo.commit(at(A, bundle()))
    world.repo.commit(at("docs", {"index.html": "x" * 1000}), ref="refs/heads/main")
    assert paths(world) == [A]
    added = world.repo.commit(at(B, bundle(tags={"tags": ["own"], "updated_at": "2026-01-06T09:00:00Z"})))
    overlay = {f"metadata/{A}/tags.json": '{"tags": ["over"], "updated_at": "2026-01-06T09:00:00Z"}'}
    world.repo.commit(overlay)
    assert paths(world) == [A, B]
    assert world.select("SELECT tags, sha FROM runs ORDER BY path")[1] == {"tags": '["own"]', "sha": added}
    assert world.column("SELECT tags FROM runs ORDER BY path")[0] == '["over"]'
    world.repo.set_ref("refs/heads/agentv/results/v1", f"{added}")
    world.repo.commit({A: None})
    assert paths(world) == [B]
    assert not (remote.folder / "refs/heads/main").exists()
    world.repo.delete_ref("refs/heads/agentv/results/v1")
    assert paths(world) == []
    assert world.select("SELECT * FROM problems") == []


def test_only_the_files_that_rows_come_from_are_fetched_all_at_once(
    world: World, remote: CloneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        folder = f"runs/e/2026-01-{number + 1:02}T09-00-00-000Z"
        world.repo.commit(
            at(folder, bundle(rows=[row(f"t{number}")], experiment=None) | {"transcript.md": f"x{number}"})
        )
    plain, commands = CloneSource._git, list[str]()

    def counted(self: CloneSource, arguments, *others, **options):  # type: ignore[no-untyped-def]
        commands.append(arguments[0])
        return plain(self, arguments, *others, **options)

    monkeypatch.setattr(CloneSource, "_git", counted)
    assert len(paths(world)) == 20
    assert commands.count("fetch") == 2  # commits and trees, then files
    transcript = world.repo.git(
        "rev-parse", "refs/heads/agentv/results/v1:runs/e/2026-01-01T09-00-00-000Z/transcript.md"
    )
    remote.open()
    assert not remote._repository.objects.has(bytes.fromhex(transcript))
    commands.clear()
    assert len(paths(world)) == 20
    assert set(commands) == {"ls-remote"}


def test_a_run_in_progress_becomes_a_published_one(world: World, remote: CloneSource) -> None:
    world.repo.commit(at(B, bundle()))
    draft = WIP + A.rpartition("/")[2]
    world.repo.commit(at(A, bundle(summary={})), ref=draft)
    world.sync()
    assert world.column("SELECT status FROM runs ORDER BY path") == ["running", "completed"]
    world.repo.commit(at(A, bundle()))
    world.repo.delete_ref(draft)
    world.sync()
    assert world.column("SELECT status FROM runs ORDER BY path") == ["completed", "completed"]


def test_a_dead_remote_keeps_its_rows_and_delays_nothing_else(world: World, remote: CloneSource) -> None:
    world.repo.commit(at(A, bundle()))
    assert paths(world) == [A]
    away = world.repo.path.with_name("away")
    world.repo.path.rename(away)
    (error,) = [source.error for source in world.sync().sources]
    assert error is not None
    assert f"file://{world.repo.path} cannot be fetched: fatal: " in error
    assert world.column("SELECT error FROM sources") == [error]
    assert world.column("SELECT path FROM runs") == [A]
    away.rename(world.repo.path)
    assert paths(world) == [A]
    assert world.column("SELECT error FROM sources") == [None]


def test_the_users_own_git_settings_reach_the_remote_and_nobody_is_asked(
    world: World, remote: CloneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = world.root / "told"
    helper = world.root / "bin" / "git"
    helper.parent.mkdir()
    helper.write_text(f"#!/bin/sh\nenv > {told}\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_ASKPASS", "my-helper")
    assert world.sync().failed
    assert {"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=my-helper"} <= set(told.read_text().splitlines())


def test_a_remote_that_hangs_is_given_up(world: World, remote: CloneSource, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(at(A, bundle()))
    assert paths(world) == [A]
    hanging = world.root / "bin" / "git"
    hanging.parent.mkdir()
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
        patched.setattr(gitcommand, "TIMEOUT", 0.2)
        assert "took more than" in (world.sync().sources[0].error or "")
    assert paths(world) == [A]


def test_credentials_in_a_url_are_shown_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.root / "cache"))
    source = CloneSource("team", "https://me:s3cret-token@127.0.0.1:1/results.git")
    report = sync(world.db, [source], world.options)
    assert report.failed
    assert "s3cret" not in f"{report}{world.content()}"
    assert "127.0.0.1" in source.place


def test_a_ref_in_the_place_of_a_folder_of_refs_and_what_a_killed_fetch_left(world: World, remote: CloneSource) -> None:
    world.repo.commit(at(A, bundle()), ref="refs/heads/agentv/results/a")
    assert paths(world) == [A]
    tip = world.repo.tip("refs/heads/agentv/results/a")
    world.repo.delete_ref("refs/heads/agentv/results/a")
    world.repo.commit(at(B, bundle()), ref="refs/heads/agentv/results/a/b")
    left = remote.folder / "refs/incoming/heads/agentv/results/a"
    left.parent.mkdir(parents=True)
    left.write_text(f"{tip}\n")
    assert paths(world) == [B]
    assert remote.folder.stat().st_mode & 0o077 == 0


def test_an_annotated_tag_of_a_remote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.root / "cache"))
    world.repo.commit(at(A, bundle()))
    world.repo.git("tag", "--annotate", "--message", "m", "published", world.repo.tip())
    world.sources = [CloneSource("team", f"file://{world.repo.path}", ["refs/tags/*"])]
    assert paths(world) == [A]


def test_what_a_fetch_brought_does_not_look_newer(world: World, remote: CloneSource) -> None:
    world.repo.commit(at(A, bundle()))
    assert paths(world) == [A]
    with open_index(world.db) as index:
        assert newer_sources(index) == []


def test_two_urls_have_two_clones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {CloneSource("team", url).folder for url in ("https://a/x", "https://a/y")}
    assert CloneSource("team", "https://a/x", ["main"]).folder not in folders  # each keeps its own refs
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "indexer"}


def test_nothing_is_left_of_git_when_a_watcher_is_killed(tmp_path: Path) -> None:
    assert orphans.kill(tmp_path, 4) == []
