"""The command as people and scripts use it: a process, its output, its exit code."""

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import NAME, at, bundle, row
from tests.commands import COMMAND, done, failed, indexer, refused
from tests.jobs import job, trial
from tests.repos import RESULTS, Repo

OTHER = "2026-01-06T09-00-00-000Z"
RUN_ID = f"with_skills::{NAME}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two local runs."""
    root = tmp_path / "project"
    for place, files in (
        (f"runs/with_skills/{NAME}", bundle(tags={"tags": ["baseline"]})),
        (f"runs/other/{OTHER}", bundle(experiment="other", rows=[row("t1", cost_usd=1.5)])),
    ):
        for name, text in at(f".agentv/results/{place}", files).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_sync_and_list_without_settings(project: Path) -> None:
    process = indexer(project, "sync")
    assert process.stdout == "local: 2 added, 0 changed, 0 removed\n"
    assert "there is no index yet" in process.stderr
    again = indexer(project, "sync")
    assert (again.stdout, again.stderr) == ("nothing changed in local\n", "")
    lines = done(project, "runs").splitlines()
    assert lines[0].split()[:8] == ["RUN", "AGO", "STATUS", "PASSED", "RATE", "SCORE", "COST", "SOURCE"]
    name, _, _, *rest = lines[1].split()
    assert name == f"other::{OTHER}"
    assert rest[:7] == ["completed", "1/1", "100%", "1.000", "$1.50", "local", "mock-alpha"]
    assert "\x1b" not in "".join(lines)
    assert done(project, "check") == "the index equals its sources\n"


def test_runs_for_scripts(project: Path) -> None:
    done(project, "sync")
    rows = [json.loads(line) for line in done(project, "runs", "--json").splitlines()]
    assert [row["run_id"] for row in rows] == [f"other::{OTHER}", RUN_ID]
    assert rows[1]["tags"] == ["baseline"]
    table = list(csv.DictReader(io.StringIO(done(project, "runs", "--csv", "--sort", "timestamp"))))
    assert [row["run_id"] for row in table] == [RUN_ID, f"other::{OTHER}"]
    assert [row["tags"] for row in table] == ["baseline", ""]
    first = indexer(project, "runs", "--limit", 1, "--json")
    cursor = first.stderr.removeprefix("more runs follow: --all, or go on with --cursor ").strip()
    rest = indexer(project, "runs", "--limit", 1, "--json", "--cursor", cursor)
    assert (json.loads(rest.stdout)["run_id"], rest.stderr) == (RUN_ID, "")
    assert len(done(project, "runs", "--all", "--json").splitlines()) == 2
    for filters, count in (
        (["--experiment", "other"], 1),
        (["--target", "mock-alpha", "--status", "completed"], 2),
        (["--tag", "baseline"], 1),
        (["--source", "local", "--until", "2026-01-06"], 1),
        (["--since", "1h"], 0),
        (["--min-pass-rate", "0.9"], 1),
    ):
        assert len(done(project, "runs", "--json", *filters).splitlines()) == count


def test_show(project: Path) -> None:
    done(project, "sync")
    text = done(project, "show", f"with_skills/{NAME}")
    for part in (
        RUN_ID,
        "baseline",
        "mock-alpha",
        "refund/t2/mock-alpha/1",
        "0.500",
        ".agentv/results/runs/with_skills",
    ):
        assert part in text
    shown = json.loads(done(project, "show", "latest", "--json"))
    assert (shown["key"], shown["targets"][0]["cost_usd"], shown["failing"]) == (f"agentv:other::{OTHER}", 1.5, [])
    file = done(project, "show", RUN_ID, "--file", "refund/t1/grading.json")
    assert file == '{"graders": []}'
    assert "has no file '../../../indexer.toml'; it has " in refused(
        1, project, "show", RUN_ID, "--file", "../../../indexer.toml"
    )


def test_questions(project: Path) -> None:
    done(project, "sync")
    text = done(project, "compare", RUN_ID, "latest")
    for part in (
        "1/2 50%",
        "1/1 100%",
        "1 shared test with 1 verdict in A and 1 in B",
        "no difference shown",
        "1 test only in A: refund/t2",
    ):
        assert part in text
    assert ["runs", "1", "1"] in [line.split() for line in text.splitlines()]
    only = json.loads(done(project, "compare", RUN_ID, "latest", "--json"))["only_a"]
    assert [test["test_id"] for test in only] == ["t2"]
    text = done(project, "compare", "--a", "experiment=with_*", "--b", "experiment=other", "--test", "t1")
    assert "experiment=with_*" in text
    for verdict in ("worse", "errors"):
        done(project, "compare", RUN_ID, "latest", "--fail-if", verdict)
    for verdict in ("worse", "errors"):
        shared = ("compare", RUN_ID, "latest", "--test", "t2", "--fail-if", verdict)
        assert "nothing was compared" in failed(1, project, *shared)
    text = done(project, "history", "t1")
    for part in ("test refund/t1", "2/2", "100%", "██"):
        assert part in text
    assert "are drawn" not in text
    text = done(project, "history", "t1", "--limit", "1")
    assert "counts are of all 2 executions, the newest 1 are drawn" in text
    (target,) = json.loads(done(project, "history", "t1", "--json"))["targets"]
    assert [outcome["run_id"] for outcome in target["outcomes"]] == [f"other::{OTHER}", RUN_ID]
    assert "no execution" in done(project, "history", "t1", "--since", "1h")
    assert done(project, "drift") == "nothing to look at: no target has enough runs that ended and match\n"
    assert json.loads(done(project, "drift", "--json")) == {
        "looked_at": 0,
        "detectable_fall": None,
        "groups": [],
        "more": False,
    }
    board = [json.loads(line) for line in done(project, "leaderboard", "--json").splitlines()]
    assert [(row["experiment"], row["passed"], row["executions"]) for row in board] == [
        ("other", 1, 1),
        ("with_skills", 1, 2),
        (None, 2, 3),
    ]
    assert done(project, "leaderboard", "--by", "test", "--across", "experiment").splitlines()[0].split() == [
        "TEST", "other", "with_skills"
    ]  # fmt: skip
    assert done(project, "flaky") == "no test is shown to be flaky\n"
    assert "21-100%" in done(project, "leaderboard")
    (failure,) = [json.loads(line) for line in done(project, "failures", "--json").splitlines()]
    assert (failure["test_id"], failure["status"], failure["trials"]) == ("t2", "failed", 1)
    assert "refund/t2" in done(project, "failures")
    assert done(project, "failures", "--experiment", "other") == "no failures match\n"


def test_a_pipeline_can_fail_if_it_got_worse(project: Path) -> None:
    for number, score in enumerate((1.0, 0.0), 7):
        rows = [row(f"t{test}", score) for test in range(8)]
        for name, text in bundle(rows=rows, experiment="ci").items():
            path = project / f".agentv/results/runs/ci/2026-01-0{number}T09-00-00-000Z/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    done(project, "sync")
    assert "worse" in failed(3, project, "compare", "latest~1", "latest", "--fail-if", "worse", stdout=True)
    done(project, "compare", "latest", "latest~1", "--fail-if", "worse")
    done(project, "compare", "latest~1", "latest", "--fail-if", "errors")


def test_days_are_those_of_this_machine_also_across_a_change_of_the_clocks(project: Path) -> None:
    for name in ("2026-07-05T03-30-00-000Z", "2026-07-05T04-30-00-000Z"):
        for path, text in at(f".agentv/results/runs/july/{name}", bundle(experiment="july", name=name)).items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text)
    done(project, "sync")
    part = ("--experiment", "july", "--json")
    days = done(project, "leaderboard", "--by", "day", *part, TZ="America/New_York")
    rows = [json.loads(line) for line in days.splitlines()]
    assert [(row["day"], row["runs"]) for row in rows] == [("2026-07-05", 1), ("2026-07-04", 1), (None, 2)]
    since = done(project, "runs", "--since", "2026-07-05", *part, TZ="America/New_York")
    assert [json.loads(line)["timestamp"] for line in since.splitlines()] == ["2026-07-05T04:30:00.000Z"]


def test_what_may_have_stopped_is_called_so_by_every_command(project: Path) -> None:
    for name, text in at("jobs/j", job(finished=False)).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
        os.utime(project / name, (1_767_600_000, 1_767_600_000))
    done(project, "sync")
    for command in (["runs"], ["show", "j"], ["compare", RUN_ID, "j"]):
        assert ("stopped?" if "compare" in command else "stopped? 2/2") in done(project, *command)
    assert "(silent " in done(project, "show", "j")
    assert "1 unfinished run has been silent for 1 h or longer" in done(project, "status")
    assert json.loads(done(project, "status", "--json"))["live"] == []


def test_code_repositories(project: Path) -> None:
    product = Repo(project.parent / "product.git")
    sha = product.commit({}, ref="refs/heads/main", message=f"Fix it\n\nAgentV-Run: {RUN_ID}\n")
    (project / "indexer.toml").write_text(
        '[[source]]\nname = "local"\nkind = "folder"\npath = "."\n'
        '[[repo]]\npath = "../product.git"\nweb_url = "https://example.org/{sha}"\n'
    )
    assert done(project, "sync") == "local: 2 added, 0 changed, 0 removed\n"
    assert f"https://example.org/{sha}" in done(project, "show", RUN_ID)
    assert json.loads(done(project, "runs", "--commit", sha[:7], "--json"))["run_id"] == RUN_ID
    assert "../product.git" in done(project, "status")
    done(project, "check")


def test_changes_are_json_lines_that_end_with_the_next_token(project: Path) -> None:
    done(project, "sync")
    *changes, last = [json.loads(line) for line in done(project, "changes").splitlines()]
    assert [change["deleted"] for change in changes] == [False, False]
    shutil.rmtree(project / ".agentv/results/runs/other")
    done(project, "sync")
    gone, end = [json.loads(line) for line in done(project, "changes", "--since", last["next"]).splitlines()]
    assert gone == {"key": f"agentv:other::{OTHER}", "deleted": True}
    assert [json.loads(done(project, "changes", "--since", end["next"]))] == [end]
    done(project, "rebuild")
    assert "list all runs again" in refused(1, project, "changes", "--since", last["next"])


def test_check_tells_differences_and_exits_1(project: Path) -> None:
    done(project, "sync")
    database = project / "results/index.db"
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import sqlite3
with sqlite3.connect({str(database)!r}) as d: d.execute("UPDATE runs SET passed = 7 WHERE experiment = 'other'")
""",
        ],
        check=True,
    )
    process = indexer(project, "check")
    assert process.returncode == 1
    run = f"runs: agentv:other::{OTHER}: passed: 7"
    assert process.stdout == f"{run}, sources say 1\n{run}, trials say 1\n"
    done(project, "rebuild")
    done(project, "check")


def test_show_names_what_to_look_at(project: Path) -> None:
    """What passed beside an exception, what low rewards were given, and what of the run cannot be read now."""
    trials = {
        "slow__aaaaaaa": trial("slow", 1.0, error="AgentTimeoutError"),
        "half__bbbbbbb": trial("half", {"reward": 0.5, "style": 0.25}),
        "fizz__ccccccc": trial(),
    }
    for name, text in at("jobs/j", job(trials)).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    done(project, "sync")
    shown = done(project, "show", "j").splitlines()
    at_trials = next(number for number, line in enumerate(shown) if line.startswith("TRIAL"))
    assert [line.split()[::2][:2] for line in shown[at_trials + 1 : at_trials + 4]] == [
        ["half__bbbbbbb", "failed"],
        ["slow__aaaaaaa", "passed"],
        [],
    ]
    assert "reward 0.5, style 0.25" in shown[at_trials + 1]
    assert "AgentTimeoutError" in shown[at_trials + 2]
    (project / "jobs/j/half__bbbbbbb/result.json").write_text("{")
    done(project, "sync")
    assert "not read: jobs/j/half__bbbbbbb/result.json: invalid JSON" in done(project, "show", "j")


def test_init_writes_what_it_found_and_never_overwrites(project: Path) -> None:
    repo = Repo(project / ".git")
    repo.commit(at(f"runs/x/{NAME}", bundle(experiment=None)), ref=RESULTS)
    repo.git("config", "core.bare", "false")
    text = done(project, "init")
    assert f"local: folder {project}" in text
    assert f"git: git {project}" in text
    assert "/results/index.db.lock" in text
    settings = (project / "indexer.toml").read_text()
    assert done(project, "sync").count("added") == 2
    assert len(done(project / ".agentv", "runs", "--json").splitlines()) == 3  # found from below, too
    assert "already exists" in refused(1, project, "init")
    assert (project / "indexer.toml").read_text() == settings
    (project / "indexer.toml").unlink()
    assert ".gitignore" not in done(project, "init", "--db", project.parent / "elsewhere.db")


def test_status_tells_sources_and_what_was_not_read(project: Path) -> None:
    done(project, "sync")
    broken = project / f".agentv/results/runs/other/{OTHER}/benchmark.json"
    broken.write_text("{")
    process = indexer(project, "sync")
    assert process.returncode == 0
    assert process.stderr.startswith(
        f"indexer: not read: local: .agentv/results/runs/other/{OTHER}/benchmark.json: invalid"
    )
    text = done(project, "status")
    assert "1 not read:" in text
    status = json.loads(done(project, "status", "--json"))
    assert status["sources"][0]["runs"] == 2
    assert "LAG" in text
    looked = status["sources"][0]["looked_at"]
    assert looked > status["sources"][0]["changed_at"][:10]
    done(project, "sync")
    later = json.loads(done(project, "status", "--json"))["sources"][0]
    assert later["looked_at"] > looked
    assert later["changed_at"] == status["sources"][0]["changed_at"]
    assert status["problems"][0]["run_key"] == f"agentv:other::{OTHER}"


def test_a_failing_source_is_one_line_and_exit_1(project: Path) -> None:
    (project / "indexer.toml").write_text(
        '[[source]]\nname = "local"\nkind = "folder"\npath = "."\n[[source]]\nname = "x"\nkind = "git"\npath = "gone"\n'
    )
    process = indexer(project, "sync")
    assert process.returncode == 1
    assert process.stdout == "local: 2 added, 0 changed, 0 removed\n"
    assert process.stderr.splitlines()[1] == f"indexer: source x: path {project}/gone does not exist; its rows stay"
    assert "the index is as it was" in refused(1, project, "rebuild")
    assert "gone does not exist" in refused(1, project, "check")


WRONG: list[tuple[int, list[str], str]] = [
    (2, ["runs", "--sort", "size"], "sort: 'size' is none of"),
    (2, ["runs", "--cursor", "x"], "cursor: it is not one of ours"),
    (2, ["runs", "--limit", "0"], "limit"),
    (2, ["runs", "--since", "soon"], "since: 'soon' is not a date"),
    (1, ["show", "nope"], "no run is called 'nope'"),
    (1, ["show", "x\x1b[31m\n"], r"no run is called"),
    (2, ["changes", "--since", "x"], "is not a change token"),
    (2, ["runs", "--config", "gone.toml"], "gone.toml: there is no such settings file"),
    (1, ["runs", "--db", "gone.db"], "there is no index at"),
    (1, ["compare", "latest", "nope"], "no run is called 'nope'"),
    (1, ["compare", "--a", "target=m*", "--b", "test=t1", "--since", "1h"], "matches target='m*' since='1h'"),
    (1, ["history", "nope"], "no test is called 'nope'"),
    (2, ["history", "t2", "--since", "2026-13-01"], "since: '2026-13-01' is not a date"),
    (2, ["compare", "latest"], "name two sides"),
    (2, ["compare", "--a", "colour=red", "--b", "target=b"], "'colour=red' is not FILTER=VALUE"),
    (2, ["compare", "latest", "latest"], "the same trials are on both sides"),
    (2, ["runs", "--json", "--csv"], "choose one"),
    (1, ["show", "live"], "no run is running now"),
    (2, ["drift", "--window", "x"], "window: 'x' is neither"),
    (2, ["leaderboard", "--k", "0"], "k: 0 is not"),
    (2, ["failures", "--limit", "0"], "limit"),
]


@pytest.mark.parametrize(("code", "arguments", "says"), WRONG)
def test_wrong_arguments_are_one_line(project: Path, code: int, arguments: list[str], says: str) -> None:
    done(project, "sync")
    assert says in refused(code, project, *arguments)


def test_usage_errors_exit_2_and_help_has_an_example(project: Path) -> None:
    assert indexer(project, "runs", "--colour").returncode == 2
    assert indexer(project, "nothing").returncode == 2
    commands = re.findall(r"^│ ([a-z]+) ", done(project, "--help", COLUMNS="80"), flags=re.MULTILINE)
    assert commands[:4] == ["init", "sync", "watch", "rebuild"]
    for command in commands:
        text = done(project, command, "--help", COLUMNS="80")
        assert f"Example: indexer {command}" in text
        assert all(len(line) <= 80 for line in text.splitlines())


def test_nowhere_to_look(tmp_path: Path) -> None:
    assert "no runs found in" in refused(2, tmp_path, "sync")
    assert "make one: indexer sync" in refused(1, tmp_path, "runs")
    assert "nothing to write" in refused(1, tmp_path, "init")


def test_a_closed_pipe_is_no_error(project: Path) -> None:
    done(project, "sync")
    command = f"{COMMAND} runs --json | head -n 0"
    process = subprocess.run(command, shell=True, cwd=project, capture_output=True, text=True)
    assert process.stderr == ""


def test_a_terminal_gets_colours_and_lines_that_fit(project: Path) -> None:
    done(project, "sync")
    for columns in (44, 120):
        primary, secondary = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
        subprocess.run([COMMAND, "runs"], cwd=project, stdout=secondary, env=environment, check=True)
        os.close(secondary)
        text = os.read(primary, 100_000).decode()
        os.close(primary)
        assert "\x1b[32mcompleted" in text
        plain = text.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "")
        assert all(len(line.rstrip()) <= columns for line in plain.splitlines())
        assert ("$1.50" in plain, "1/1" in plain) == (columns == 120, True)


def test_reading_commands_start_without_what_only_writing_needs() -> None:
    program = "import sys, indexer; print([m for m in ('pygit2', 'datasette', 'rich', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_repeated_filters_mean_any_and_of_tags_all(project: Path) -> None:
    done(project, "sync")
    both = done(project, "runs", "--experiment", "with_skills", "--experiment", "other", "--json")
    assert len(both.splitlines()) == 2
    assert len(done(project, "runs", "--tag", "baseline", "--tag", "baseline", "--json").splitlines()) == 1
    process = indexer(project, "runs", "--tag", "baseline", "--tag", "absent", "--json")
    assert process.stdout == ""
    assert process.stderr == "no runs match\nindexer: no tag is called absent; nearest: baseline\n"
    process = indexer(project, "runs", "--experiment", "with_skill", "--json")
    assert process.stderr.endswith("no experiment is called with_skill; nearest: with_skills\n")
    assert len(done(project, "runs", "--experiment", "with_*", "--json").splitlines()) == 1
    assert len(done(project, "runs", "--test", "refund/t?", "--agent", "*", "--json").splitlines()) == 0
    assert len(done(project, "runs", "--test", "refund/t2", "--dataset", "ref*", "--json").splitlines()) == 1


def test_an_old_index_says_so_when_its_sources_look_newer(project: Path) -> None:
    done(project, "sync")
    assert indexer(project, "runs").stderr == ""
    assert "no writer running; start `indexer watch`" in done(project, "status")
    folder = project / ".agentv/results"
    os.utime(folder, (folder.stat().st_atime + 60, folder.stat().st_mtime + 60))
    told = indexer(project, "runs").stderr
    assert re.fullmatch(
        r"indexer: index as of \S+ \(.*\), no writer running; .*; changed since: local; run indexer sync\n", told
    )


def test_a_source_without_runs_is_not_silent(tmp_path: Path) -> None:
    (tmp_path / "indexer.toml").write_text('[[source]]\nname = "a"\nkind = "folder"\npath = "."\n')
    process = indexer(tmp_path, "sync")
    assert process.returncode == 0
    assert "source a: no runs: looked into jobs/ and logs/ and results/ and .agentv/results/" in process.stderr
    assert "no runs: looked into" in done(tmp_path, "status")


def test_a_project_is_found_from_its_folders_and_not_by_folders_that_are_only_called_so(project: Path) -> None:
    done(project, "sync")
    below = project / "src/deep"
    (below / "logs").mkdir(parents=True)
    (below / "logs/app.log").write_text("")
    (below.parent / "results").write_text("a file")
    assert len(done(below, "runs", "--json").splitlines()) == 2
    assert done(below, "sync") == "nothing changed in local\n"
    (below / "jobs/j").mkdir(parents=True)
    assert "there is no index at" in refused(1, below, "runs")
