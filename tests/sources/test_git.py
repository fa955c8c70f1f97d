"""Runs in real repositories: what a sync makes of every way in which refs and trees change."""

import json
import os
from pathlib import Path

import pytest

from indexer.errors import SourceError
from indexer.passes.check import check
from indexer.settings import find_sources
from indexer.sources.git import GitSource
from tests.bundles import NAME, at, bundle, row, without
from tests.repos import RESULTS, Repo, git
from tests.worlds import World

A, B, C = f"runs/with_skills/{NAME}", "runs/with_skills/2026-01-06T09-00-00-000Z", "2026-01-07T09-00-00-000Z"
D = "runs/baseline/2026-01-08T09-00-00-000Z"
WIP = "refs/heads/agentv/wip/vm"


def paths(world: World) -> list[str]:
    return [run["path"] for run in world.synced("SELECT path FROM runs ORDER BY timestamp, key")]


def problems(world: World) -> list[str]:
    return world.column("SELECT message FROM problems ORDER BY path")


def test_runs_added_changed_and_deleted(world: World) -> None:
    world.repo.commit({"README.md": "results"})
    assert paths(world) == []
    world.repo.commit(at(A, bundle()))
    world.repo.commit(at(B, bundle()))
    assert paths(world) == [A, B]
    world.repo.commit(at(C, bundle("v9")))
    assert paths(world) == [A, B, C]
    world.repo.commit({A: None})
    assert paths(world) == [B, C]
    world.repo.commit({"runs": None})
    assert paths(world) == [C]


def test_a_run_republished_in_a_newer_layout(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.synced()
    world.repo.commit(without(A) | at(A, bundle("v6")))
    (run,) = world.synced()
    assert run["layout"] == "v6"
    world.repo.commit(without(A) | at(f"runs/{NAME}", bundle("v7")))
    (run,) = world.synced()
    assert (run["layout"], run["run_id"]) == ("v7", NAME)


def test_a_folder_becomes_a_run_and_a_run_becomes_a_folder_of_runs(world: World) -> None:
    world.repo.commit({"runs/x/notes.md": "-"} | at(f"runs/x/{NAME}", bundle()))
    assert paths(world) == [f"runs/x/{NAME}"]
    world.repo.commit(at("runs/x", bundle()))  # a stray file among runs makes none
    assert paths(world) == [f"runs/x/{NAME}"]
    world.repo.commit({f"runs/x/{NAME}": None})
    assert paths(world) == ["runs/x"]
    world.repo.commit(without("runs/x/benchmark.json", "runs/x/index.jsonl") | at(f"runs/x/y/{NAME}", bundle()))
    assert paths(world) == [f"runs/x/y/{NAME}"]


def test_a_force_push_even_after_gc(world: World) -> None:
    first = world.repo.commit(at(A, bundle()))
    world.repo.commit(at(B, bundle()))
    assert paths(world) == [A, B]
    world.repo.commit(at(C, bundle("v9")), parents=[first])
    assert paths(world) == [A, C]
    world.repo.commit(at(B, bundle()), parents=[])
    world.repo.git("reflog", "expire", "--expire=now", "--all")
    world.repo.git("gc", "--quiet", "--prune=now")
    assert paths(world) == [B]


def test_repacking_changes_nothing(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.synced()
    world.repo.git("gc", "--quiet", "--prune=now")
    world.repo.git("pack-refs", "--all")
    report = world.sync()
    assert (report.sources[0].counts["added"], report.sources[0].counts["changed"]) == (0, 0)
    world.repo.commit(at(B, bundle()))
    assert paths(world) == [A, B]


def test_a_ref_deleted_and_created_again(world: World) -> None:
    tip = world.repo.commit(at(A, bundle()))
    before = world.synced()
    world.repo.delete_ref(RESULTS)
    assert world.synced() == []
    assert problems(world) == []
    world.repo.set_ref(RESULTS, tip)
    (after,) = world.synced()
    assert {k: v for k, v in after.items() if k not in ("id", "rev")} == {
        k: v for k, v in before[0].items() if k not in ("id", "rev")
    }


def test_a_clone_replaced_by_another_in_the_same_place(world: World, tmp_path: Path) -> None:
    world.repo.commit(at(A, bundle()))
    world.synced()
    other = Repo(tmp_path / "other.git")
    other.commit(at(B, bundle()))
    world.repo.path.rename(tmp_path / "old.git")
    other.path.rename(world.repo.path)
    assert paths(world) == [B]


def test_a_retag_changes_only_the_overlay(world: World) -> None:
    world.repo.commit(at(A, bundle()) | at(B, bundle()))
    tags = "SELECT tags FROM runs ORDER BY timestamp"
    assert [run["tags"] for run in world.synced(tags)] == ["[]", "[]"]
    overlay = f"metadata/{A}/tags.json"
    world.repo.commit({overlay: json.dumps({"tags": ["slow", "baseline"]})})
    assert [run["tags"] for run in world.synced(tags)] == ['["baseline", "slow"]', "[]"]
    world.repo.commit({overlay: json.dumps({"tags": ["fast"]})})
    assert [run["tags"] for run in world.synced(tags)] == ['["fast"]', "[]"]
    world.repo.commit({"metadata": None})
    assert [run["tags"] for run in world.synced(tags)] == ["[]", "[]"]
    world.repo.commit({overlay: "{"})
    assert [run["tags"] for run in world.synced(tags)] == ["[]", "[]"]
    assert problems(world) == ["invalid JSON: EOF while parsing an object at line 1 column 1"]


def test_a_run_and_its_overlay_in_one_commit(world: World) -> None:
    world.repo.commit({"README.md": "-"})
    world.sync()
    world.repo.commit(at(A, bundle()) | {f"metadata/{A}/tags.json": '{"tags": ["new"]}'})
    assert [run["tags"] for run in world.synced()] == ['["new"]']


def test_runs_in_progress_are_shown_until_they_are_published(world: World) -> None:
    base = world.repo.commit(at(B, bundle()))
    name = A.rpartition("/")[2]
    stub = at(A, bundle(rows=[], planned=2, summary={}))
    world.repo.commit(stub, ref=f"{WIP}/{name}", parents=[base])
    status = "SELECT path, status, ref FROM runs ORDER BY timestamp"
    (first, _) = world.synced(status)
    assert first == {"path": A, "status": "running", "ref": f"{WIP}/{name}"}
    assert world.column("SELECT count(*) FROM places") == [2]
    world.repo.commit(without(A) | at(A, bundle()))
    (first, _) = world.synced(status)
    assert first == {"path": A, "status": "completed", "ref": RESULTS}
    assert world.column("SELECT count(*) FROM places") == [2]
    world.repo.commit(stub, ref=f"{WIP}/{name}", parents=[base])  # a stale head may even move
    assert [run["ref"] for run in world.synced(status)] == [RESULTS, RESULTS]
    world.repo.commit({A: None})  # published and deleted is no run in progress
    assert [run["path"] for run in world.synced(status)] == [B]
    world.repo.set_ref(RESULTS, base)  # a branch that never held it
    assert [run["status"] for run in world.synced(status)] == ["running", "completed"]


def test_a_published_run_hides_its_stale_ref_without_opening_it(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.repo.commit(at(B, bundle()), ref="refs/heads/other")
    tip = world.repo.tip("refs/heads/other")
    world.repo.set_ref(f"{WIP}/{NAME}", tip)
    tree = world.repo.git("rev-parse", f"{tip}^{{tree}}")
    (world.repo.path / "objects" / tree[:2] / tree[2:]).unlink()
    assert paths(world) == [A]
    assert problems(world) == []


def test_runs_in_progress_that_are_called_as_a_published_one_elsewhere_are_shown(world: World) -> None:
    base = world.repo.commit(at("runs/mine/smoke", bundle()))
    world.repo.commit(at("runs/theirs/smoke", bundle(summary={})), ref=f"{WIP}/smoke", parents=[base])
    assert paths(world) == ["runs/mine/smoke", "runs/theirs/smoke"]
    assert world.column("SELECT status FROM runs ORDER BY path") == ["completed", "running"]
    world.repo.commit(at("runs/theirs/smoke", bundle()))
    assert world.synced("SELECT DISTINCT status FROM places") == [{"status": "completed"}]


def test_a_published_run_that_cannot_be_read_hides_its_stale_ref(world: World) -> None:
    draft = f"{WIP}/{NAME}"
    world.repo.commit(at(A, bundle()))
    base = world.repo.tip()
    other = bundle(summary={}, experiment="elsewhere")
    world.repo.commit(at(f"runs/elsewhere/{NAME}", other), ref=draft, parents=[base])
    assert paths(world) == [A]
    world.repo.commit(at(A, {"index.jsonl": "{"}))
    assert paths(world) == [A]  # as it was read last
    world.rebuild()
    assert paths(world) == []


def test_runs_in_progress_can_be_left_out(world: World) -> None:
    world.repo.commit(at(B, bundle()))
    world.repo.commit(at(A, bundle(summary={})), ref=f"{WIP}/{NAME}")
    assert len(paths(world)) == 2
    world.sources[0] = GitSource("team", world.repo.path, wip=False)
    assert paths(world) == [B]


def test_which_refs_are_followed(world: World) -> None:
    for ref in ("heads/agentv/results/v1", "remotes/up/agentv/results/v2", "agentv/runs/v1", "heads/main", "tags/x"):
        world.repo.commit(at(f"runs/{ref.replace('/', '-')}/{NAME}", bundle(experiment=None)), ref=f"refs/{ref}")
    experiments = "SELECT experiment FROM runs ORDER BY experiment"
    assert [run["experiment"] for run in world.synced(experiments)] == [
        "agentv-runs-v1",
        "heads-agentv-results-v1",
        "remotes-up-agentv-results-v2",
    ]
    world.sources[0] = GitSource("team", world.repo.path, ["main", "refs/tags/*"])
    assert [run["experiment"] for run in world.synced(experiments)] == ["heads-main", "tags-x"]
    world.sources[0] = GitSource("team", world.repo.path, ["mainly", "refs/heads/agentv/*"])
    assert [run["experiment"] for run in world.synced(experiments)] == ["heads-agentv-results-v1"]
    assert problems(world) == ["no ref mainly holds a commit"]


def test_names_that_are_no_utf8_or_have_control_characters(world: World) -> None:
    world.repo.commit({"x": "-"})
    raw = world.repo
    blob = raw.pygit2.create_blob(bundle()["benchmark.json"].encode()).raw.hex()
    tree = raw.git_input("mktree", "-z", f"100644 blob {blob}\tbenchmark.json\0".encode())
    listing = b"".join(b"040000 tree %s\t%s\0" % (tree.encode(), name) for name in (b"a\xff", b"b\n\x1b[31m", b"c"))
    root = raw.git_input("mktree", "-z", listing)
    commit = git("-C", str(raw.path), "commit-tree", "-m", "x", root)
    raw.set_ref(RESULTS, commit)
    assert [run["path"] for run in world.synced("SELECT path FROM runs ORDER BY path")] == [
        "a\\xff",
        "b\n\x1b[31m",
        "c",
    ]


def test_tricks_with_paths_in_trees_reach_nothing(world: World) -> None:
    inner = world.repo.commit(at(A, bundle()))
    tree = world.repo.git("rev-parse", f"{inner}^{{tree}}")
    entries = b"".join(
        b"%s %s\0" % (mode, name) + bytes.fromhex(tree)
        for mode, name in ((b"40000", b".."), (b"40000", b".git"), (b"120000", b"link"), (b"40000", b"ok"))
    )
    root = world.repo.pygit2.odb.write(2, entries)
    world.repo.set_ref(RESULTS, git("-C", str(world.repo.path), "commit-tree", "-m", "x", str(root)))
    assert paths(world) == [f"ok/{A}"]


def test_a_missing_object_is_told_and_costs_its_own_run_only(world: World) -> None:
    tip = world.repo.commit(at(A, bundle()) | at(B, bundle("v3", [])))
    blob = world.repo.files(tip)[f"{A}/index.jsonl"].hex()
    place = world.repo.path / "objects" / blob[:2] / blob[2:]
    content = place.read_bytes()
    place.unlink()
    assert paths(world) == [B]
    (message,) = problems(world)
    assert message == f"object {blob} is missing from the repository"
    place.write_bytes(b"corrupt")
    assert paths(world) == [B]
    assert "cannot be read" in problems(world)[0]
    place.write_bytes(content)
    assert paths(world) == [A, B]
    assert problems(world) == []


def test_a_missing_tree_keeps_what_is_below(world: World) -> None:
    world.repo.commit(at(A, bundle()) | at(D, bundle()))
    assert len(paths(world)) == 2
    tip = world.repo.commit(at(B, bundle()))
    tree = world.repo.git("rev-parse", f"{tip}:runs/with_skills")
    place = world.repo.path / "objects" / tree[:2] / tree[2:]
    content = place.read_bytes()
    place.unlink()
    world.sync()
    assert world.column("SELECT path FROM runs ORDER BY path") == [D, A]
    assert world.column("SELECT path FROM problems WHERE NOT path LIKE '%history'") == ["runs/with_skills"]
    place.write_bytes(content)
    assert len(paths(world)) == 3
    assert problems(world) == []


@pytest.fixture
def partial(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone as AgentV makes it, which lacks every file, of the world's repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world.repo.commit(at(A, bundle()) | at(B, bundle("v3", [])))
    world.repo.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "partial.git"
    git("clone", "--quiet", "--mirror", "--filter=blob:none", f"file://{world.repo.path}", str(clone))
    world.sources[0] = GitSource("team", clone)
    return clone


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): ((s := p.lstat()).st_size, s.st_ctime_ns) for p in folder.rglob("*")}


def test_a_partial_clone_is_read_and_left_as_it_is(world: World, partial: Path) -> None:
    before = everything(partial)
    assert paths(world) == [A, B]
    repeats = [{"sample_index": at_, "sample_path": f"sample-{at_ + 1}", "score": 1} for at_ in (0, 1)]
    measured = {f"t1--0a/sample-{at_}/metrics.json": '{"tokens": {"input": 7}}' for at_ in (1, 2)}
    world.repo.commit(at(C, bundle("v9", [row("t1", samples=repeats, result_dir="t1--0a")]) | measured))
    assert paths(world) == [A, B]
    assert everything(partial) == before
    git("-C", str(partial), "fetch", "--quiet")
    before = everything(partial)
    assert sorted(paths(world)) == [C, A, B]
    assert world.select("SELECT input_tokens FROM runs WHERE path = ?", C) == [{"input_tokens": 14}]
    assert everything(partial) == before
    assert problems(world) == []
    assert world.column("SELECT sha IS NOT NULL FROM runs") == [1, 1, 1]


def test_a_partial_clone_whose_remote_is_away_fails_and_keeps_its_rows(world: World, partial: Path) -> None:
    world.sync()
    world.repo.commit(at(C, bundle("v9")))
    git("-C", str(partial), "fetch", "--quiet")
    git("-C", str(partial), "config", "remote.origin.url", "file:///nowhere")
    report = world.sync()
    assert "is a partial clone, and the files it lacks cannot be fetched" in (report.sources[0].error or "")
    assert world.column("SELECT path FROM runs ORDER BY path") == [A, B]
    with pytest.raises(SourceError, match="cannot be fetched"):
        check(world.db, world.sources, world.options)
    git("-C", str(partial), "config", "remote.origin.url", f"file://{world.repo.path}")
    assert sorted(paths(world)) == [C, A, B]


def test_sources_of_one_partial_clone_leave_each_other_alone(world: World, partial: Path) -> None:
    world.repo.commit(at(C, bundle("v9")), ref="refs/heads/main")
    git("-C", str(partial), "fetch", "--quiet")
    world.sources = [GitSource("team", partial), GitSource("main", partial, ["main"])]
    for _ in range(2):
        assert sorted(paths(world)) == [C, A, B]
        assert problems(world) == []


def test_a_partial_clone_with_a_relative_remote_and_no_filter_of_its_own(world: World, partial: Path) -> None:
    clone = partial.with_name("work")
    options = ["--quiet", "--no-checkout", "--filter=blob:none", "-b", "agentv/results/v1"]
    git("clone", *options, f"file://{world.repo.path}", str(clone))
    git("-C", str(clone), "config", "remote.origin.url", os.path.relpath(world.repo.path, clone))
    git("-C", str(clone), "config", "--unset", "remote.origin.partialclonefilter")
    before = everything(clone)
    world.sources[0] = GitSource("team", clone)
    assert paths(world) == [A, B]
    assert everything(clone) == before


def test_a_clone_that_lacks_folders_says_what_to_do(world: World, partial: Path) -> None:
    clone = partial.with_name("treeless.git")
    git("clone", "--quiet", "--mirror", "--filter=tree:0", f"file://{world.repo.path}", str(clone))
    world.sources[0] = GitSource("team", clone)
    assert "--filter=tree:0" in (world.sync().sources[0].error or "")


def test_head_is_the_branch_that_is_checked_out(world: World) -> None:
    world.repo.commit(at(A, bundle()), ref="refs/heads/main")
    world.repo.commit(at(B, bundle()), ref="refs/heads/other")
    world.sources[0] = GitSource("team", world.repo.path, ["HEAD"])
    world.repo.git("symbolic-ref", "HEAD", "refs/heads/main")
    assert paths(world) == [A]
    assert world.column("SELECT ref FROM runs") == ["refs/heads/main"]
    world.repo.git("symbolic-ref", "HEAD", "refs/heads/other")
    assert paths(world) == [B]
    world.repo.git("update-ref", "--no-deref", "HEAD", world.repo.tip("refs/heads/main"))
    (world.repo.path / "HEAD").write_text(world.repo.tip("refs/heads/main") + "\n")
    assert paths(world) == [A]
    assert world.column("SELECT ref FROM runs") == ["HEAD"]
    assert problems(world) == []


def note(world: World) -> str | None:
    world.synced()
    found: list[str | None] = world.column("SELECT note FROM sources WHERE name = 'team'")
    return found[0]


def test_a_repository_without_runs_says_where_there_are_some(world: World, tmp_path: Path) -> None:
    assert note(world) == "no runs in agentv/results/*, refs/agentv/runs/*, nor in any other ref"
    world.repo.commit(at(f"deep/er/{A}", bundle()), ref="refs/heads/main")
    world.repo.commit({"README.md": "code"}, ref="refs/heads/code")
    assert note(world) == ("no runs in agentv/results/*, refs/agentv/runs/*; there are some in main: name it in refs")
    world.repo.commit(at(B, bundle()))
    assert note(world) is None
    world.repo.delete_ref("refs/heads/main")
    world.repo.git("symbolic-ref", "HEAD", "refs/heads/code")
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--single-branch", f"file://{world.repo.path}", str(clone))
    world.sources[0] = GitSource("team", clone)
    told = note(world) or ""
    assert "a plain clone may lack them: git fetch origin" in told
    git("-C", str(clone), *told[told.index("fetch") :].replace("'", "").split())
    assert paths(world) == [B]


def test_an_unborn_branch_is_one_clear_line(world: World) -> None:
    world.write(at(A, bundle()))
    world.sources[0] = GitSource("team", world.repo.path, ["agentv/results/v1"])
    assert paths(world) == [A]
    assert problems(world) == ["the repository has no commits yet"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("--object-format=sha256", "is a SHA-256 repository"),
        ("reftable", "keeps its refs as a reftable"),
        ("nothing", "is not a git repository"),
        ("absent", "does not exist"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_line(world: World, tmp_path: Path, setting: str, says: str) -> None:
    place = tmp_path / "strange"
    if setting == "nothing":
        place.mkdir()
    elif setting == "reftable":
        git("init", "--quiet", str(place))
        git("-C", str(place), "config", "core.repositoryformatversion", "1")
        git("-C", str(place), "config", "extensions.refstorage", "reftable")
    elif setting != "absent":
        git("init", "--quiet", setting, str(place))
    world.write(at(A, bundle()))
    world.sources[0] = GitSource("team", place)
    report = world.sync()
    assert report.sources[0].error is not None
    assert says in report.sources[0].error
    assert len(world.select("SELECT 1 FROM runs")) == 1


def test_nothing_in_the_repository_is_changed(world: World) -> None:
    world.repo.commit(at(A, bundle()))

    def state() -> list[tuple[str, int]]:
        found = []
        for folder, _, names in os.walk(world.repo.path):
            found += [(f"{folder}/{name}", os.stat(f"{folder}/{name}").st_mtime_ns) for name in names]
        return sorted(found)

    before = state()
    world.synced()
    assert state() == before


def test_a_work_tree_is_read_like_a_bare_repository(world: World, tmp_path: Path) -> None:
    world.repo.commit(at(A, bundle()))
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--branch", "agentv/results/v1", str(world.repo.path), str(clone))
    linked = tmp_path / "linked"
    git("-C", str(clone), "worktree", "add", "--quiet", "--detach", str(linked))
    for place in (clone, linked):
        world.sources[0] = GitSource("team", place)
        assert paths(world) == [A]
        assert world.column("SELECT ref FROM places ORDER BY ref") == [
            RESULTS,
            "refs/remotes/origin/agentv/results/v1",
        ]


def test_a_tip_that_cannot_be_read_keeps_its_runs(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    assert paths(world) == [A]
    tip = world.repo.commit(at(B, bundle()))
    place = world.repo.path / "objects" / tip[:2] / tip[2:]
    content = place.read_bytes()
    place.unlink()
    report = world.sync().sources[0]
    assert (report.counts["removed"], world.column("SELECT path FROM runs")) == (0, [A])
    assert problems(world) == ["the commit it names cannot be read"]
    place.write_bytes(content)
    assert paths(world) == [A, B]
    assert problems(world) == []


@pytest.mark.parametrize("which", ["new", "old"])
def test_a_tree_that_is_missing_beside_new_runs_stops_nothing(world: World, which: str) -> None:
    first = world.repo.commit(at(A, bundle()) | at(D, bundle()))
    world.synced()
    new = f"runs/another/{NAME}"
    tip = world.repo.commit(at(new, bundle(experiment=None)) | at(B, bundle()))
    tree = world.repo.git("rev-parse", f"{tip if which == 'new' else first}:runs/with_skills")
    (world.repo.path / "objects" / tree[:2] / tree[2:]).unlink()
    world.sync()
    found = set(world.column("SELECT path FROM runs"))
    assert found == ({A, D, new} if which == "new" else {A, B, D, new})


def test_a_damaged_ref_of_a_run_in_progress_stops_nothing(world: World) -> None:
    base = world.repo.commit(at(B, bundle()))
    ref = f"{WIP}/{NAME}"
    tip = world.repo.commit(at(A, bundle(summary={})), ref=ref, parents=[base])
    tree = world.repo.git("rev-parse", f"{tip}:runs")
    (world.repo.path / "objects" / tree[:2] / tree[2:]).unlink()
    world.write(at(C, bundle("v9")))
    assert paths(world) == [B, C]
    assert len(problems(world)) == 1


def test_two_runs_in_progress_of_one_name_keep_their_commits(world: World) -> None:
    base = world.repo.commit(at(B, bundle()))
    one, other = f"runs/one/{NAME}", f"runs/other/{NAME}"
    for rows in ([], [row()]):
        files = at(one, bundle(rows=rows, summary={}, experiment=None)) | at(other, bundle(summary={}, experiment=None))
        tip = world.repo.commit(files, ref=f"{WIP}/{NAME}", parents=[base])
        facts = world.synced("SELECT path, sha FROM runs WHERE path <> 'x' ORDER BY path")
        assert {run["path"]: run["sha"] for run in facts if run["path"] != B} == {one: tip, other: tip}


@pytest.mark.parametrize("what", ["commit", "tree", "blob"])
@pytest.mark.parametrize("kept", [0, 10, 20])
def test_a_loose_object_that_ends_early_is_told_and_hangs_nothing(world: World, what: str, kept: int) -> None:
    world.repo.commit(at(B, bundle()))
    world.synced()
    tip = world.repo.commit(at(A, bundle(rows=[row("t9")])))
    name = {"commit": tip, "tree": f"{tip}^{{tree}}", "blob": f"{tip}:{A}/index.jsonl"}[what]
    oid = world.repo.git("rev-parse", name)
    loose = world.repo.path / "objects" / oid[:2] / oid[2:]
    whole = loose.read_bytes()
    loose.chmod(0o644)
    loose.write_bytes(whole[:kept])
    world.repo.reopen()
    assert paths(world)[-1:] == [B]
    assert problems(world)
    loose.write_bytes(whole)
    world.repo.reopen()
    assert paths(world) == sorted([A, B])
    assert problems(world) == []


def test_objects_borrowed_from_another_repository(world: World, tmp_path: Path) -> None:
    world.repo.commit(at(A, bundle()))
    git("clone", "--quiet", "--bare", "--shared", str(world.repo.path), str(tmp_path / "clone"))
    world.sources[0] = GitSource("team", tmp_path / "clone")
    assert paths(world) == [A]
    alternates = tmp_path / "clone/objects/info/alternates"
    told = alternates.read_text()
    alternates.unlink()
    assert paths(world) == [A]
    assert len(problems(world)) == 1
    alternates.write_text(told)
    assert paths(world) == [A]
    assert problems(world) == []


@pytest.mark.parametrize("content", ["", "x", "0" * 40])
def test_a_torn_ref_keeps_its_runs(world: World, content: str) -> None:
    tip = world.repo.commit(at(A, bundle()))
    world.synced()
    (world.repo.path / RESULTS).write_text(content)
    assert paths(world) == [A]
    assert len(problems(world)) == 1
    (world.repo.path / RESULTS).write_text(tip)
    assert paths(world) == [A]
    assert problems(world) == []


@pytest.mark.parametrize(
    "remote", ['[remote "o"]\nfetch = +refs/heads/*:refs/remotes/o\nurl = x\n', '[remote ""]\nurl = x\n']
)
def test_a_wrong_remote_does_not_matter(world: World, remote: str) -> None:
    world.repo.commit(at(A, bundle()))
    with (world.repo.path / "config").open("a") as config:
        config.write(remote)
    assert paths(world) == [A]


def test_many_stars_in_a_pattern_cost_nothing(world: World) -> None:
    world.repo.commit(at(A, bundle()), ref=f"refs/heads/{'a' * 150}")
    world.sources[0] = GitSource("team", world.repo.path, ["a*" * 40 + "b", "*a*a"])
    assert paths(world) == [A]


def test_a_folder_too_deep_is_told_by_every_pass(world: World) -> None:
    world.repo.commit(at(A, bundle()) | {"/".join(["d"] * 40): "-"})
    for _ in range(2):
        assert paths(world) == [A]
        assert len(problems(world)) == 1


def test_stray_files_among_runs_make_no_run(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.repo.commit({"runs/index.jsonl": "", "runs/with_skills/index.jsonl": "garbage", "metadata/index.jsonl": "{}"})
    assert paths(world) == [A]
    assert problems(world) == []
    world.repo.commit({f"metadata/{A}/tags.json": '{"tags": ["x"]}'})
    assert world.synced()[0]["tags"] == '["x"]'


def test_an_experiment_called_like_the_place_of_overlays(world: World) -> None:
    inside = f"runs/a/metadata/runs/b/{NAME}"
    world.repo.commit(at(inside, bundle(experiment=None)))
    for tag in ("x", "y"):
        world.repo.commit({f"metadata/{inside}/tags.json": f'{{"tags": ["{tag}"]}}'})
        assert world.synced()[0]["tags"] == f'["{tag}"]'


def test_a_broken_list_of_refs_fails_its_source_alone(world: World) -> None:
    world.repo.commit(at(A, bundle()))
    world.write(at(B, bundle()))
    world.synced()
    (world.repo.path / "packed-refs").write_bytes(b"# pack-refs with: peeled\ngarbage \xff\n")
    world.write(at(C, bundle("v9")))
    report = world.sync()
    assert report.sources[0].error is not None
    assert sorted(world.column("SELECT path FROM runs")) == sorted([A, B, C])


def test_a_partial_clone_is_found_before_its_files_are_fetched(world: World, partial: Path) -> None:
    world.sources = find_sources(partial)
    assert [(source.kind, source.place) for source in world.sources] == [("git", str(partial))]
    assert paths(world) == [A, B]
