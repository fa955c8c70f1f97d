"""The same question to a file and to the shared index made of it has the same answer."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.numbers import make_index
from indexer import Index, open_index
from indexer.errors import IndexerError, QueryError
from indexer.queries.engines import postgresql
from indexer.queries.filters import Filters
from indexer.queries.pages import SORTS, Position, segments
from indexer.queries.selection import select
from indexer.queries.shared_index import SharedIndex
from tests.agentevals import Server
from tests.bundles import at, bundle, row
from tests.commands import indexer
from tests.playground import month
from tests.shared.machines import Machine, asked, url_of

FILTERS: list[Filters] = [
    {}, {"experiment": "e*"}, {"target": "beta*"}, {"model": ["alpha-1", "nope"]}, {"dataset": "daily"},
    {"agent": "alpha"}, {"status": ["completed", "failed"]}, {"source": "team"}, {"tag": ["nightly", "a=b"]},
    {"since": "2026-10-10"},
    {"until": "2026-10-12T02:00:00Z"}, {"min_pass_rate": 0.8}, {"test": "parse-csv"}, {"test": "*t1"},
    {"search": "NIGHTLY 10-2"},
    {"test": [f"daily/{name}" for name in ("parse-csv", "fix-typo")] + [f"none {number}" for number in range(150)]},
    {"experiment": [f"none {number}" for number in range(150)] + ["e0"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("reading") / "anna", "anna", url_of(postgres))
    month(machine.local / "jobs")
    for day in range(1, 13):
        name = f"2026-01-{day:02}T08-00-00-000Z"
        rows = [
            row("t1", day / 12, cost_usd=0.1 * day, target=None if day % 4 else "mock-alpha"),
            row("t1", 0.2, suite=None, error="100%_\\ broken [x]" if day % 3 else None, status="execution_error"),
            row("t2", 0.9, input_tokens=None if day % 2 else 10**9),
        ]
        tags = {"tags": ["nightly", "a=b"], "updated_at": "2026-02-01T00:00:00.000Z"} if day % 2 else None
        run = bundle(rows=rows, experiment=f"e{day % 3}", name=name, tags=tags)
        machine.repo.commit(at(f"runs/e{day % 3}/{name}", run), message=f"day {day}")
    machine.sync()
    machine.publish()
    return machine


@pytest.fixture(scope="module")
def both(machine: Machine) -> Iterator[tuple[Index, Index]]:
    with open_index(machine.db) as file, open_index(machine.url) as shared:
        assert isinstance(shared, SharedIndex)
        yield file, shared


def plain(found: Any) -> Any:
    """An answer as JSON, without what only one engine counts."""
    if isinstance(found, list | tuple):
        return [plain(each) for each in found]
    if isinstance(found, dict):
        return {str(name): plain(value) for name, value in found.items() if name not in ("rev", "looked_at", "machine")}
    return found


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        known = isinstance(one, int | float) and isinstance(other, int | float)
        return known and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(alike(value, other[name]) for name, value in one.items())
    return bool(one == other and type(one) is type(other))


def answer(index: Index, question: Callable[[Index], Any]) -> Any:
    try:
        return plain(question(index))
    except IndexerError as error:
        return [type(error).__name__, str(error)]


def require_alike(both: tuple[Index, Index], question: Callable[[Index], Any]) -> Any:
    file, shared = (answer(index, question) for index in both)
    assert alike(file, shared), (file, shared)
    return file


@pytest.mark.parametrize("filters", FILTERS)
def test_lists_and_questions(both: tuple[Index, Index], filters: Filters) -> None:
    for sort in SORTS if not filters else ("timestamp", "pass_rate"):
        for sign in ("", "-"):
            require_alike(both, lambda index: list(index.each_run(sort=sign + sort, **filters)))  # noqa: B023
    require_alike(both, lambda index: index.count(**filters))
    require_alike(both, lambda index: list(index.each_trial(**filters)))
    require_alike(both, lambda index: index.nearest(filters))
    for asking in (
        lambda index: index.drift(every=True, **filters),
        lambda index: index.drift(window="10d", **filters),
        lambda index: index.flaky(**filters),
        lambda index: index.failures(**filters),
        lambda index: index.leaderboard(**filters),
        lambda index: index.compare({"target": "alpha*"}, {"target": "beta*"}, **filters),
        lambda index: index.compare({"since": "2026-10-15"}, {"until": "2026-10-15"}, **filters),
        lambda index: index.compare("nightly-2026-10-20", "nightly-2026-10-21", **filters),
    ):
        require_alike(both, asking)


@pytest.mark.parametrize(
    "by",
    ["experiment", "target", "agent", "model", "dataset", "test", "source", "host", "day", "week", "month", "tag:a"],
)
@pytest.mark.parametrize("across", [None, "target", "test", "day"])
@pytest.mark.parametrize("k", [1, 2])
def test_boards(both: tuple[Index, Index], by: str, across: str | None, k: int) -> None:
    require_alike(both, lambda index: index.leaderboard(by=by, across=across, k=k))
    kolkata = ZoneInfo("Asia/Kolkata")
    require_alike(both, lambda index: index.in_zone(kolkata).leaderboard(by=by, across=across, k=k, since="2026-10-05"))


def test_runs_trials_tests_and_names(both: tuple[Index, Index]) -> None:
    names = ("latest", "latest~3", "latest:e1", "tag:nightly", "tag:nightly~1", "live", "nightly-2026-10-2",
             "nightly-2026-10-21", "e1/2026-01-01", "agentv:e1::2026", "nope", "")  # fmt: skip
    for name in names:
        found = require_alike(both, lambda index: index.run(name))  # noqa: B023
        if isinstance(found, dict):
            require_alike(both, lambda index: list(index.each_trial(name)))  # noqa: B023
            trial = require_alike(both, lambda index: index.trials(name, limit=1).trials)[0]["trial"]  # noqa: B023
            require_alike(both, lambda index: index.trial(name, trial[:8]))  # noqa: B023
    for test in ("t1", "/t1", "refund/t1", "daily/parse-csv", "parse", "nope"):
        require_alike(both, lambda index: index.history(test))  # noqa: B023
        require_alike(both, lambda index: index.history(test, target="beta*", since="2026-10-05"))  # noqa: B023
    for asked_for in (
        {"error": "no ANSWER"}, {"error": "100%_\\ broken [x]"}, {"error_type": "Agent*"},
        {"error_type": ["?gentTimeoutError", "x[y"]},
        {"trial_status": ["errored", "failed"]}, {"trial_status": "running"}, {"error": "no", "target": "beta*"},
    ):  # fmt: skip
        require_alike(both, lambda index: list(index.each_trial(**asked_for)))  # noqa: B023
    for of in ("experiment", "target", "agent", "model", "dataset", "status", "source", "tag"):
        require_alike(both, lambda index: index.values(of))  # noqa: B023
        require_alike(both, lambda index: index.completions(of, "e"))  # noqa: B023
        assert all(index.completions(of, "") for index in both)
    require_alike(
        both, lambda index: [index.error_types(), index.unnamed(), index.completions("run", "n"), index.problems()]
    )
    require_alike(
        both, lambda index: [index.sources(), index.trends(["e1"]), index.datasets([index.run("latest")["key"]])]
    )
    require_alike(both, lambda index: index.matching([run["key"] for run in index.runs()], target="beta*"))
    require_alike(both, lambda index: sorted((change["key"], change["deleted"]) for change in index.changes().changes))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    filters=st.fixed_dictionaries(
        {},
        optional={
            "experiment": st.sampled_from(["e1", "e*", "nightly-*", "x"]),
            "target": st.sampled_from(["alpha*", "beta/beta-2", "mock*"]),
            "model": st.sampled_from(["alpha-1", "*"]),
            "test": st.sampled_from(["t1", "/t1", "daily/*", "fix-typo"]),
            "status": st.sampled_from(["completed", "running", "failed"]),
            "tag": st.sampled_from(["nightly", "a=*"]),
            "search": st.text(alphabet="en1-a ", max_size=4),
            "since": st.dates().map(str),
            "min_pass_rate": st.floats(0, 1),
        },
    ),
    question=st.sampled_from(["runs", "trials", "leaderboard", "failures", "flaky", "drift"]),
)
def test_any_filters(both: tuple[Index, Index], filters: Any, question: str) -> None:
    asking: dict[str, Callable[[Index], Any]] = {
        "runs": lambda index: list(index.each_run(**filters)),
        "trials": lambda index: list(index.each_trial(**filters)),
        "drift": lambda index: index.drift(every=True, **filters),
    }
    require_alike(both, asking.get(question, lambda index: getattr(index, question)(**filters)))


@pytest.mark.parametrize(
    "command",
    [
        "runs --json", "runs --csv --sort cost_usd", "runs --search night --json", "trials latest --json",
        "show nightly-2026-10-21 --json",
        "compare nightly-2026-10-20 nightly-2026-10-21 --json", "history daily/parse-csv --json", "drift --json",
        "flaky --json", "failures --json", "leaderboard --by model --json", "compare latest~1 latest", "show latest",
    ],
)  # fmt: skip
def test_commands(machine: Machine, command: str) -> None:
    words, wide = command.split(), {"COLUMNS": "200", "TZ": "UTC"}
    of_file = indexer(machine.root, *words, "--db", machine.db, **wide)
    by_variable = indexer(machine.root, *words, **wide, INDEXER_DB=machine.url)
    shared = indexer(machine.root, *words, "--db", machine.url, **wide)
    assert of_file.returncode == shared.returncode == 0, shared.stderr
    assert by_variable.stdout == shared.stdout
    if "--json" not in command:
        assert shared.stdout.replace(" ", "") == of_file.stdout.replace(" ", "")
        return
    one, other = ([plain(json.loads(line)) for line in done.stdout.splitlines()] for done in (of_file, shared))
    assert alike(one, other)


def test_a_shared_index_is_no_file(machine: Machine) -> None:
    for writing in ("sync", "rebuild", "watch"):
        done = indexer(machine.root, writing, "--db", machine.url)
        assert done.returncode == 2
        assert "a shared index is written by `indexer publish`" in done.stderr
    secret = machine.url.replace("postgresql://", "postgresql://postgres:hunter2canary@")
    for command in (["runs", "--db", secret], ["publish", secret]):
        done = indexer(machine.root, *command)
        assert done.returncode == 2
        assert "other users can see a password on the command line" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
    with open_index(machine.url) as index, pytest.raises(QueryError):
        index.select("SELECT nonsense FROM runs")


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
def test_pages_are_read_by_index(tmp_path: Path, postgres: Server, sort: str) -> None:
    """No page sorts or reads the whole table, whatever leads to it."""
    url = url_of(postgres)
    path = tmp_path / "index.db"
    make_index(path, 3_000).close()
    machine = Machine(tmp_path / "anna", "anna", url)
    machine.db = path
    machine.publish()
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    with open_index(path) as file:
        filters: list[Filters] = (
            [{}] if column != "timestamp" else [{}, {"experiment": "e3"}, {"target": "t1"}, {"tag": "baseline"}]
        )
        with psycopg.connect(url) as connection:
            connection.execute("SET search_path TO indexer_v8")
            for wanted in filters:
                with file._reading() as database:
                    selection = select(database, wanted)
                value: Any = "2026-01-06T00:00:00.000Z" if column == "timestamp" else 0.5
                for queries in list(segments(selection, column, descending, Position(value, "key 9"), 51))[:1]:
                    for query, values in queries:
                        text, given_values = postgresql(query, values)
                        with psycopg.ClientCursor(connection) as cursor:
                            plan = [line for (line,) in cursor.execute(f"EXPLAIN {text}".encode(), given_values)]
                        assert not any("Seq Scan" in line or "Sort" in line for line in plan), "\n".join(plan)
    assert asked(url, "SELECT count(*) FROM indexer.runs") == [(3_000,)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT nonsense FROM runs",
        "SELECT 1; SELECT 2",
        "DELETE FROM runs",
        "SELECT ?",
        "SELECT 1 -- ?",
        "",
        "commit",
    ],
)
def test_wrong_sql_is_one_line(both: tuple[Index, Index], query: str) -> None:
    with pytest.raises(QueryError, match=r"^sql: "):
        both[1].select(query)
    found = both[1].select("SELECT experiment FROM runs WHERE run_id = ?", "nightly-2026-10-21")
    assert found == [{"experiment": "nightly-2026-10-21"}]


def test_a_question_with_nul_finds_nothing(both: tuple[Index, Index]) -> None:
    wanted: list[Filters] = [{"experiment": "a\0"}, {"tag": "\0*"}, {"search": "\0"}, {"test": "\0"}]
    for filters in wanted:
        assert both[1].runs(**filters).runs == []
    require_alike(both, lambda index: [index.completions("run", "\0"), index.trials(error="\0").trials])


@pytest.mark.parametrize(
    "place",
    [
        "POSTGRES+psycopg://u:s3cret@h/db",
        "host=h password=s3cret",
        "postgresql:/u:s3cret@h/db",
        "mysql://u:s3cret@h/db",
    ],
)
def test_what_may_be_a_password_is_no_file_name(tmp_path: Path, place: str) -> None:
    (tmp_path / "indexer.toml").write_text(f'db = "{place}"\n')
    for words, environment in (
        (["runs", "--db", place], {}), (["runs"], {"INDEXER_DB": place}),
        (["sync"], {"INDEXER_DB": place}), (["status"], {}),
    ):  # fmt: skip
        done = indexer(tmp_path, *words, **environment)
        assert done.returncode == 2
        assert "s3cret" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["indexer.toml"]


def test_options_of_the_url_stay_and_nothing_is_written(machine: Machine) -> None:
    with open_index(f"{machine.url}&options=-c%20statement_timeout%3D7s") as index:
        names = ("statement_timeout", "default_transaction_read_only")
        found = index.select(f"SELECT {', '.join(f'current_setting({name!r}) AS {name}' for name in names)}")
    assert found == [{"statement_timeout": "7s", "default_transaction_read_only": "on"}]
