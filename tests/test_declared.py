"""A filter is one entry and a question one module: both are then in the command line, `/api`, Python and the docs."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from indexer import Index, open_index
from indexer.queries.filters import DECLARED
from indexer.queries.questions import QUESTIONS
from indexer.queries.runs import PUBLIC
from indexer.queries.types import RunRow, TargetRow, TrialRow
from indexer.store.rows import TARGET, TRIAL
from tests.bundles import at, bundle
from tests.web.serving import Server
from tests.worlds import World

TOY = """
from indexer.queries import filters
filters.DECLARED["host"] = filters.Filter(help="Runs on this machine.", table="runs", column="host")
from indexer.queries import questions
from indexer.queries.question import Parameter, Question
from indexer.queries.selection import select
def toys(database, wanted, reader, *, size=1):
    where, values = select(database, wanted, reader.zone).of_trials()
    query = f"SELECT count(DISTINCT r.id) FROM runs r JOIN trials t ON t.run_pk = r.id WHERE 1{where}"
    return [{"toys": size, "runs": database.execute(query, values).fetchone()[0]}]
questions.QUESTIONS["toys"] = Question(
    name="toys", help="Count toys.", example="indexer toys", answer=toys, rows=True, filters=tuple(filters.DECLARED),
    parameters={"size": Parameter(help="How large.", kind="number", default=1)},
)
"""


@pytest.fixture
def toy(world: World) -> World:
    for number in range(2):
        world.repo.commit(at(f"runs/e{number}/2026-01-05T09-00-00-000Z", bundle(experiment=None)))
    world.sync()
    world.execute("UPDATE runs SET host = 'box' WHERE experiment = 'e1'")
    return world


def run(world: World, *arguments: str) -> str:
    code = f"{TOY}\nfrom indexer.cli.main import main\nmain()"
    command = [sys.executable, "-c", code, *arguments, *(["--db", str(world.db)] if "--help" not in arguments else [])]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_new_filter_and_a_new_question_are_everywhere(toy: World, tmp_path: Path) -> None:
    assert json.loads(run(toy, "toys", "--size", "3", "--host", "box", "--json")) == {"toys": 3, "runs": 1}
    assert run(toy, "toys").split() == ["TOYS", "RUNS", "1", "2"]
    assert [json.loads(line)["experiment"] for line in run(toy, "runs", "--host", "b*", "--json").splitlines()] == [
        "e1"
    ]
    assert "Runs on this machine" in run(toy, "leaderboard", "--help")
    assert "Count toys." in run(toy, "--help")
    python = """
import json, sys
from indexer import open_index
with open_index(sys.argv[1]) as index:
    found = [run["experiment"] for run in index.runs(host="box")]
    print(json.dumps([index.ask("toys", size=2, host="box"), found]))
"""
    command = [sys.executable, "-c", TOY + python, str(toy.db)]
    assert json.loads(subprocess.check_output(command)) == [[{"toys": 2, "runs": 1}], ["e1"]]
    docs = TOY + "import sys; from typer.cli import app\n"
    docs += "sys.argv = ['typer', 'indexer.cli.commands', 'utils', 'docs', '--name', 'indexer']; app()"
    page = subprocess.check_output([sys.executable, "-c", docs], text=True)
    assert "## `indexer toys`" in page
    assert page.count("--host") > 5
    serve = f"{TOY}\nfrom indexer.cli.main import main\nmain()"
    (tmp_path / "indexer.toml").touch()
    with Server(sys.executable, "-c", serve, "serve", "--db", str(toy.db), cwd=tmp_path) as server:
        assert server.get("/api/toys?size=4&host=box").json == {"toys": [{"toys": 4, "runs": 1}]}
        assert [run["experiment"] for run in server.get("/api/runs?host=box").json["runs"]] == ["e1"]
        assert 'name="host"' in server.get("/runs").text


@pytest.mark.parametrize("name", QUESTIONS)
def test_python_has_a_method_for_each_question(name: str) -> None:
    declared = QUESTIONS[name]
    parameters = inspect.signature(getattr(Index, name)).parameters
    assert {*declared.parameters, "self", "wanted"} == set(parameters)
    for parameter, each in declared.parameters.items():
        if not each.required and each.kind != "side":
            assert parameters[parameter].default == each.default
    assert set(declared.filters) <= set(DECLARED)


def test_rows_are_typed_as_they_are() -> None:
    assert set(RunRow.__annotations__) == set(PUBLIC)
    assert set(TrialRow.__annotations__) == {*TRIAL, "scores", "run_key", "run_id", "experiment", "timestamp"}
    own = {"run_key", "timestamp", "experiment", "on_boards"}
    assert set(TargetRow.__annotations__) == set(TARGET) - own


WRONG = """
from indexer import open_index
with open_index("x") as index:
    index.runs(experimnet="nightly")
    index.history("t1", test="t2")
    index.runs(limit="3")
    index.runs()[0]["pass_rat"]
"""


def test_a_misspelt_filter_fails_a_type_check(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    cache = str(tmp_path / "cache")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, str(tmp_path / "wrong.py")]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    assert [f"wrong.py:{line}: error" in said for line in (4, 5, 6, 7)] == [True] * 4, said


def test_pages_are_sequences(world: World) -> None:
    for number in range(5):
        world.repo.commit(at(f"runs/e/2026-01-0{number + 1}T09-00-00-000Z", bundle(experiment=None)))
    world.sync()
    with open_index(world.db) as index:
        page = index.runs(limit=2)
        assert (len(page), page[0]["timestamp"][:10], len(page[:1])) == (2, "2026-01-05", 1)
        assert repr(page) == "<Page of 2, more follow>"
        assert [run["key"] for run in index.each_run()] == [run["key"] for run in index.runs()]
        assert len(list(index.each_trial(page[0]["key"]))) == 2
        assert repr(index) == f"Index({str(world.db)!r})"
