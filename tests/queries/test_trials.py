"""Pages of trials, against all rows read by plain SQL."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.numbers import make_index
from indexer import Index, open_index
from indexer.errors import QueryError, UnknownTrialError
from indexer.queries.filters import Filters
from indexer.queries.selection import select
from indexer.queries.trials import leading, wanted
from tests.bundles import NAME, at, bundle, row
from tests.worlds import World

EVERYTHING = """
SELECT t.*, r.key AS run_key, r.status AS run_status, r.experiment, r.source, r.tags,
       (SELECT group_concat(s.reason) FROM scores s WHERE s.trial_pk = t.id) AS reasons
FROM trials t JOIN runs r ON r.id = t.run_pk
"""
OF_TRIALS: list[dict[str, Any]] = [
    {"trial_status": "failed"},
    {"trial_status": ["errored", "passed"]},
    {"error_type": "Error2"},
    {"error": "SANDBOX 1"},
    {"error": "because"},
    {"test": "suite/test-7"},
]
OF_RUNS: list[dict[str, Any]] = [
    {"experiment": "e3"},
    {"target": "t2"},
    {"model": ["m1", "m4"]},
    {"status": "completed"},
    {"source": "s1"},
    {"tag": "baseline"},
    {"since": "2026-01-05T09:00:00Z"},
    {"min_pass_rate": 0.5},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("trials") / "index.db"
    database = make_index(path, 240, 7)
    database.execute("UPDATE scores SET reason = 'Because ' || id WHERE id % 50 = 0")
    database.execute(
        "INSERT OR REPLACE INTO _errors (timestamp, run_key, run_pk, text) SELECT r.timestamp, r.key, r.id, "
        "group_concat(lower(coalesce(t.error, '') || x'0a' || coalesce(s.reason, '')), x'0a') "
        "FROM runs r JOIN trials t ON t.run_pk = r.id JOIN scores s ON s.trial_pk = t.id GROUP BY r.id"
    )
    database.close()
    with open_index(path) as opened:
        yield opened


def is_wanted(trial: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether a row is what the contract says of these filters."""

    def is_one(value: Any, name: str) -> bool:
        return name not in asked or value in (asked[name] if isinstance(asked[name], list) else [asked[name]])

    text = f"{trial['error']} {trial['reasons']}".lower()
    return (
        is_one(trial["status"], "trial_status")
        and is_one(trial["error_type"], "error_type")
        and is_one(f"{trial['suite']}/{trial['test_id']}", "test")
        and is_one(trial["target"], "target")
        and is_one(trial["model"], "model")
        and is_one(trial["experiment"], "experiment")
        and is_one(trial["run_status"], "status")
        and is_one(trial["source"], "source")
        and ("error" not in asked or asked["error"].lower() in text)
        and ("tag" not in asked or asked["tag"] in trial["tags"])
        and ("since" not in asked or trial["timestamp"] >= asked["since"].replace("Z", ".000Z"))
        and ("min_pass_rate" not in asked or (trial["rate"] or 0) >= asked["min_pass_rate"])
    )


def walk(index: Index, limit: int, cursor: str | None = None, **asked: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while True:
        page = index.trials(limit=limit, cursor=cursor, **asked)
        found += [(trial["run_key"], trial["trial"]) for trial in page]
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page) == limit


@pytest.mark.parametrize("limit", [37, 1000])
@pytest.mark.parametrize(
    "asked", [{}, *OF_TRIALS, *OF_RUNS, *({**a, **b} for a, b in itertools.product(OF_TRIALS, OF_RUNS))]
)
def test_pages_give_every_trial_that_is_asked_for_once_in_order(
    index: Index, asked: dict[str, Any], limit: int
) -> None:
    rows = index.select(EVERYTHING.replace("t.*,", "t.*, r.pass_rate AS rate,"))
    rows.sort(key=lambda trial: trial["trial"])
    rows.sort(key=lambda trial: (trial["timestamp"], trial["run_key"]), reverse=True)
    expected = [(trial["run_key"], trial["trial"]) for trial in rows if is_wanted(trial, asked)]
    assert expected or len(asked) > 1
    assert walk(index, limit, **asked) == expected


@pytest.mark.parametrize(
    ("asked", "of_trials"),
    [
        *(({}, {"status": status}) for status in ("passed", "failed", "errored", "skipped", "cancelled", "running")),
        ({}, {"error_type": "Error1"}),
        ({"test": "test-7"}, {}),
        ({"test": ["test-7", "test-8"]}, {"status": "failed"}),
        ({"target": "t2"}, {}),
        ({"experiment": "e3"}, {}),
        ({}, {"error": "sandbox"}),
        ({}, {}),
    ],
)
def test_runs_are_led_to_by_index(index: Index, asked: dict[str, Any], of_trials: dict[str, Any]) -> None:
    database = sqlite3.connect(index.path)
    selection = select(database, cast("Filters", asked))
    for position in (None, ("2026-01-05T10:00:00.000Z", "key 9", "x")):
        queries = leading(database, selection, wanted(**of_trials), position)
        assert queries
        for statement, parameters in queries:
            plan = [step[3] for step in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            # within one timestamp the keys of runs are sorted: those of a test's index are not in it
            assert not [step for step in plan if "TEMP B-TREE" in step and "PART OF ORDER BY" not in step], (
                statement,
                plan,
            )
            assert not [step for step in plan if step.startswith("SCAN") and "USING" not in step and "_errors" not in
                        statement], (statement, plan)  # fmt: skip
    database.close()


def test_a_page_goes_on_after_its_trial_went(tmp_path: Path) -> None:
    database = make_index(tmp_path / "index.db", 6, 5)
    with open_index(tmp_path / "index.db") as index:
        everything = walk(index, 1000)
        page = index.trials(limit=7)
        key, name = everything[6]
        database.execute("DELETE FROM scores WHERE trial_pk IN (SELECT id FROM trials WHERE trial = ?)", (name,))
        database.execute("DELETE FROM trials WHERE trial = ?", (name,))
        assert walk(index, 1000, cursor=page.next_cursor) == everything[7:]
        database.execute("DELETE FROM trials WHERE run_pk = (SELECT id FROM runs WHERE key = ?)", (key,))
        assert walk(index, 1000, cursor=page.next_cursor) == [each for each in everything[7:] if each[0] != key]
    database.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"trial_status": "bogus"},
        {"error": ""},
        {"error_type": 7},
        {"error": "\ud800"},
        {"cursor": "x"},
        {"limit": 0},
        {"test": 3},
    ],
)
def test_wrong_values_are_told(index: Index, wrong: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        index.trials(**wrong)


def test_a_cursor_is_bound_to_what_was_asked(index: Index) -> None:
    cursor = index.trials(limit=1, trial_status="failed").next_cursor
    others: list[dict[str, Any]] = [{}, {"trial_status": "passed"}, {"trial_status": "failed", "experiment": "e1"}]
    for other in others:
        with pytest.raises(QueryError, match="another sort or other filters"):
            index.trials(cursor=cursor, **other)
    assert cursor is not None
    assert len(cursor) < 120


def test_one_trial_by_its_name_a_prefix_or_its_test(world: World) -> None:
    graders = [{"name": "a", "score": 0, "pass": False, "reason": "it says no\nmore"}]
    rows = [row("one", scores=graders), row("two"), row("twofold"), row("two", target="other")]
    world.repo.commit(at(f"runs/e/{NAME}", bundle(rows=rows)))
    world.sync()
    with open_index(world.db) as index:
        assert index.trial("latest", "one")["scores"][0]["reason"] == "it says no"
        assert index.trial("latest", "twofold")["test_id"] == "twofold"
        assert index.trial("latest", "refund/one/m")["trial"] == "refund/one/mock-alpha/1"
        assert index.trial("latest", "refund/one")["run_key"] == f"agentv:e::{NAME}"
        with pytest.raises(UnknownTrialError, match="'two' is ambiguous: refund/two/mock-alpha/1, refund/two/other/1"):
            index.trial("latest", "two")
        with pytest.raises(UnknownTrialError, match=r"no trial of agentv:e::.* is called 'three'; `indexer trials"):
            index.trial("latest", "three")
        assert [t["test_id"] for t in index.trials(error="SAYS NO")] == ["one"]
        assert [t["test_id"] for t in index.trials("latest", status="passed", test="two*", target="other")] == ["two"]
