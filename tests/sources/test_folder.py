import os
import shutil
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from indexer.errors import SourceError
from indexer.passes.check import check
from indexer.passes.sync import look
from indexer.sources.folder import FolderSource
from indexer.store import file
from tests.bundles import NAME, at, bundle, row
from tests.jobs import job, trial
from tests.worlds import World

A = f"runs/with_skills/{NAME}"
OTHER = "2026-01-09T09-00-00-000Z"


def paths(world: World) -> list[str]:
    return [run["path"] for run in world.synced("SELECT path FROM runs ORDER BY path")]


def test_a_project_is_read_in_its_parts_and_a_part_as_itself(world: World) -> None:
    world.write(at(f".agentv/results/{A}", bundle()) | at(f"elsewhere/{OTHER}", bundle("v9")))
    assert paths(world) == [f".agentv/results/{A}"]
    world.sources[1] = FolderSource("local", world.local / ".agentv/results")
    assert paths(world) == [A]
    world.sources[1] = FolderSource("local", world.local / "elsewhere")
    assert paths(world) == [OTHER]


def test_runs_of_all_layouts_side_by_side(world: World) -> None:
    names = [f"2026-01-0{day}T09-00-00-000Z" for day in range(1, 6)]
    places = {
        f"runs/a/{names[0]}": bundle(),
        f"a/b/{names[1]}": bundle("v5"),
        f"a/{names[2]}": bundle("v6"),
        names[3]: bundle("v7", name=names[3]),
        names[4]: bundle("v9", name=names[4]),
    }
    for place, files in places.items():
        world.write(at(place, files))
    world.write({".indexes/runs.jsonl": "{}", f".cache/{OTHER}/index.jsonl": "{}", "notes.md": "-"})
    assert paths(world) == sorted(places)


def test_a_deleted_root_means_no_runs_and_a_missing_place_is_an_error(world: World) -> None:
    world.write(at(f".agentv/results/{A}", bundle()))
    assert len(paths(world)) == 1
    shutil.rmtree(world.local / ".agentv")
    (world.local / ".git").mkdir()
    assert paths(world) == []
    with pytest.raises(SourceError, match="does not exist"):
        FolderSource("x", world.root / "absent").open()
    with pytest.raises(SourceError, match="is not a folder"):
        FolderSource("x", world.db).open()


def test_links_are_followed_to_folders_and_files_of_the_user(world: World) -> None:
    outside = world.root / "outside"
    for name, text in at(A, bundle()).items():
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text(text)
    os.symlink(outside / "runs", world.local / "runs")
    world.write({f"with_skills/{OTHER}/x": "-"})
    os.symlink(outside / A / "benchmark.json", world.local / f"with_skills/{OTHER}/benchmark.json")
    assert paths(world) == [A, f"with_skills/{OTHER}"]
    (outside / A / "index.jsonl").write_text("")
    assert [run["trial_count"] for run in world.synced() if run["path"] == A] == [0]
    os.symlink(world.local / "runs/with_skills", world.local / "latest")  # walked anyway
    assert paths(world) == [A, f"with_skills/{OTHER}"]
    assert world.select("SELECT * FROM problems") == []
    (world.local / "runs").unlink()
    assert paths(world) == [f"with_skills/{OTHER}"]
    assert world.column("SELECT path FROM problems") == ["latest"]


def test_links_into_loops_and_to_others_are_named(world: World) -> None:
    world.write(at(f"with_skills/{OTHER}", {"benchmark.json": bundle()["benchmark.json"]}))
    os.symlink(world.local, world.local / "circle")
    os.symlink("/dev/zero", world.local / "zero")
    os.symlink("nowhere", world.local / "gone")
    (world.root / "theirs").mkdir()
    os.chown(world.root / "theirs", 12345, 12345)
    os.symlink(world.root / "theirs", world.local / "theirs")
    os.symlink("/dev/null", world.local / f"with_skills/{OTHER}/index.jsonl")
    assert paths(world) == []
    told = {
        row["path"]: row["message"] for row in world.select("SELECT path, message FROM problems WHERE kind = 'link'")
    }
    assert told == {
        "circle": "a link to the folders that it lies in is not followed",
        "zero": "a link to what is neither a folder nor a regular file is not followed",
        "gone": "a link that leads nowhere: no such file or directory",
        "theirs": "a link to what belongs to another user is not followed",
        f"with_skills/{OTHER}/index.jsonl": "a link to what is neither a folder nor a regular file is not followed",
    }
    for name in ("circle", "zero", "gone", "theirs", f"with_skills/{OTHER}/index.jsonl"):
        (world.local / name).unlink()
    assert paths(world) == [f"with_skills/{OTHER}"]
    assert world.select("SELECT * FROM problems") == []


def test_a_linked_part_of_a_project_is_read(world: World) -> None:
    for name in ("archive", "away"):
        (world.local / name).mkdir()
    os.symlink("archive", world.local / "jobs")
    os.symlink("jobs", world.local / "results")
    for name, text in at(f"archive/{NAME}", bundle("v9")).items():
        (world.local / name).parent.mkdir(parents=True, exist_ok=True)
        (world.local / name).write_text(text)
    assert paths(world) == [f"jobs/{NAME}"]
    (world.local / "jobs").unlink()
    os.symlink("missing", world.local / "jobs")
    world.sync()
    assert world.column("SELECT path FROM runs") == [f"jobs/{NAME}"]  # as it was read last
    assert world.column("SELECT path FROM problems ORDER BY path") == ["jobs", "results"]


def test_a_link_that_leads_nowhere_keeps_what_was_read_behind_it(world: World) -> None:
    world.write(at(f".agentv/results/{OTHER}", bundle("v9")) | at("jobs/j", job()))
    (world.local / ".agentv").rename(world.root / "agentv")
    os.symlink(world.root / "agentv", world.local / ".agentv")
    trial_folder = world.local / "jobs/j/half__bbbbbbb"
    trial_folder.rename(world.root / "half")
    os.symlink(world.root / "half", trial_folder)
    assert paths(world) == [f".agentv/results/{OTHER}", "jobs/j"]
    (world.root / "agentv").rename(world.root / "away")
    (world.root / "half").rename(world.root / "half-away")
    world.sync()
    assert world.column("SELECT path FROM runs ORDER BY path") == [f".agentv/results/{OTHER}", "jobs/j"]
    assert world.column("SELECT trial_count FROM runs WHERE path = 'jobs/j'") == [2]
    assert world.column("SELECT path FROM problems ORDER BY path") == [".agentv/results", "jobs/j/half__bbbbbbb"]
    (world.root / "away").rename(world.root / "agentv")
    (world.root / "half-away").rename(world.root / "half")
    assert paths(world) == [f".agentv/results/{OTHER}", "jobs/j"]
    assert world.column("SELECT path FROM problems") == []


def test_links_to_what_no_walk_comes_to_are_followed(world: World) -> None:
    world.write(
        {".git/HEAD": ""} | at("jobs/.store/j", job()) | at("jobs/k", job(id="23b29240-0000-4000-8000-000000000002"))
    )
    os.symlink(".store/j", world.local / "jobs/j")
    os.symlink("k", world.local / "jobs/latest")
    assert paths(world) == ["jobs/j", "jobs/k"]


def test_folders_behind_two_links_are_read_and_behind_three_are_named(world: World) -> None:
    world.write({".git/HEAD": "", "jobs/x": ""})
    for number in range(3):
        (world.root / f"ext{number}").mkdir()
    os.symlink(world.root / "ext0", world.local / "jobs/a")
    os.symlink(world.root / "ext1", world.root / "ext0/b")
    os.symlink(world.root / "ext2", world.root / "ext1/c")
    for place, number in (("ext1/j", 1), ("ext2/k", 2)):
        for name, text in at(place, job(id=f"23b29240-0000-4000-8000-00000000000{number}")).items():
            (world.root / name).parent.mkdir(parents=True, exist_ok=True)
            (world.root / name).write_text(text)
    assert paths(world) == ["jobs/a/b/j"]
    assert world.column("SELECT path FROM problems") == ["jobs/a/b/c"]


def test_a_look_behind_a_link_that_is_passed_over_finds_nothing(world: World) -> None:
    world.write({".git/HEAD": ""} | at("jobs/d/k", job()))
    os.symlink("d", world.local / "jobs/latest")
    assert paths(world) == ["jobs/d/k"]
    source = world.sources[1]
    assert isinstance(source, FolderSource)
    assert source.paths_at(str(world.local / "jobs/d/k")) == ["jobs/d/k"]
    with closing(file.connect(world.db, write=True)) as database:
        look(database, world.sources, world.options, {"local": ["jobs/latest", "jobs/latest/k"]})
    assert world.column("SELECT path FROM places") == ["jobs/d/k"]


def test_one_restored_trial_hides_no_jobs(world: World) -> None:
    world.write(at("jobs/nested/20260105-090000", job()))
    assert paths(world) == ["jobs/nested/20260105-090000"]
    world.write({f"jobs/hello__abcdefg/{name}.json": text for name, text in (("result", trial()), ("config", "{}"))})
    assert paths(world) == ["jobs/nested/20260105-090000"]
    assert world.column("SELECT kind FROM problems") == ["no-job"]


def test_a_torn_trial_of_a_job_without_its_own_files_keeps_its_row(world: World) -> None:
    named = {"fizz__aaaaaaa": trial(id="t-1"), "half__bbbbbbb": trial("half", id="t-2")}
    world.write({f"jobs/j/{name}/result.json": text for name, text in named.items()} | {".git/HEAD": ""})
    before = world.synced()
    (world.local / "jobs/j/fizz__aaaaaaa/result.json").write_text("{")
    world.sync()
    assert world.select("SELECT key, trial_count, passed FROM runs") == [
        {name: before[0][name] for name in ("key", "trial_count", "passed")}
    ]


def test_problems_of_optional_files_stay_as_long_as_the_files(world: World) -> None:
    world.write(at(A, bundle()) | {f"metadata/{A}/tags.json": "{"})
    for _ in range(2):
        assert paths(world) == [A]
        assert world.column("SELECT path FROM problems") == [f"{A}/tags.json"]
    (world.local / f"metadata/{A}/tags.json").write_text('{"tags": ["x"]}')
    assert paths(world) == [A]
    assert world.column("SELECT path FROM problems") == []


def test_a_checkout_of_a_results_repository_is_read_as_folders(world: World) -> None:
    for layout, path in (("v3", A), ("v9", OTHER), ("v9", "smoke")):
        place = world.root / f"checkout-{path.count('/')}-{layout}"
        files = at(path, bundle(layout)) | {".git/HEAD": "ref: refs/heads/main", "README.md": ""}
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        world.sources[1] = FolderSource("local", place)
        assert path in paths(world)


def test_a_folder_without_runs_says_where_it_looked(world: World) -> None:
    def note() -> str:
        world.sync()
        (told,) = world.column("SELECT note FROM sources WHERE name = 'local'")
        return str(told)

    (world.local / ".git").mkdir(parents=True)
    assert note().startswith("no runs: looked for jobs/ and logs/ and results/ and .agentv/results/ in ")
    assert note().endswith("none is there")
    (world.local / "jobs/empty").mkdir(parents=True)
    assert note().endswith("none of 2 folders holds a run of a known tool")


def test_what_is_no_file_is_not_opened(world: World) -> None:
    world.write(at(OTHER, {"index.jsonl": bundle()["index.jsonl"]}))
    os.mkfifo(world.local / OTHER / "benchmark.json")
    assert paths(world) == []
    assert world.column("SELECT kind FROM problems") == ["not-a-file"]
    (world.local / OTHER / "benchmark.json").unlink()
    os.mknod(world.local / OTHER / "benchmark.json", stat.S_IFSOCK | 0o600)
    assert paths(world) == []
    assert world.column("SELECT kind FROM problems") == ["not-a-file"]


def test_a_huge_file_is_not_read(world: World) -> None:
    world.write(at(A, bundle()))
    with (world.local / A / "index.jsonl").open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert paths(world) == []
    assert world.column("SELECT kind FROM problems") == ["too-large"]


def look_at(world: World, *paths: str) -> None:
    with closing(file.connect(world.db, write=True)) as database:
        look(database, world.sources, world.options, {"local": paths})


def test_a_folder_in_the_place_of_another_brings_its_own_runs_alone(world: World) -> None:
    world.write(at("jobs/g/a", job()) | {".git/HEAD": ""})
    world.write(at("other/b", job(id="23b29240-0000-4000-8000-00000000000b")))
    world.sync()
    (world.local / "jobs/g").rename(world.local / "old")
    (world.local / "other").rename(world.local / "jobs/g")
    look_at(world, "jobs/g")
    assert world.column("SELECT path FROM runs") == ["jobs/g/b"]
    assert check(world.db, world.sources, world.options) == []


def test_a_run_in_the_place_of_a_folder_of_runs(world: World) -> None:
    world.write(at("jobs/n/20260105-090000", job()) | {".git/HEAD": ""})
    world.sync()
    shutil.rmtree(world.local / "jobs/n")
    world.write(at("jobs/n", job(id="23b29240-0000-4000-8000-00000000000b")))
    look_at(world, "jobs/n")
    assert world.column("SELECT path FROM runs") == ["jobs/n"]
    assert check(world.db, world.sources, world.options) == []


def test_a_folder_in_the_place_of_a_link_is_where_it_is(world: World) -> None:
    world.write(at("elsewhere/a", job()) | {".git/HEAD": "", "jobs/x": ""})
    (world.local / "jobs/g").symlink_to(world.local / "elsewhere")
    world.sync()
    source = world.sources[1]
    assert isinstance(source, FolderSource)
    assert source.real_path("jobs/g") == str(world.local / "elsewhere")
    (world.local / "jobs/g").unlink()
    (world.local / "jobs/g").mkdir()
    look_at(world, "jobs/g")
    assert source.real_path("jobs/g") == str(world.local / "jobs/g")
    assert world.column("SELECT path FROM runs") == []


def test_names_that_are_no_utf8(world: World) -> None:
    world.write(at(A, bundle()))
    strange = os.fsencode(world.local / "runs") + b"/caf\xe9\n"
    os.rename(world.local / "runs/with_skills", strange)
    assert paths(world) == [f"runs/caf\\xe9\n/{NAME}"]
    found = world.sources[1].folder_at(None, f"runs/caf\\xe9\n/{NAME}")
    assert found is not None
    assert found.read("benchmark.json", 10_000) == bundle()["benchmark.json"].encode()


def test_same_size_and_mtime_with_other_content_is_seen(world: World) -> None:
    world.write(at(A, bundle(rows=[row("t1", 1.0)])))
    assert world.synced()[0]["passed"] == 1
    rows = world.local / A / "index.jsonl"
    status = rows.stat()
    rows.write_text(rows.read_text().replace("1.0", "0.0").replace('"ok"', '"no"'))
    os.utime(rows, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert rows.stat().st_size == status.st_size
    assert world.synced()[0]["passed"] == 0


def test_a_file_that_changed_unseen_while_it_was_read_is_read_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(at(A, bundle(rows=[row("t1", 1.0)])))
    rows = world.local / A / "index.jsonl"
    tomorrow = time.time_ns() + 86_400 * 10**9
    os.utime(rows, ns=(tomorrow, tomorrow))  # as good as just written, however slow the machine is
    plain = FolderSource.changes

    def changes(self, indexed, paths=None):  # type: ignore[no-untyped-def]
        if paths is not None:
            rows.write_text(rows.read_text().replace("1.0", "0.0").replace('"ok"', '"no"'))
            os.utime(rows, ns=(tomorrow, tomorrow))
        return plain(self, indexed, paths)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "changes", changes)  # with paths 20 ms after a fresh file was read
        world.sync()
    assert world.column("SELECT passed FROM runs") == [0]
    # it changed again: the next pass looks again
    assert world.column("SELECT mtime_ns < 0 FROM _files WHERE path = 'index.jsonl'") == [1]
    assert world.synced()[0]["passed"] == 0


def test_an_overlay_on_disk_counts_too(world: World) -> None:
    world.write(at(A, bundle()))
    assert world.synced()[0]["tags"] == "[]"
    world.write({f"metadata/{A}/tags.json": '{"tags": ["slow"]}'})
    assert world.synced()[0]["tags"] == '["slow"]'
    world.write({f"metadata/{A}/tags.json": '{"tags": ["fast"]}'})
    assert world.synced()[0]["tags"] == '["fast"]'
    shutil.rmtree(world.local / "metadata")
    assert world.synced()[0]["tags"] == "[]"


def test_a_folder_without_permission_keeps_its_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write(at(A, bundle()) | at(f"baseline/{OTHER}", bundle("v6")))
    assert len(paths(world)) == 2
    plain = os.scandir

    def scandir(path: str):  # type: ignore[no-untyped-def]  # root may read what permissions forbid
        if path.endswith("/with_skills"):
            raise PermissionError(13, "Permission denied")
        return plain(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        world.write(at(f"baseline/{OTHER}", bundle("v6", [row()])))
        world.sync()
        assert world.select("SELECT path, kind, message FROM problems") == [
            {"path": "runs/with_skills", "kind": "denied", "message": "permission denied"}
        ]
    assert sorted(paths(world)) == [f"baseline/{OTHER}", A]
    assert world.column("SELECT count(*) FROM problems") == [0]


def test_a_path_too_long_for_the_system_is_told(world: World) -> None:
    world.write(at(A, bundle()))
    name, here = "x" * 250, os.open(world.local / "runs", os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert paths(world) == [A]
    assert world.column("SELECT message FROM problems") == ["file name too long"]


def test_a_deep_tree_ends(world: World) -> None:
    deep = Path(world.local, *["d"] * 40)
    deep.mkdir(parents=True)
    assert paths(world) == []
    assert world.column("SELECT kind FROM problems") == ["too-deep"]
