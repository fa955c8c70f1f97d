"""What the tables of runs and trials look like at widths that terminals have, in a pipe, and with odd names."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from indexer import render
from indexer.cli import lists
from tests.bundles import NAME, at, bundle, row
from tests.commands import done, indexer, refused
from tests.jobs import job, trial

SNAPSHOTS = Path(__file__).parent / "snapshots"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ODD = {
    "long": "a-run-with-a-name-of-two-hundred-characters-" + "0123456789" * 15 + "-one",
    "long too": "a-run-with-a-name-of-two-hundred-characters-" + "0123456789" * 15 + "-two",
    "wide": "日本語の長い名前のテスト実行その一",
    "right to left": "עברית-مرحبا-run",
    "accents": "e\u0301te\u0301-ru\u0308n",
    "control": "line\nbreak\x1b[31m",
}


def run(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "run_id": f"nightly-2026-02-{number:02}",
        "key": f"pier:{number}",
        "timestamp": f"2026-02-{number:02}T09:00:00.000Z",
        "updated_at": None,
        "status": "completed",
        "planned_count": 10,
        "ended_count": 10,
        "running_count": 0,
        "passed": number % 10,
        "trial_count": 10,
        "pass_rate": number % 10 / 10,
        "avg_score": 0.5,
        "cost_usd": 1.25 * number,
        "source": "local",
        "target": "claude-code/claude-sonnet-4-5@high",
        "experiment": "nightly",
        "duration_s": 600.0 + number,
        "tags": ["baseline"] if number % 2 else [],
    } | fields


def of_trial(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "run_id": "nightly-2026-02-01", "trial": f"fix-git__a{number:06}", "target": "claude-code/claude-sonnet-4-5",
        "status": "errored", "score": None, "error_type": "AgentTimeoutError", "error": "no answer after 600 s",
        "scores": [], "timestamp": "2026-02-01T09:00:00.000Z", "cost_usd": 0.25, "duration_s": 600.0,
    } | fields  # fmt: skip


RUNS = [
    run(9, status="running", ended_count=4, running_count=2, updated_at="2026-02-28T23:59:30.000Z", passed=3),
    run(8, status="running", ended_count=4, passed=3, updated_at="2026-02-08T10:00:00.000Z"),
    run(7),
    run(6, status="failed", run_id=f"with_skills::{NAME}", source="team"),
    run(5, status="cancelled", cost_usd=None),
]
TRIALS = [
    of_trial(1),
    of_trial(2, status="failed", score=0.5, error=None, error_type=None,
             scores=[{"name": "rubric", "score": 0.5, "passed": 0, "reason": "the answer names no file"}]),
    of_trial(3, status="passed", score=1.0, error=None, error_type=None),
]  # fmt: skip


class Datasets:
    stale_after = 3600

    def datasets(self, keys: list[str]) -> dict[str, str]:
        return dict.fromkeys(keys, "terminal-bench")


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int | None, what: str) -> str:
    """A table as a terminal of this width shows it, in a pipe without one."""
    monkeypatch.setattr(
        render, "seconds_since", lambda time: (NOW - datetime.fromisoformat(time)) / timedelta(seconds=1)
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: width is not None)
    monkeypatch.setenv("NO_COLOR", "1")
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    if what == "runs":
        lists._print_runs(RUNS, Datasets())  # type: ignore[arg-type]
    else:
        lists.print_trials(TRIALS, of_one_run=False)  # type: ignore[arg-type]
    said = capsys.readouterr()
    return re.sub(r"\x1b\[[0-9;]*m", "", said.out) + said.err


@pytest.mark.parametrize("what", ["runs", "trials"])
@pytest.mark.parametrize("width", [80, 120, 200, None])
def test_tables_look_as_they_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int | None, what: str
) -> None:
    text = printed(monkeypatch, capsys, width, what)
    assert text == (SNAPSHOTS / f"{what}-{width or 'pipe'}.txt").read_text()
    assert width is None or all(cell_len(line) <= width for line in text.splitlines() if "left out" not in line)


@pytest.mark.parametrize("width", [80, 120, 200, None])
def test_tables_of_odd_names_are_straight(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int | None
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "RUNS", [run(3, run_id=name) for name in ODD.values()])
    lines = printed(monkeypatch, capsys, width, "runs").splitlines()
    status = lines[0].index("STATUS")
    for line in lines[1 : 1 + len(ODD)]:
        before = next(
            at for at in range(len(line)) if cell_len(line[:at]) == status and line[at:].startswith("completed")
        )
        assert cell_len(line[:before]) == status


def test_one_trial_with_its_graders_error_and_files(tmp_path: Path) -> None:
    failing = trial("slow", None, error="AgentTimeoutError")
    files = at("jobs/j", job({"fizz__aaaaaaa": trial(), "slow__bbbbbbb": failing, "half__ccccccc": trial("half", 0.5)}))
    long = "\n".join(f"line {number}" for number in range(100))
    files |= {
        "jobs/j/slow__bbbbbbb/exception.txt": "Traceback",
        "jobs/j/slow__bbbbbbb/verifier/test-stdout.txt": long,
        "jobs/j/slow__bbbbbbb/agent/trajectory.json": "{}",
    }
    graders = [{"name": "rubric", "score": 0, "pass": False, "reason": "it names no file\nand no line"}]
    files |= at(f".agentv/results/runs/e/{NAME}", bundle(rows=[row("t1", 0.0, scores=graders), row("t2")]))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done(tmp_path, "sync")
    shown = done(tmp_path, "show", "j", "slow")
    assert "AgentTimeoutError\n  AgentTimeoutError: key ***\n  at line 1\n" in shown  # whole, and masked
    named = [line.split()[0] for line in shown[shown.index("FILE") :].splitlines()[1:]]
    assert named[:4] == ["exception.txt", "trial.log", "agent/trajectory.json", "verifier/test-stdout.txt"], named
    assert done(tmp_path, "show", "j", "slow", "--file", "verifier/test-stdout.txt", "--tail", 2) == "line 98\nline 99"
    with (tmp_path / "jobs/j/slow__bbbbbbb/agent/long.log").open("wb") as file:
        file.write((b"x" * (5 << 20) + b"\n") * 2 + b"end\n")
    assert done(tmp_path, "show", "j", "slow", "--file", "agent/long.log", "--tail", 1) == "end\n"
    tail = indexer(tmp_path, "show", "j", "slow", "--file", "agent/long.log", "--tail", 9)
    assert (len(tail.stdout), "only the last 2 lines can be shown" in tail.stderr) == ((5 << 20) + 5, True)
    (tmp_path / "jobs/j/slow__bbbbbbb/agent/one.log").write_bytes(b"x" * (9 << 20))
    tail = indexer(tmp_path, "show", "j", "slow", "--file", "agent/one.log", "--tail", 1)
    assert (len(tail.stdout), "the beginning of this line cannot be shown" in tail.stderr) == (8 << 20, True)
    assert done(tmp_path, "show", "j", "slow", "--path") == f"{tmp_path}/jobs/j/slow__bbbbbbb\n"
    assert done(tmp_path / "jobs/j", "show", "j", "--path") == f"{tmp_path}/jobs/j\n"  # found from below
    assert "1 passed: --all lists them" in done(tmp_path, "show", "j")
    assert "fizz__aaaaaaa" in done(tmp_path, "show", "j", "--all")
    assert re.search(r"rubric .* failed +it names no file", done(tmp_path, "show", f"e::{NAME}", "t1"))
    assert "no trial of pier:" in refused(1, tmp_path, "show", "j", "nothing")
    assert done(tmp_path, "show", "j", "slow", "--file", "./verifier//test-stdout.txt").startswith("line 0")
    assert "choose one" in refused(2, tmp_path, "show", "j", "--path", "--json")
    (tmp_path / "jobs/j/slow__bbbbbbb").rename(tmp_path / "away")
    assert "is no longer at" in refused(1, tmp_path, "show", "j", "slow", "--file", "result.json")
    assert "is no longer at" in indexer(tmp_path, "show", "j", "slow").stderr
    assert "--tail: needs a --file" in refused(2, tmp_path, "show", "j", "--tail", "3")
    listed = done(tmp_path, "trials", "--error", "NAMES NO FILE").splitlines()
    assert [line.split()[1] for line in listed[1:]] == ["refund/t1/mock-alpha/1"]


def test_sql_of_ones_own(tmp_path: Path) -> None:
    for name, text in at("jobs/j", job()).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done(tmp_path, "sync")
    asked = ["query", "select run_id, passed, :word as word from runs where passed > :least"]
    values = ["-p", "word", "it's", "--param", "least", "0"]
    assert done(tmp_path, *asked, *values).splitlines()[1].split() == ["j", "1", "it's"]
    assert done(tmp_path, *asked, *values, "--json") == '{"run_id": "j", "passed": 1, "word": "it\'s"}\n'
    assert done(tmp_path, *asked, *values, "--csv") == "run_id,passed,word\nj,1,it's\n"
    assert indexer(tmp_path, "query", "select 1 where 0").stderr == "no rows\n"
    assert done(tmp_path, "query", "select 9e999 x, x'00ff' y", "--json") == '{"x": null, "y": "\\u0000\\\\xff"}\n'
    assert len(done(tmp_path, "query", "select hex(zeroblob(60000)) as x")) == 2 * (120_000 + 1) - 120_000 + 1
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select hex(zeroblob(9999)) from c"
    assert "larger than" in indexer(tmp_path, "query", endless, "--csv").stderr
    for wrong, says in (
        ("delete from runs", "readonly|only statements that return rows"),
        ("select nope from runs", "no such column"),
        ("select :a", "binding"),
        ("select 1; select 2", "one statement"),
        ("select zeroblob(2000000)", "too big"),
        ("attach '/tmp/x.db' as x", "sql: "),
    ):
        assert re.search(says, refused(2, tmp_path, "query", wrong))
