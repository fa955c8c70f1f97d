import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from indexer.errors import SourceError
from indexer.sources.folder import FolderSource
from tests.bundles import NAME, at, bundle, row
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
    with pytest.raises(SourceError, match="is no folder"):
        FolderSource("x", world.db).open()


def test_links_are_not_followed(world: World) -> None:
    outside = world.root / "outside"
    for name, text in at(A, bundle()).items():
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text(text)
    os.symlink(outside / "runs", world.local / "runs")
    os.symlink(world.local, world.local / "circle")
    world.write({f"with_skills/{OTHER}/x": "-"})
    os.symlink(outside / A / "benchmark.json", world.local / f"with_skills/{OTHER}/benchmark.json")
    assert paths(world) == []


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


def test_names_that_are_no_utf8(world: World) -> None:
    world.write(at(A, bundle()))
    strange = os.fsencode(world.local / "runs") + b"/caf\xe9\n"
    os.rename(world.local / "runs/with_skills", strange)
    assert paths(world) == [f"runs/caf\\xe9\n/{NAME}"]
    found = world.sources[1].find(None, f"runs/caf\\xe9\n/{NAME}")
    assert found is not None
    assert found.folder.read("benchmark.json", 10_000) == bundle()["benchmark.json"].encode()


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
    plain = FolderSource.find

    def find(self, ref, path):  # type: ignore[no-untyped-def]
        rows.write_text(rows.read_text().replace("1.0", "0.0").replace('"ok"', '"no"'))
        os.utime(rows, ns=(tomorrow, tomorrow))
        return plain(self, ref, path)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "find", find)  # called 20 ms after a fresh file was read
        world.sync()
    assert world.column("SELECT passed FROM runs") == [0]
    # it changed again: the next pass looks again
    assert world.column("SELECT size FROM _files WHERE path = 'index.jsonl'") == [-1]
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
