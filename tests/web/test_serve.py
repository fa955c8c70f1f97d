"""Who may ask, what they may do, and that the server follows whatever happens to the index."""

import csv
import html
import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from indexer.web.server import is_loopback
from tests.bundles import NAME, at, bundle, row
from tests.commands import COMMAND
from tests.observe import in_process, locks
from tests.web.serving import Server, configured, serving
from tests.worlds import World

TRICK = "<script>alert(1)</script>{{7*7}}\"'&javascript:x"
PAGES = ("/", "/runs", "/run", "/trials", "/trial", "/view", "/compare", "/history", "/dashboards")
BOARDS = ("/drift", "/failures", "/leaderboard", "/leaderboard?by=target")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("serve"))
    rows = [row(TRICK, 1.0, suite=TRICK, target=TRICK), row("t2", 0.0, status="execution_error", error=TRICK)]
    for number, name in enumerate((NAME, "2026-01-06T09-00-00-000Z")):
        files = bundle(rows=rows[number:], tags={"tags": [TRICK[:50]]}, experiment=TRICK)
        world.repo.commit(at(f"runs/{TRICK.replace('/', '_')}/{name}", files))
    world.sync()
    return world


def every_page(server: Server) -> Iterator[str]:
    runs = server.get("/api/runs").json["runs"]
    keys = [run["key"] for run in runs]
    yield from ("/", *BOARDS, "/trials", "/runs", "/dashboards", f"/runs?{urlencode({'experiment': TRICK})}")
    yield from (f"/run?key={quote(key)}" for key in keys)
    for trial in server.get("/api/trials").json["trials"]:
        yield f"/trial?{urlencode({'key': trial['run_key'], 'trial': trial['trial']})}"
    yield from (f"/view?{urlencode({'key': key, 'path': 'index.jsonl'})}" for key in keys)
    yield f"/compare?{urlencode([('run', key) for key in keys])}"
    yield f"/history?{urlencode({'test': f'{TRICK}/{TRICK}'})}"
    yield f"/history?{urlencode({'test': TRICK + 'nope'})}"


def test_names_are_text_on_every_page(server: Server) -> None:
    for path in every_page(server):
        answer = server.get(path)
        assert answer.status == (404 if path.endswith("nope") else 200), path
        assert "<script>alert" not in answer.text
        assert ">49" not in answer.text
        assert 'href="javascript:' not in answer.text
        if path not in ("/dashboards", "/drift", "/failures"):  # which name nothing here
            assert "&lt;script&gt;alert(1)" in answer.text, path
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "style=" not in answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_times_are_in_the_visitors_zone(server: Server) -> None:
    key = server.get("/api/runs").json["runs"][-1]["key"]
    page = f"/run?{urlencode({'key': key})}"
    for cookie, shown in (("", "2026-01-05T09:00:00+00:00"), ("zone=Asia%2FTokyo", "2026-01-05T18:00:00+09:00")):
        assert shown in server.get(page, Cookie=cookie).text
    assert server.get(page, Cookie="zone=..%2Fetc%2Fpasswd").status == 200
    tokyo = server.get("/runs?since=2026-01-05T17:00&until=2026-01-05T19:00", Cookie="zone=Asia%2FTokyo")
    assert tokyo.text.count("data-key") == 1


def test_a_run_at_the_end_of_all_times_breaks_no_page(world: World, tmp_path: Path) -> None:
    old = World(tmp_path)
    old.repo.commit(at("runs/e/0001-01-01T00-00-00-000Z", bundle()))
    old.repo.commit(at("runs/e/9999-12-31T23-59-59-999Z", bundle()))
    old.sync()
    with serving(old) as server:
        for zone in ("America/New_York", "Asia/Tokyo"):
            for page in ("/runs", "/dashboards", "/dashboards?experiment=with_skills"):
                assert server.get(page, Cookie=f"zone={quote(zone, safe='')}").status == 200, (zone, page)


def test_datasettes_own_pages_keep_to_themselves(server: Server) -> None:
    for path in ("/index", "/index/runs", "/index/trials", "/index/leaderboard", "/index/flaky_tests"):
        answer = server.get(path)
        assert answer.status == 200, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "<script>alert" not in answer.text
    assert "sorted by timestamp descending" in server.get("/index/runs").text
    assert "seconds" in server.get("/index/runs").text  # what its columns mean
    row = server.get("/index/trials.json?_shape=objects&_labels=on").json["rows"][0]
    assert row["run_pk"]["label"].startswith("<script>alert")  # a run's name instead of its number


def test_nobody_writes(world: World, server: Server) -> None:
    for sql in ("DELETE FROM runs", "DROP TABLE runs", "PRAGMA user_version = 7", "ATTACH 'x.db' AS x", "VACUUM"):
        answer = server.get(f"/index.json?{urlencode({'sql': sql})}")
        assert answer.status == 400, sql
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    answer = server.get(f"/index.json?{urlencode({'sql': endless})}")
    assert answer.status == 400
    assert "time limit" in answer.text or "interrupted" in answer.text
    assert len(server.get("/api/runs").json["runs"]) == 2


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:1234", True),
        ("localhost", True),
        ("[::1]:80", True),
        ("evil.example", False),
        ("evil.example:80", False),
        ("localhost.evil.example", False),
        ("", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_other_names_for_this_address_are_refused(server: Server, host: str, answered: bool) -> None:
    for path in ("/api/runs", "/runs", "/index.json"):
        assert (server.get(path, Host=host).status == 421) != answered


def test_a_site_that_is_named_may_read_the_api_and_no_other(world: World) -> None:
    mine, other = "https://example.org", "https://example.com"
    with Server(COMMAND, "serve", "--config", configured(world), "--allow-origin", mine) as server:
        for path, origin, allowed in (
            ("/api/runs", mine, mine), ("/api/runs", other, None), ("/runs", mine, None), ("/file", mine, None),
        ):  # fmt: skip
            assert server.get(path, Origin=origin).headers.get("access-control-allow-origin") == allowed


def test_the_list_as_comma_separated_values(server: Server) -> None:
    answer = server.get(f"/runs.csv?{urlencode({'experiment': TRICK, 'sort': 'timestamp'})}")
    rows = list(csv.DictReader(answer.text.splitlines()))
    told = server.get("/api/runs?sort=timestamp").json["runs"]
    assert [row["key"] for row in rows] == [run["key"] for run in told]
    assert answer.headers["content-type"].startswith("text/csv")
    assert server.get("/runs.csv?since=nonsense").status == 400


def test_files_of_a_run(world: World, server: Server) -> None:
    key = quote(server.get("/api/runs").json["runs"][0]["key"])
    names = server.get(f"/run?key={key}").text
    assert "index.jsonl" in names
    answer = server.get(f"/file?key={key}&path=index.jsonl")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert TRICK.encode() in answer.body.replace(b'\\"', b'"')
    for path in ("nope", "../../../HEAD", "/etc/passwd", "", "refund"):
        assert server.get(f"/file?key={key}&path={quote(path)}").status in (400, 404)


def test_one_clear_line(world: World, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        process = subprocess.run([COMMAND, "serve", *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert (process.returncode, process.stdout) == (1, "")
        assert process.stderr.count("\n") == 1
        return process.stderr

    assert "make one: indexer sync" in refused()
    config = str(configured(world))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}: address already in use" in refused(
            "--config", config, "--port", port
        )
    assert "cannot listen on" in refused("--config", config, "--host", "nowhere.invalid")


def test_it_warns_when_others_can_reach_it(world: World) -> None:
    with Server(COMMAND, "serve", "--config", configured(world), "--host", "0.0.0.0") as server:
        key = quote(server.get("/api/runs").json["runs"][0]["key"])
        assert "index.jsonl" not in server.get(f"/run?key={key}").text
        assert server.get(f"/file?key={key}&path=index.jsonl").status == 404  # it may hold secrets
        code, complaints = server.stop()
    assert "everyone who can reach 0.0.0.0 can read this index" in complaints
    assert code == 0
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "x")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_it_follows_passes_rebuilds_and_another_file(world: World) -> None:
    def counts(server: Server) -> tuple[int, int]:
        told = server.get("/index.json?sql=select+count(*)+as+n+from+runs&_shape=array").json
        return len(server.get("/api/runs").json["runs"]), told[0]["n"]

    with serving(world) as server:
        assert counts(server) == (2, 2)
        world.repo.commit(at("runs/more/2026-01-07T09-00-00-000Z", bundle(experiment=None)))
        world.sync()
        assert counts(server) == (3, 3)
        world.rebuild()
        assert counts(server) == (3, 3)
        world.db.unlink()
        for suffix in ("-wal", "-shm"):
            Path(f"{world.db}{suffix}").unlink(missing_ok=True)
        assert server.get("/api/runs").status == 503
        world.repo.commit(at("runs/more/2026-01-08T09-00-00-000Z", bundle(experiment=None)))
        world.sync()
        assert counts(server) == (4, 4)
        world.db.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
        assert server.get("/api/runs").status == 503
        for suffix in ("-wal", "-shm", ""):
            Path(f"{world.db}{suffix}").unlink(missing_ok=True)
        world.sync()
        assert counts(server) == (4, 4)


@pytest.mark.parametrize(
    "query",
    [
        "select hex(zeroblob(400000000))",
        "select randomblob(1000000000)",
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 900) select hex(zeroblob(500000)) from n",
        "select group_concat(hex(zeroblob(500000))) from runs, runs b, runs c",
    ],
)
def test_no_query_makes_values_that_fill_the_memory(world: World, query: str) -> None:
    with serving(world) as server:
        answer = server.get(f"/index.json?{urlencode({'sql': query})}")
        assert answer.status == 400, answer.text[:200]
        assert len(answer.body) < 10_000
        assert server.get("/api/runs").status == 200
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
        assert peak is not None
        assert int(peak[1]) < 600_000


def test_pages_of_other_sites_send_no_sql(world: World) -> None:
    with serving(world) as server:
        for query in ("/index.json?sql=select+1", "/index/runs.json?_where=1"):
            for site in ("cross-site", "same-site"):
                assert server.get(query, Sec_Fetch_Site=site).status == 403
        assert server.get("/index.json?sql=select+1", Sec_Fetch_Site="same-origin").status == 200
        assert server.get("/api/runs", Sec_Fetch_Site="cross-site").status == 200


def test_a_busy_server_keeps_its_locks_and_sees_every_pass(world: World) -> None:
    """Nothing but SQLite opens the file: the process would lose its locks, and go on with a log that is deleted."""
    paths = ("/api/runs", "/runs", "/index.json?sql=select+1", "/api/health", "/index/runs.json", "/-/databases")
    with serving(world) as server, ThreadPoolExecutor(8) as clients:
        for number in range(4):
            for answer in clients.map(server.get, paths * 4):
                assert answer.status == 200
            assert locks(server.process.pid, world.db) > 0
            world.repo.commit(at(f"runs/more/2026-02-0{number + 1}T09-00-00-000Z", bundle(experiment=None)))
            process = in_process("sync", world.db, [("git", "team", world.repo.path)], world.options)
            process.join()
            expected = world.column("SELECT count(*) FROM runs")[0]
            assert len(server.get("/api/runs").json["runs"]) == expected
            told = server.get("/index.json?sql=select+count(*)+as+n+from+runs&_shape=array").json
            assert told == [{"n": expected}]


class Plain(Server):
    """A Datasette of somebody's own, with metadata and databases."""

    def __init__(self, root: Path, metadata: dict[str, Any], *databases: Path):
        (root / "metadata.json").write_text(json.dumps(metadata))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = (
            "import sys; from datasette.app import Datasette; import json, uvicorn\n"
            "metadata, port, *files = sys.argv[1:]\n"
            "print(f'http://127.0.0.1:{port}/runs', flush=True)\n"
            "app = Datasette(files, metadata=json.load(open(metadata))).app()\n"
            "uvicorn.run(app, port=int(port), log_level='error', lifespan='on')"
        )
        super().__init__(sys.executable, "-c", program, root / "metadata.json", str(port), *databases)
        while True:
            try:
                self.get("/")
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                break


def test_plain_datasette_has_the_pages_too(world: World, tmp_path: Path) -> None:
    with Plain(tmp_path, {}, world.db) as server:
        assert len(server.get("/api/runs").json["runs"]) >= 2
        assert server.get("/runs").status == 200
        assert "Dashboards" in server.get("/index").text


@pytest.mark.parametrize("metadata", [{"allow": {"id": "root"}}, {"databases": {"index": {"allow": False}}}])
def test_permissions_of_datasette_hold_for_the_pages(world: World, tmp_path: Path, metadata: dict[str, Any]) -> None:
    with Plain(tmp_path, metadata, world.db) as server:
        for path in ("/index", "/api/runs", "/api/health", "/runs", "/runs/live?token=x", "/run?key=x", "/dashboards"):
            assert server.get(path).status == 403, path


def test_other_databases_keep_their_names(tmp_path: Path) -> None:
    for name in ("runs", "history", "file"):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as database:
            database.execute("CREATE TABLE mine (id)")
    with Plain(tmp_path, {}, *(tmp_path / f"{name}.db" for name in ("runs", "history", "file"))) as server:
        for name in ("runs", "history", "file"):
            assert "mine" in server.get(f"/{name}").text


def test_figures_of_the_pages(world: World, tmp_path: Path) -> None:
    mine = World(tmp_path)
    for day, (passed, cost) in enumerate([(1, None), (3, 0.002), (2, 0.01)], 5):
        rows = [row(f"t{n}", 1.0 if n < passed else 0.0, suite=f"s{n % 2}", cost_usd=cost) for n in range(4)]
        name = f"2026-01-{day:02}T09-00-00-000Z"
        mine.repo.commit(at(f"runs/a/{name}", bundle(rows=rows, experiment=None, name=name)))
    late = "2099-01-01T00-00-00-000Z"
    mine.repo.commit(at(f"runs/future/{late}", bundle(experiment=None, name=late)))
    mine.sync()
    with serving(mine) as server:
        assert "newest 3 runs: 25%, 75%, 50%" in server.get("/runs").text  # a value a run, not one a suite
        text = server.get("/dashboards").text
        assert "2026-01-06: $0.0080" in text
        assert "2026-01-07: $0.0400" in text
        assert "2026-01-05: $" not in text  # unknown is no 0
        assert "2099" not in text
        assert "No runs that ended" not in server.get("/dashboards?experiment=a&days=3").text
        text = server.get("/history?test=t0&limit=2").text
        assert "Counts cover all 3 executions; the newest 2 are shown." in text
        assert "are shown." not in server.get("/history?test=t0&limit=3").text
        link = re.search(
            r'href="(/history[^"]*)"', server.get("/run?key=" + quote("agentv:a::2026-01-05T09-00-00-000Z")).text
        )
        assert link
        assert server.get(html.unescape(link[1])).status == 200
