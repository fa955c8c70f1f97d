"""The queries of docs/sql.md, as people copy them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer.sources.commits import CommitSource
from indexer.store import file
from tests.bundles import NAME, at, bundle, row
from tests.jobs import job
from tests.repos import Repo
from tests.worlds import World

QUERIES = re.findall(
    r"```sql\n(.*?)```", (Path(__file__).parent.parent / "docs/sql.md").read_text("utf-8"), flags=re.DOTALL
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run that ended with tags, repeats, failures and a commit; another one of the same test; one in progress."""
    world = World(tmp_path_factory.mktemp("sql"))
    repeats = row("t2", samples=[{"score": score} for score in (1.0, 0.1, 1.0, 1.0, 0.1)])
    rows = [row("t1", duration_ms=3), repeats, row("t3", 0.0, status="execution_error", error="no answer")]
    world.repo.commit(at(f"runs/with_skills/{NAME}", bundle(rows=rows, tags={"tags": ["baseline"]})))
    world.repo.commit(at("runs/with_skills/2026-01-06T09-00-00-000Z", bundle(rows=[row("t1", 0.1)])))
    world.repo.commit(at("runs/live/2026-01-07T09-00-00-000Z", bundle(summary={}, planned=9)))
    world.write({".agentv/results/runs/broken/2026-01-07T09-00-00-000Z/benchmark.json": "{"})
    files = job(started_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
    files["lock.json"] = json.dumps({"created_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "pier": {"version": "1"}})
    world.write(at("jobs/today", files))
    code = Repo(world.root / "code.git")
    code.commit({}, ref="refs/heads/main", message=f"Fix\n\nAgentV-Run: with_skills::{NAME}\n")
    world.sources.append(CommitSource("code", code.path))
    world.sync()
    return world


def test_every_view_is_shown() -> None:
    views = re.findall(r"CREATE VIEW (\w+)", file.sql("views.sql"))
    assert len(views) == 7
    assert not [view for view in views if not re.search(rf"\b{view}\b", " ".join(QUERIES))]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_finds_something(world: World, query: str) -> None:
    rows = world.select(query)
    assert rows
    assert any(value is not None for value in rows[0].values())


def test_pass_at_2_in_sql(world: World) -> None:
    (query,) = [query for query in QUERIES if "pass_at_2" in query]
    assert world.select(query) == [
        {"experiment": "with_skills", "target": "mock-alpha", "pass_at_2": pytest.approx(0.9)}
    ]
