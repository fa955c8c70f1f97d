"""Commits of a code repository that name runs."""

from pathlib import Path

import pytest

from indexer import open_index
from indexer.sources.commits import CommitSource
from tests.bundles import NAME, at, bundle, row
from tests.repos import Repo, git
from tests.worlds import World

MAIN = "refs/heads/main"
RUN = f"with_skills::{NAME}"


@pytest.fixture
def code(world: World) -> Repo:
    """A code repository that is followed beside the sources of the world, which have one run."""
    world.repo.commit(at(f"runs/with_skills/{NAME}", bundle()))
    repo = Repo(world.root / "product.git")
    world.sources.append(CommitSource("../product", repo.path, "https://example.org/c/{sha}"))
    return repo


def named(world: World) -> list[tuple[str, str]]:
    rows = world.synced("SELECT run_key, subject FROM run_commits ORDER BY run_key, committed_at, sha")
    return [(row["run_key"], row["subject"]) for row in rows]


def test_trailers_name_runs(world: World, code: Repo) -> None:
    shas = [
        code.commit({}, ref=MAIN, message=message)
        for message in (
            f"Fix the refund\n\nText.\n\nAgentV-Run: {RUN}\n",
            f"Older spelling\n\nAgentv-Run: {RUN}\nSigned-off-by: x <x@example.org>\n",
            "Two checkpoints\n\nEntire-Checkpoint: a1b2c3d4e5f6\nEntire-Checkpoint: 000000000001\n",
            f"Only talk\n\nAgentV-Run: {RUN} is what one writes.\n\nNothing else.\n",
            f"AgentV-Run: {RUN}",
            "Folded\n\nAgentV-Run: with_skills::\n  folded\n",
            f"Squash (#7)\n\n* one\n\nAgentV-Run: remote::{RUN}\n\n* two\n\nAgentV-Run: v2 prompt::x\n\nAnd text.\n",
            f"Squashed commit\n\n    one\n\n    AgentV-Run: {RUN}\n\n    two\r\n\nEval-Run: a\r\n\ntext\n",
            f"Both\n\nAgentV-Run: {RUN}\n\nmore\n\nAgentV-Run: {RUN}\nEval-Run: pier:4f\nEval-Run: my job\n",
            "Nothing\n",
        )
    ]
    assert named(world) == [
        ("a", "Squashed commit"),
        ("agentv:v2 prompt::x", "Squash (#7)"),
        ("agentv:with_skills:: folded", "Folded"),
        (f"agentv:{RUN}", "Fix the refund"),
        (f"agentv:{RUN}", "Older spelling"),
        (f"agentv:{RUN}", "Squash (#7)"),
        (f"agentv:{RUN}", "Squashed commit"),
        (f"agentv:{RUN}", "Both"),
        ("entire:000000000001", "Two checkpoints"),
        ("entire:a1b2c3d4e5f6", "Two checkpoints"),
        ("my job", "Both"),
        ("pier:4f", "Both"),
    ]
    with open_index(world.db) as index:
        commits = index.run(RUN)["commits"]
        assert [c["sha"] for c in commits] == [shas[0], shas[1], shas[6], shas[7], shas[8]]
        assert commits[0]["url"] == f"https://example.org/c/{shas[0]}"
        assert commits[0]["repo"] == "../product"
        assert [run["run_id"] for run in index.runs(commit=shas[1][:8]).runs] == [RUN]
        assert index.runs(commit=shas[2]).runs == []


def test_branches_grow_move_and_go(world: World, code: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(number: int) -> str:
        return f"{number}\n\nAgentV-Run: run-{number}\n"

    first = code.commit({}, ref=MAIN, message=message(1))
    assert named(world) == [("agentv:run-1", "1")]
    code.commit({}, ref=MAIN, message=message(2))
    code.commit({}, ref="refs/heads/topic", parents=[first], message=message(3))
    code.commit({}, ref="refs/remotes/origin/other", parents=[first], message=message(4))
    code.commit({}, ref="refs/tags/v1", parents=[first], message=message(5))
    assert [key for key, _ in named(world)] == [f"agentv:run-{number}" for number in (1, 2, 3, 4)]
    code.pygit2.references.delete("refs/heads/topic")
    assert [key for key, _ in named(world)] == [f"agentv:run-{number}" for number in (1, 2, 4)]
    code.set_ref(MAIN, first)
    code.commit({}, ref=MAIN, message=message(6))
    assert [key for key, _ in named(world)] == [f"agentv:run-{number}" for number in (1, 4, 6)]
    asked = []
    original = CommitSource._listing

    def watched(self: CommitSource, command: list[str], wanted: set[str], known: set[str]) -> object:
        asked.append((len(wanted), len(known)))
        return original(self, command, wanted, known)

    monkeypatch.setattr(CommitSource, "_listing", watched)
    world.sync()
    assert asked == []  # nothing moved
    code.commit({}, ref=MAIN, message=message(7))
    world.sync()
    assert asked == [(2, 2), (2, 2)]  # what lies on no branch any more: nothing; then only what is new


def test_a_run_counts_as_changed_when_its_commits_differ(world: World, code: Repo) -> None:
    world.sync()
    with open_index(world.db) as index:
        token = index.changes().next
        code.commit({}, ref=MAIN, message=f"Fix\n\nAgentV-Run: {RUN}\n")
        world.sync()
        changes = index.changes(token)
        assert [change["key"] for change in changes.changes] == [f"agentv:{RUN}"]
        world.sync()
        assert index.changes(changes.next).changes == []


def test_runs_that_one_trailer_names_come_one_by_one(world: World, code: Repo) -> None:
    for name in ("mine", "theirs"):
        rows = [row(timestamp=f"2026-01-05T09:00:0{len(name)}Z")]
        world.repo.commit(at("runs/x/smoke", bundle(rows=rows)), ref=f"refs/heads/agentv/results/{name}")
    world.sync()
    assert world.column("SELECT count(*) FROM runs WHERE run_id = 'x::smoke'") == [2]
    with open_index(world.db) as index:
        token = index.changes().next
        code.commit({}, ref=MAIN, message="Fix\n\nAgentV-Run: x::smoke\n")
        world.sync()
        seen = []
        while page := index.changes(token, limit=1).changes:
            seen += [change["key"] for change in page]
            token = index.changes(token, limit=1).next
        assert len(seen) == len(set(seen)) == 2


def test_a_run_whose_key_holds_more_than_its_name(world: World, code: Repo) -> None:
    world.repo.commit(at("runs/with_skills/smoke", bundle(name="smoke")))
    code.commit({}, ref=MAIN, message="Fix\n\nAgentV-Run: with_skills::smoke\n")
    world.sync()
    with open_index(world.db) as index:
        run = index.run("with_skills::smoke")
        assert run["key"] == "agentv:with_skills::smoke@2026-01-05T09:00:01.000Z"
        assert [commit["subject"] for commit in run["commits"]] == ["Fix"]
        assert [each["key"] for each in index.runs(commit=run["commits"][0]["sha"]).runs] == [run["key"]]


def test_a_repository_that_is_away_or_not_named_any_more(world: World, code: Repo) -> None:
    code.commit({}, ref=MAIN, message=f"Fix\n\nAgentV-Run: {RUN}\n")
    assert named(world)
    code.path.rename(world.root / "away")
    report = world.sync()
    assert report.failed
    assert world.column("SELECT error FROM sources WHERE kind = 'repo'") == [f"path {code.path} does not exist"]
    assert world.column("SELECT count(*) FROM run_commits") == [1]
    Path(world.root / "away").rename(code.path)
    assert len(named(world)) == 1
    world.sources.pop()
    assert named(world) == []


def test_hostile_messages(world: World, code: Repo) -> None:
    for message in (
        f"token ghp_{'a' * 30} in the subject\n\nAgentV-Run: run-1\n",
        "x\n\nAgentV-Run: " + "y" * 10_000 + "\n",
        "x\n\nAgentV-Run: a\x1b[31mb\n",
        "x\n\nAgentV-Run:\n",
        "\n\nAgentV-Run: run-2\n",
    ):
        code.commit({}, ref=MAIN, message=message)
    rows = named(world)
    assert rows[0] == ("agentv:run-1", "token *** in the subject")
    assert [key for key, _ in rows] in (["agentv:run-1"], ["agentv:run-1", "agentv:run-2"])


def test_a_commit_without_a_readable_date(world: World, code: Repo) -> None:
    first = code.commit({}, ref=MAIN)
    tree = code.git("rev-parse", f"{first}^{{tree}}")
    raw = f"tree {tree}\nparent {first}\nauthor x <x@y> 1 +0000\ncommitter broken\n\nx\n\nAgentV-Run: run-1\n"
    (world.root / "raw").write_text(raw)
    broken = code.git("hash-object", "-w", "-t", "commit", "--literally", str(world.root / "raw"))
    good = "x <x@y> 1767600000 +0000"
    raw = f"tree {tree}\nparent {broken}\nauthor {good}\ncommitter {good}\n\ny\n\nAgentV-Run: run-2\n"
    (world.root / "raw").write_text(raw)
    code.set_ref(MAIN, code.git("hash-object", "-w", "-t", "commit", str(world.root / "raw")))
    assert [key for key, _ in named(world)] == ["agentv:run-1", "agentv:run-2"]
    assert world.column("SELECT committed_at FROM run_commits WHERE run_key = 'agentv:run-1'") == [None]


def test_no_branch_is_left(world: World, code: Repo) -> None:
    sha = code.commit({}, ref=MAIN, message=f"Fix\n\nAgentV-Run: {RUN}\n")
    assert named(world)
    code.git("update-ref", "--no-deref", "HEAD", sha)
    code.delete_ref(MAIN)
    assert named(world) == []


@pytest.mark.parametrize("damage", ["object", "ref"])
def test_a_branch_that_cannot_be_read_keeps_its_commits_and_hides_no_other(
    world: World, code: Repo, damage: str
) -> None:
    sha = code.commit({}, ref="refs/heads/a", message="a\n\nAgentV-Run: run-1\n")
    code.commit({}, ref="refs/heads/b", message="b\n\nAgentV-Run: run-2\n")
    assert len(named(world)) == 2
    if damage == "object":
        (code.path / "objects" / sha[:2] / sha[2:]).unlink()
    else:
        (code.path / "refs/heads/a").write_text("")
    code.commit({}, ref="refs/heads/b", message="c\n\nAgentV-Run: run-3\n")
    assert [key for key, _ in named(world)] == ["agentv:run-1", "agentv:run-2", "agentv:run-3"]
    assert world.column("SELECT path FROM problems") == ["refs/heads/a"]
    (code.path / "refs/heads/a").unlink()
    assert [key for key, _ in named(world)] == ["agentv:run-2", "agentv:run-3"]


def test_a_shallow_clone_is_deepened(world: World, code: Repo) -> None:
    for number in range(3):
        code.commit({}, ref=MAIN, message=f"x\n\nAgentV-Run: run-{number}\n")
    code.git("symbolic-ref", "HEAD", MAIN)
    shallow = world.root / "shallow.git"
    git("clone", "--quiet", "--bare", "--depth", "1", f"file://{code.path}", str(shallow))
    world.sources[-1] = CommitSource("../product", shallow)
    assert len(named(world)) == 1
    git("-C", str(shallow), "fetch", "--quiet", "--unshallow", "origin")
    assert len(named(world)) == 3


def test_what_people_set_for_git_decides_nothing(
    world: World, code: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code.commit({}, ref=MAIN, message=f"Fix\n\nAgentV-Run: {RUN}\n")
    (tmp_path / ".gitconfig").write_text(
        '[grep]\npatternType = fixed\n[trailer]\nseparators = "="\n[trailer "AgentV-Run"]\nkey = "Foo"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(named(world)) == 1
