"""`/api` gives what the Python interface gives, and a clear error for everything else."""

import gzip
import random
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from indexer import open_index
from tests.bundles import at, bundle, row
from tests.web.serving import Server, serving
from tests.worlds import World

ODD = "ünï/co%de::x & <b>"
HALF_A_CHARACTER = "W3sic29ydCI6Ii10aW1lc3RhbXAifSwiMjAyNiIsIlx1ZDgwMCJd"  # [{"sort":"-timestamp"},"2026","\\ud800"]
DAYS = [f"2026-01-{day:02}T09-00-00-000Z" for day in range(5, 12)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("api"))
    for number, day in enumerate(DAYS):
        rows = [
            row("t1", 0.9 - number / 10),
            row(ODD, 1.0),
            row("t3", 0.0, status="execution_error", error="no answer"),
        ]
        files = bundle(rows=rows, tags={"tags": ["baseline"]} if number == 2 else None, experiment=None)
        world.repo.commit(at(f"runs/{'other' if number % 2 else 'nightly'}/{day}", files))
    world.sync()
    return world


def test_it_gives_what_python_gives(world: World, server: Server) -> None:
    with open_index(world.db) as index:
        page = index.runs(limit=3, sort="-pass_rate", experiment="nightly")
        query = {"limit": 3, "sort": "-pass_rate", "experiment": "nightly"}
        told = server.get(f"/api/runs?{urlencode(query)}").json
        assert told == {"runs": page.runs, "next_cursor": page.next_cursor}
        rest = server.get(f"/api/runs?{urlencode(query | {'cursor': told['next_cursor']})}").json
        assert [run["key"] for run in told["runs"] + rest["runs"]] == [
            run["key"] for run in index.runs(sort="-pass_rate", experiment="nightly").runs
        ]
        assert "id" not in told["runs"][0]
        assert server.get("/api/runs?tag=baseline").json["runs"][0]["tags"] == ["baseline"]
        key = page.runs[0]["key"]
        assert server.get(f"/api/run?key={quote(key)}").json == index.run(key)
        trials = index.trials(key, limit=2)
        assert server.get(f"/api/trials?key={quote(key)}&limit=2").json == {
            "trials": trials.trials,
            "next_cursor": trials.next_cursor,
        }
        errored = server.get(f"/api/trials?key={quote(key)}&status=errored").json["trials"]
        assert [trial["error"] for trial in errored] == ["no answer"]
        for path, expected in {
            "/api/compare?a=latest~1&b=latest": index.compare("latest~1", "latest"),
            f"/api/history?test={quote('refund/' + ODD)}": index.history(f"refund/{ODD}"),
            "/api/drift?window=2": index.drift(window="2"),
            "/api/leaderboard?k=1": {"leaderboard": index.leaderboard()},
            "/api/failures?limit=1": {"failures": index.failures(limit=1)},
        }.items():
            assert server.get(path).json == _as_json(expected), path


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(each) for name, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/nope", 404, "no such address; the addresses are /api/runs, "),
        ("/api/runs?limit=x", 400, "limit: 'x' is not a number"),
        ("/api/runs?limit=0", 400, "limit"),
        ("/api/runs?limit=%D9%A3", 400, "not a number"),
        ("/api/runs?sort=size", 400, "sort"),
        ("/api/runs?cursor=x", 400, "cursor"),
        (f"/api/runs?cursor={HALF_A_CHARACTER}", 400, "cursor"),
        ("/api/runs?limit=1_0", 400, "limit: '1_0' is not a number"),
        ("/api/runs?min_pass_rate=2", 400, "min_pass_rate"),
        ("/api/runs?min_pass_rate=nan", 400, "min_pass_rate"),
        ("/api/runs?colour=red", 400, "no parameter 'colour'"),
        ("/api/run", 400, "key: must be given"),
        ("/api/run?key=nope", 404, "nope"),
        ("/api/run?key=latest", 404, "there is no run with the key 'latest'"),
        ("/api/trials?key=nope", 404, "nope"),
        ("/api/trials?key=nope&status=great", 404, "nope"),
        ("/api/compare?a=latest", 400, "b: must be given"),
        ("/api/compare?a=latest&b=nope", 404, "nope"),
        ("/api/history?test=nope", 404, "no test is called"),
        ("/api/drift?window=x", 400, "window"),
        ("/api/leaderboard?k=0", 400, "k: 0"),
        ("/api/changes?since=x", 400, "not a change token"),
        ("/api/changes?since=0123456789abcdef.3", 409, "list all runs again"),
    ],
)
def test_errors(server: Server, path: str, status: int, says: str) -> None:
    answer = server.get(path)
    assert answer.status == status
    assert says in answer.json["error"]


def test_an_unchanged_answer_is_not_sent_again(world: World, server: Server) -> None:
    first = server.get("/api/runs?limit=1")
    tag = first.headers["etag"]
    again = server.get("/api/runs?limit=1", If_None_Match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert server.get("/api/runs?limit=2", If_None_Match=tag).status == 200
    page = server.get("/runs")
    assert server.get("/runs", If_None_Match=page.headers["etag"]).status in (200, 304)  # ages grow
    refused = server.get("/api/runs", "POST")
    assert (refused.status, refused.json) == (405, {"error": "only GET is allowed"})
    assert server.get("/api/runs", "HEAD").body == b""


def test_the_api_tells_of_itself_and_what_it_says_is_taken(server: Server) -> None:
    told = server.get("/api").json
    assert told["openapi"].startswith("3.")
    for path, operation in told["paths"].items():
        names = {each["name"] for each in operation["get"]["parameters"]}
        assert server.get(f"{path}?{urlencode(dict.fromkeys(names, ''))}").status in (200, 400, 404), path
        assert "no parameter" not in server.get(f"{path}?{urlencode(dict.fromkeys(names, ''))}").text, path
        assert "no parameter" in server.get(f"{path}?nonsense=1").text, path
    assert "/api/leaderboard" in told["paths"]


def test_long_answers_are_packed_for_who_takes_that(server: Server) -> None:
    plain, packed = server.get("/api"), server.get("/api", Accept_Encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in server.get("/api", Accept_Encoding="gzip;q=0").headers
    assert server.get("/api", Accept_Encoding="gzip", If_None_Match=packed.headers["etag"]).status == 304
    assert "Accept-Encoding" in plain.headers["vary"]


def test_changes_and_health(world: World, server: Server) -> None:
    told = server.get("/api/changes").json
    assert len(told["changes"]) == len(DAYS)
    assert server.get(f"/api/changes?since={told['next']}").json == {"changes": [], "next": told["next"]}
    health = server.get("/api/health")
    assert (health.status, health.json["healthy"], health.json["writer"]) == (200, True, None)
    assert [source["name"] for source in health.json["sources"]] == ["team", "local"]
    assert health.json["sources"][0]["lag_s"] >= 0


def test_a_source_that_fails_for_long_is_no_health(world: World) -> None:
    away = world.local.rename(world.root / "away")
    try:
        world.sync()
        with serving(world) as server:
            assert server.get("/api/health").status == 200  # not for long
        script = "UPDATE sources SET failing_since = '2026-01-01T00:00:00.000Z' WHERE failing_since IS NOT NULL"
        world.execute(script)
        with serving(world) as server:
            answer = server.get("/api/health")
            assert (answer.status, answer.json["failing"]) == (503, ["local"])
    finally:
        away.rename(world.local)
        world.sync()


@pytest.mark.slow
def test_no_request_is_an_error_of_ours(server: Server) -> None:
    chance = random.Random(11)
    paths = [
        *(f"/api/{name}" for name in ("runs", "run", "trials", "compare", "history", "drift", "leaderboard")),
        *("/api/failures", "/api/changes", "/api/health", "/runs", "/runs/live", "/run", "/file", "/compare"),
        *("/history", "/dashboards"),
    ]
    names = ["limit", "cursor", "sort", "experiment", "target", "model", "status", "source", "tag", "since", "until"]
    names += ["min_pass_rate", "commit", "key", "a", "b", "test", "window", "k", "path", "run", "token", "days", "x\0y"]
    values = ["", "0", "1", "-1", "1e999", "nan", "inf", "9" * 30, "latest", "latest~1", "tag:baseline", "nightly", ODD]
    values += ["\0", "'", '"; --', "%", "../../etc/passwd", "7d", "99999w", "9999-12-31", "0001-01-01", "\ud7ff", "🦊"]
    values += [
        "timestamp",
        "-cost_usd",
        "completed",
        "t1",
        "refund/t1",
        "10",
        "bnVsbA",
        "WzEsMixudWxsXQ",
        "abcd",
        "(" * 500,
    ]
    statuses = set()
    for number in range(1_000):
        query = [(chance.choice(names), chance.choice(values)) for _ in range(chance.randint(0, 3))]
        raw = urlencode(query) if number % 5 else "&".join(f"{n}={quote(v)[: chance.randint(0, 9)]}" for n, v in query)
        path = f"{chance.choice(paths)}?{raw.replace(chr(0), '%00')}"
        answer = server.get(path)
        statuses.add(answer.status)
        assert answer.status in (200, 400, 404, 409), (path, answer.body[:500])
    assert statuses == {200, 400, 404, 409} or statuses == {200, 400, 404}
