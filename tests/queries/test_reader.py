from pathlib import Path
from typing import Any

import pytest

from indexer import Index, open_index
from indexer.errors import IndexFileError, QueryError, StaleTokenError, UnknownRunError
from indexer.store import file, rows
from tests.bundles import at, bundle, row, without
from tests.worlds import World

DAYS = [f"2026-01-0{day}T09-00-00-000Z" for day in range(1, 5)]


@pytest.fixture
def index(world: World) -> Index:
    world.repo.commit(at(f"runs/a/{DAYS[0]}", bundle(experiment=None, tags={"tags": ["baseline"]})))
    world.repo.commit(at(f"runs/b/{DAYS[1]}", bundle(experiment=None)))
    world.repo.commit(at(f"runs/a/{DAYS[2]}", bundle(experiment=None, tags={"tags": ["baseline"]})))
    world.repo.commit(at(f"runs/b/{DAYS[2]}", bundle(experiment=None)))
    world.sync()
    return open_index(world.db)


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        (f"a::{DAYS[0]}", f"a::{DAYS[0]}"),
        (f"agentv:a::{DAYS[0]}", f"a::{DAYS[0]}"),
        (f"a/a::{DAYS[0]}", f"a::{DAYS[0]}"),
        (f"a/{DAYS[0]}", f"a::{DAYS[0]}"),
        ("a/2026-01-01", f"a::{DAYS[0]}"),
        ("a::2026-01-03", f"a::{DAYS[2]}"),
        ("agentv:b::2026-01-02", f"b::{DAYS[1]}"),
        ("latest", f"b::{DAYS[2]}"),
        ("latest~1", f"a::{DAYS[2]}"),
        ("latest~3", f"a::{DAYS[0]}"),
        ("latest:a", f"a::{DAYS[2]}"),
        ("latest:a~1", f"a::{DAYS[0]}"),
        ("tag:baseline", f"a::{DAYS[2]}"),
        ("tag:baseline~1", f"a::{DAYS[0]}"),
        (f"a/{DAYS[2]}~0", f"a::{DAYS[2]}"),
        (f"a/{DAYS[2]}~2", f"a::{DAYS[0]}"),
    ],
)
def test_what_people_call_a_run(index: Index, name: str, run_id: str) -> None:
    assert index.run(name)["run_id"] == run_id


@pytest.mark.parametrize("name", ["nope", "", "latest:nope", "tag:nope", "nope~1", "%", "a/nope", "~1", "latest~", "'"])
def test_unknown_names(index: Index, name: str) -> None:
    with pytest.raises(UnknownRunError, match=r"no run( that ended)? is called"):
        index.run(name)


def test_a_list_that_is_too_short(index: Index) -> None:
    with pytest.raises(UnknownRunError, match="'latest:a' has fewer than 2 runs before its newest"):
        index.run("latest:a~2")
    with pytest.raises(UnknownRunError, match="'latest' has fewer than 99 runs before its newest"):
        index.run("latest~99")


def test_an_ambiguous_name_lists_the_candidates(index: Index) -> None:
    with pytest.raises(UnknownRunError, match=f"'a::' is ambiguous: a::{DAYS[2]}, a::{DAYS[0]}"):
        index.run("a::")


def test_a_run_has_its_targets_places_and_commits(index: Index) -> None:
    run = index.run(f"a/{DAYS[0]}")
    assert run["tags"] == ["baseline"]
    assert [(t["target"], t["suite"], t["passed"], t["reported_pass_rate"]) for t in run["targets"]] == [
        ("mock-alpha", "refund", 1, 0.75)
    ]
    assert [(p["source"], p["path"], p["status"]) for p in run["places"]] == [
        ("team", f"runs/a/{DAYS[0]}", "completed")
    ]
    assert run["commits"] == []
    assert "id" not in run


def test_trials_by_page_and_status(index: Index) -> None:
    key = f"agentv:a::{DAYS[0]}"
    first = index.trials(key, limit=1)
    assert [trial["test_id"] for trial in first.trials] == ["t1"]
    assert first.trials[0]["scores"][0]["name"] == "contains"
    rest = index.trials(key, limit=1, cursor=first.next_cursor)
    assert ([trial["test_id"] for trial in rest.trials], rest.next_cursor) == (["t2"], None)
    assert [trial["test_id"] for trial in index.trials(key, status="failed").trials] == ["t2"]
    with pytest.raises(UnknownRunError):
        index.trials("nope")


def test_changes_tell_everything_once_and_in_order(world: World, index: Index) -> None:
    everything = index.changes()
    assert {change["key"] for change in everything.changes} == {r["key"] for r in index.runs().runs}
    assert index.changes(everything.next).changes == []
    world.repo.commit(
        without(f"runs/b/{DAYS[1]}")
        | at(f"runs/a/{DAYS[0]}", bundle(rows=[row()], experiment=None))
        | at(f"runs/a/{DAYS[3]}", bundle(experiment=None))
    )
    world.sync()
    token: str | None = everything.next
    told: dict[str, Any] = {}
    while (page := index.changes(token, limit=1)).changes:
        token = page.next
        told |= {change["key"]: change for change in page.changes}
    assert {key: change["deleted"] for key, change in told.items()} == {
        f"agentv:b::{DAYS[1]}": True,
        f"agentv:a::{DAYS[0]}": False,
        f"agentv:a::{DAYS[3]}": False,
    }
    assert told[f"agentv:a::{DAYS[0]}"]["run"]["trial_count"] == 1
    assert "run" not in told[f"agentv:b::{DAYS[1]}"]


def test_tokens_that_cannot_be_followed(world: World, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    token = index.changes().next
    for wrong in ("", "x", f"{token}x", "a.b", token.partition(".")[0], "." + "9" * 30):
        with pytest.raises(QueryError, match="is not a change token"):
            index.changes(wrong)
    monkeypatch.setattr(rows, "DELETIONS_KEPT", 2)
    world.repo.commit({f"runs/a/{DAYS[0]}": None})
    world.sync()
    assert index.changes(token).changes
    world.repo.commit({"runs/b": None})
    world.sync()
    assert len(world.column("SELECT key FROM deletions")) == 2
    with pytest.raises(StaleTokenError):
        index.changes(token)
    world.rebuild()
    with pytest.raises(StaleTokenError, match="list all runs again"):
        index.changes(token)


def test_what_is_no_index(tmp_path: Path, world: World) -> None:
    with pytest.raises(IndexFileError, match="make one: indexer sync"):
        open_index(tmp_path / "absent.db")
    (tmp_path / "notes").write_text("notes")
    with pytest.raises(IndexFileError, match="left alone"):
        open_index(tmp_path / "notes")
    world.sync()
    with open_index(world.db) as index:
        assert index.runs().runs == []
        assert index.meta()["schema"] == file.SCHEMA


def test_a_path_names_the_run_that_is_there(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        folder = f".agentv/results/runs/{name}/{DAYS[0]}"
        world.write(at(folder, bundle(experiment=name)))
    world.sync()
    (tmp_path / "link").symlink_to(world.local)
    place = f"{world.local}/.agentv/results/runs/b/{DAYS[0]}"
    monkeypatch.chdir(Path(place).parent)
    with open_index(world.db) as index:
        for path in (place, f"{place}/", f"./{DAYS[0]}", place.replace(str(world.local), f"{tmp_path}/link")):
            assert index.run(path)["experiment"] == "b", path
        for path in (f"{place}/no", str(Path(place).parent), f"x{place}"):
            with pytest.raises(UnknownRunError):
                index.run(path)
