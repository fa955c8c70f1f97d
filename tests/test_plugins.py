"""A format of another package: found by its entry point, guarded, and read again alone when its version changes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from indexer import open_index
from tests.bundles import NAME, at, bundle
from tests.commands import indexer
from tests.repos import Repo

ROOT = Path(__file__).resolve().parent.parent
TOY = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs/formats.md").read_text(), re.DOTALL)[:1])
"""The example of the documentation: it is what is tested."""


class Project:
    """A folder with toy runs and one of AgentV, and distributions that are installed beside this program."""

    def __init__(self, root: Path):
        self.root, self.site = root / "project", root / "site"
        for number in (1, 2):
            self.write(f"toys/t{number}", {"cost": 0.5, "results": {"add": True, "divide": number == 2}})
        for name, text in at(f".agentv/results/runs/e/{NAME}", bundle()).items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)

    def write(self, path: str, document: Any) -> None:
        (self.root / path).mkdir(parents=True, exist_ok=True)
        (self.root / path / "toy.json").write_text(json.dumps({"began": "2026-02-01T09:00:00.000Z"} | document))

    def install(self, code: str = TOY, name: str = "toy", *, package: str = "toy-format") -> None:
        module = package.replace("-", "_")
        self.site.mkdir(exist_ok=True)
        (self.site / f"{module}.py").write_text(code)
        information = self.site / f"{module}-1.0.dist-info"
        information.mkdir(exist_ok=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[indexer.formats]\n{name} = {module}\n")

    def run(self, *arguments: object) -> tuple[str, str]:
        process = indexer(self.root, *arguments, PYTHONPATH=str(self.site), PYTHONDONTWRITEBYTECODE="1")
        assert "Traceback" not in process.stderr, process.stderr
        return process.stdout, process.stderr

    def runs(self) -> dict[str, dict[str, Any]]:
        with open_index(self.root / "results/index.db") as index:
            return {run["key"]: dict(run) for run in index.each_run()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    settings = '[[source]]\nname = "a"\nkind = "folder"\npath = "."\n'
    (project.root / "indexer.toml").write_text(settings)
    return project


AGENTV = f"agentv:e::{NAME}"


def test_the_documented_example_is_found_indexed_listed_and_compared(project: Project) -> None:
    assert len(TOY.splitlines()) <= 60
    project.install()
    assert "a: 3 added" in project.run("sync")[0]
    runs = project.runs()
    assert runs.keys() == {"toy:t1", "toy:t2", AGENTV}
    assert (runs["toy:t1"]["format"], runs["toy:t1"]["passed"], runs["toy:t1"]["failed"]) == ("toy", 1, 1)
    compared = json.loads(project.run("compare", "toy:t1", "toy:t2", "--json")[0])
    assert (compared["a"]["passed"], compared["b"]["passed"]) == (1, 2)
    assert project.run("check")[0] == "the index equals its sources\n"
    assert project.run("sync")[0] == "nothing changed in a\n"


def test_the_largest_integers_are_kept(project: Project) -> None:
    largest = 2**63 - 1
    project.install(TOY.replace("cost_usd=", f"turns={largest}, peak_context_tokens=-{largest} - 1, cost_usd="))
    project.run("sync")
    with open_index(project.root / "results/index.db") as index:
        (trial, *_) = index.each_trial("toy:t1")
    assert (trial["turns"], trial["peak_context_tokens"]) == (largest, -largest - 1)


def test_a_version_moves_its_own_runs_alone_and_a_format_that_goes_takes_them_with_it(project: Project) -> None:
    project.run("sync")
    assert project.runs().keys() == {AGENTV}
    project.install()  # a new one
    assert project.run("sync") == ("a: 2 added, 0 changed, 0 removed\n", "")
    before = project.runs()
    project.install(TOY.replace("VERSION = 1", "VERSION = 2").replace('"toy-agent"', '"toy-agent-2"'))
    assert project.run("sync")[0] == "a: 0 added, 2 changed, 0 removed\n"
    after = project.runs()
    assert (after["toy:t1"]["target"], after[AGENTV]["rev"]) == ("toy-agent-2", before[AGENTV]["rev"])
    project.install(TOY.replace("toy.json", "other.json"), package="toy-format")
    (project.site / "toy_format-1.0.dist-info/entry_points.txt").write_text("")
    project.run("sync")
    assert project.runs().keys() == {AGENTV}
    assert project.run("check")[0] == "the index equals its sources\n"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise OSError('no disk')", "format toy (toy_format) is not used: OSError: no disk"),
        ("KEY = 'toy'", "is not used: it lacks VERSION, NAME, CONVENTIONS"),
        (TOY.replace('KEY = "toy"', 'KEY = "joy"'), "is not used: its KEY is 'joy'"),
        (TOY + "\nPROTOCOL = 99\n", "is not used: it is for protocol 99"),
        (TOY + "\ndef read(folder, options, earlier):\n    return 1 / 0\n", "format toy: ZeroDivisionError in read"),
        (
            TOY + "\ndef read(f, o, e):\n    raise Unreadable('a', 'malformed', 'why a', {'b': 'why b'})\n",
            "t1/b: why b",
        ),
        (
            TOY + "\ndef read(f, o, e):\n    raise Unreadable('a', 'x', 'y', {5: 'z'})\n",
            "a malformed Unreadable in read",
        ),
        (TOY + "\ndef read(f, o, e):\n    raise Unreadable('a', 'x', 'y', 7)\n", "a malformed Unreadable in read"),
        (TOY + "\ndef inputs(folder):\n    raise SystemError\n", "format toy: SystemError in inputs"),
        (TOY.replace('f"toy:{', 'f"joy:{'), "does not begin with toy:"),
        (TOY.replace("cost_usd=", "cost_usd=float('nan') or "), "cost_usd is not a finite number"),
        (TOY.replace("cost_usd=", "turns=2**63, cost_usd="), "turns is beyond 64 bits"),
        (TOY.replace('"passed" if', '"won" if'), "the status 'won' is none of"),
        (TOY + "\ndef read(folder, options, earlier):\n    return 7\n", "read returned a int, not a Run"),
        (TOY.replace("trials=trials", "trials=None"), "read returned a malformed Run"),
        (TOY.replace("cost_usd=", "cost_usd='1' or "), "cost_usd is a str"),
        (TOY.replace("timestamp=began", 'timestamp="9999-99-99T99:99:99.999Z"'), "timestamp is not a time"),
        (TOY.replace("trials=trials", "trials=trials, optional=['a']"), "read returned a malformed Run"),
        (TOY.replace("trials=trials", "trials=trials, rank=None"), "rank is missing"),
        (TOY + "\ndef read(f, o, e):\n    raise SystemExit(3)\n", "SystemExit in read: 3"),
        ("import sys\nsys.exit(3)", "is not used: SystemExit: 3"),
        (TOY + "\ndef inputs(folder):\n    return [5]\n", "inputs returned something that is not a name"),
        (TOY + "\nANCHORS = 'toy.json'\n", "its ANCHORS is not a collection of non-empty strings"),
        (TOY + "\nCONVENTIONS = {}\n", "its CONVENTIONS is not of type Conventions"),
        (TOY + "\nVERSION = '1.0'\n", "its VERSION is not of type int"),
        (TOY + "\ndef inputs(folder):\n    yield 1 / 0\n", "ZeroDivisionError in inputs"),
        (TOY + "\ndef read(f, o, e):\n    raise KeyError('token=abcdefgh1')\n", "KeyError in read: 'token=***"),
    ],
)
def test_a_broken_format_costs_one_line_or_its_own_runs(project: Project, code: str, says: str) -> None:
    project.install(code)
    assert says in project.run("sync")[1]
    assert AGENTV in project.runs()


def test_runs_of_a_format_that_cannot_be_loaded_stay(project: Project, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "results.git")
    repo.commit({"runs/r1/toy.json": json.dumps({"began": "2026-02-01T09:00:00.000Z", "cost": 1, "results": {}})})
    settings = project.root / "indexer.toml"
    settings.write_text(f'{settings.read_text()}[[source]]\nname = "g"\nkind = "git"\npath = "{repo.path}"\n')
    project.install()
    project.run("sync")
    before = project.runs()
    assert before.keys() == {"toy:t1", "toy:t2", "toy:r1", AGENTV}
    project.install("import nosuch")
    for _ in range(2):
        told, said = project.run("sync")
        assert "nothing changed" in told
        assert "format toy (toy_format) is not used: ModuleNotFoundError" in said
    project.write("toys/t1", {"cost": 0.5, "results": {"add": False}})
    repo.commit({"runs/r1": None, "runs/r2/toy.json": json.dumps({"began": "2026-02-01T09:00:00.000Z", "cost": 1})})
    project.run("sync")
    assert project.runs() == before
    project.install(TOY)
    project.run("sync")
    after = project.runs()
    assert after.keys() == {"toy:t1", "toy:t2", AGENTV}  # r2 has no results: it is not read
    assert (before["toy:t1"]["passed"], after["toy:t1"]["passed"]) == (1, 0)
    (project.site / "toy_format-1.0.dist-info/entry_points.txt").write_text("")  # no longer installed
    project.run("sync")
    assert project.runs().keys() == {AGENTV}


def test_what_a_format_raises_about_a_name_costs_nobody_else(project: Project) -> None:
    told = "\ndef recognises(folder):\n    raise Unreadable('', 'x', 'y')\nis_file = run_of_overlay = recognises\n"
    project.install(TOY + told)
    _, said = project.run("sync")
    assert (AGENTV in project.runs(), "not read" in said) == (True, False)


def test_a_new_format_has_the_commits_of_its_runs(project: Project, tmp_path: Path) -> None:
    repo = Repo(tmp_path / "results.git")
    began = {"began": "2026-02-01T09:00:00.000Z", "cost": 1, "results": {"a": True}}
    commit = repo.commit({"runs/r1/toy.json": json.dumps(began)})
    settings = f'[[source]]\nname = "g"\nkind = "git"\npath = "{repo.path}"\n'
    (project.root / "indexer.toml").write_text(settings)
    project.run("sync")
    project.install()
    project.run("sync")
    assert project.runs()["toy:r1"]["sha"] == commit
    assert project.run("check")[0] == "the index equals its sources\n"


@pytest.mark.parametrize("kept_by", ["us", "the user"])
def test_a_clone_gets_the_files_that_a_new_format_reads(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_by: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repo = Repo(tmp_path / "results.git")
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.commit({"runs/r1/toy.json": json.dumps({"began": "2026-02-01T09:00:00.000Z", "cost": 1, "results": {}})})
    place = f'url = "file://{repo.path}"'
    if kept_by == "the user":
        clone = tmp_path / "clone.git"
        repo.git("clone", "--quiet", "--bare", "--filter=blob:none", f"file://{repo.path}", str(clone))
        place = f'path = "{clone}"'
    (project.root / "indexer.toml").write_text(f'[[source]]\nname = "g"\nkind = "git"\n{place}\n')
    project.run("sync")
    project.install()
    assert project.run("sync") == ("g: 1 added, 0 changed, 0 removed\n", "")
    assert project.runs().keys() == {"toy:r1"}


def test_a_format_may_be_imported_before_the_program(project: Project) -> None:
    """As its own unit tests do: what it imports here must not load the formats, itself among them."""
    project.install("from indexer.masking import error_line\n" + TOY)
    tried = (
        "import toy_format, indexer.formats; print(list(indexer.formats.UNUSABLE), 'toy' in indexer.formats.VERSIONS)"
    )
    process = subprocess.run(
        [sys.executable, "-c", tried],
        env=os.environ | {"PYTHONPATH": str(project.site)},
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == ("[] True\n", "")


def test_of_two_that_claim_a_folder_the_first_reads_it_and_one_problem_says_so(project: Project) -> None:
    greedy = TOY.replace('KEY = "toy"', 'KEY = "zoo"').replace('f"toy:{', 'f"zoo:{')
    greedy = greedy.replace('return "toy.json" in folder.files()', "return bool(folder.files())")
    project.install()
    project.install(greedy, "zoo", package="zoo-format")
    _, said = project.run("sync")
    assert AGENTV in project.runs()
    assert "toy:t1" in project.runs()
    assert f"not read: a: .agentv/results/runs/e/{NAME}: read as agentv; also claimed by zoo" in said
    assert said.count("also claimed by") == 3


def test_two_packages_with_one_name(project: Project) -> None:
    project.install()
    project.install(package="a-toy-format")
    assert "is not used: another format has this name" in project.run("sync")[1]
    assert "toy:t1" in project.runs()
    for package in ("toy-format", "a-toy-format"):
        project.install("import nosuch", package=package)
    assert project.run("sync")[1].count("is not used: ModuleNotFoundError") == 2
    assert "toy:t1" in project.runs()
