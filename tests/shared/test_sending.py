"""What machines send, and which of their runs are shown."""

import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexer.errors import IndexFileError
from indexer.queries.shared_index import SharedIndex
from indexer.shared.connection import connected
from indexer.shared.sending import Sender, forget
from tests.agentevals import Server, server
from tests.bundles import at, bundle, row, without
from tests.jobs import job, trial
from tests.shared.changes import NAMES, Change, require_union, team
from tests.shared.machines import Machine, asked, url_of
from tests.shared.team import round_


@pytest.mark.parametrize("seed", range(4))
def test_what_is_shown_is_the_union_of_all_rebuilds(tmp_path: Path, postgres: Server, seed: int) -> None:
    url = url_of(postgres)
    machines = team(tmp_path, url)
    happens = random.Random(seed)
    change = Change(happens, machines)
    for _ in range(12):
        for _ in range(happens.randrange(1, 8)):
            change.happen()
        for name in happens.sample(NAMES, happens.randrange(1, 4)):
            machines[name].sync()
            machines[name].publish()
    for machine in machines.values():
        machine.sync()
        machine.publish()
    require_union(machines, url)
    for machine in machines.values():
        assert machine.differences() == []
        assert machine.publish().sent == 0  # a rebuilt index sends nothing that is there already


def test_a_machine_is_forgotten(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machines = team(tmp_path, url)
    files = job({"fizz__aaaaaaa": trial("fizz", 1.0)})
    for name in ("anna", "bert"):
        machines[name].write(at(f"jobs/{name}", files))
        machines[name].sync()
        machines[name].publish()
    assert asked(url, "SELECT machine, path FROM indexer.runs") == [("anna", "jobs/anna")]
    with connected(url) as connection:
        assert forget(connection, "anna") == 1
    assert asked(url, "SELECT machine, path FROM indexer.runs") == [("bert", "jobs/bert")]
    with connected(url) as connection:
        assert forget(connection, "bert") == 1
        assert forget(connection, "nobody") == 0
    assert asked(url, "SELECT key FROM indexer.deletions") == [("pier:23b29240-0000-4000-8000-000000000001",)]
    assert asked(url, "SELECT count(*) FROM indexer_v8._sent_scores") == [(0,)]
    assert machines["anna"].publish().sent == 1  # it begins anew
    assert asked(url, "SELECT count(*) FROM indexer.deletions") == [(0,)]


def test_only_some_sources_are_sent(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = team(tmp_path, url)["anna"]
    machine.write(at("jobs/mine", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    machine.repo.commit(at("runs/e/2026-01-05T08-00-00-000Z", bundle(experiment="e", name="2026-01-05T08-00-00-000Z")))
    machine.sync()
    assert machine.publish("local").sent == 1
    assert asked(url, "SELECT source FROM indexer.runs") == [("local",)]
    assert machine.differences("local") == []
    assert machine.publish().sent == 1
    report = machine.publish("team")
    assert (report.sent, report.removed) == (0, 1)
    assert asked(url, "SELECT source FROM indexer.runs") == [("team",)]


def test_what_changed_is_sent_and_nothing_else(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    names = [f"2026-01-{day:02}T08-00-00-000Z" for day in range(1, 9)]
    machine.repo.commit(
        {path: text for name in names for path, text in at(f"runs/e/{name}", bundle(experiment="e", name=name)).items()}
    )
    machine.sync()
    assert machine.publish().sent == 8
    with SharedIndex(url) as index:
        token = index.token()
    machine.repo.commit(
        without(f"runs/e/{names[0]}")
        | at(f"runs/e/{names[1]}", bundle(rows=[row("t9", 0.0)], experiment="e", name=names[1]))
    )
    machine.sync()
    with connected(url) as connection:
        assert machine.sender().pending(connection) == (1, 1)
    report = machine.publish()
    assert (report.sent, report.removed) == (1, 1)
    with SharedIndex(url) as index:
        changes = index.changes(token).changes
    assert sorted((change["deleted"], change["key"]) for change in changes) == [
        (False, f"agentv:e::{names[1]}"), (True, f"agentv:e::{names[0]}"),
    ]  # fmt: skip
    machine.execute("UPDATE trials SET score = 0.123 WHERE test_id = 't9'")
    assert machine.differences() == [f"agentv:e::{names[1]}"]


def test_odd_texts_and_names_that_are_too_long(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    odd = "a\u202eb\\N \t'\"%s"
    machine.repo.commit(
        at("runs/e/2026-01-05T08-00-00-000Z", bundle(rows=[row(odd)], experiment=odd, name="2026-01-05T08-00-00-000Z"))
    )
    long = "x" * 700
    machine.repo.commit(at("runs/f/2026-01-06T08-00-00-000Z", bundle(experiment=long, name="2026-01-06T08-00-00-000Z")))
    machine.sync()
    machine.execute("UPDATE trials SET error = 'a' || char(0) || 'b'")
    report = machine.publish()
    assert report.sent == 1
    assert list(report.refused.values()) == [f"a name of more than 500 bytes: {long[:40]}…"]
    assert asked(url, "SELECT experiment FROM indexer.runs") == [(odd,)]
    assert asked(url, "SELECT test_id, error FROM indexer.trials") == [(odd, "a\ufffdb")]
    assert machine.differences() == []


def test_nothing_of_the_url_is_told(tmp_path: Path, postgres: Server) -> None:
    secret = "hunter2canary"
    for url in (f"postgresql://me:{secret}@127.0.0.1:1/db", f"postgresql://me:{secret}@[::1/db"):
        with pytest.raises(IndexFileError) as told, connected(url):
            pass
        assert secret not in str(told.value)
        with pytest.raises(IndexFileError) as told:
            SharedIndex(url)
        assert secret not in str(told.value)


def test_another_version_is_told(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    with pytest.raises(IndexFileError, match=r"no index of version 8$"):
        SharedIndex(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA indexer_v7")
    with pytest.raises(IndexFileError, match="no index of version 8; it has 7"):
        SharedIndex(url)


@pytest.mark.slow
def test_kills_of_senders_and_of_the_server_leave_no_trace(tmp_path: Path) -> None:
    with server() as crashing:
        done = round_(tmp_path, crashing, seed=1, kills=12, crashes=2)
    assert done["kills of senders"] > 5
    assert done["crashes of the server"] == 2


def test_machines_that_begin_together_wait_for_each_other(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machines = team(tmp_path, url)
    for number, (name, machine) in enumerate(machines.items()):
        for job_ in range(20):
            identity = f"23b29240-0000-4000-8000-{number * 10 + job_:012}"  # half of them are others' too
            machine.write(at(f"jobs/{name}-{job_}", job({"fizz__aaaaaaa": trial("fizz", 1.0)}, id=identity)))
        machine.sync()
    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            list(threads.map(Machine.publish, machines.values()))
    require_union(machines, url)


def test_a_schema_of_others_is_left_alone(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    machine.sync()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA indexer; CREATE TABLE indexer.precious (x int)")
    with pytest.raises(IndexFileError, match="a schema named indexer that is not ours"):
        machine.publish()
    assert asked(url, "SELECT count(*) FROM indexer.precious") == [(0,)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA indexer CASCADE; CREATE SCHEMA indexer_v8")
    with pytest.raises(IndexFileError, match="is not an index of ours"):
        machine.publish()
    with pytest.raises(IndexFileError, match=r"is not an index$"):
        SharedIndex(url)


def test_a_name_belongs_to_one_index(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    one, other = (Machine(tmp_path / name, "ci", url) for name in ("one", "other"))
    one.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    for machine in (one, other):
        machine.sync()
    one.publish()
    with pytest.raises(IndexFileError, match="another index is published as 'ci'"):
        other.publish()
    assert asked(url, "SELECT count(*) FROM indexer.runs") == [(1,)]


def test_a_run_that_is_in_no_source_that_is_sent_goes(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    name = "2026-01-05T08-00-00-000Z"
    machine.repo.commit(at(f"runs/e/{name}", bundle(experiment="e", name=name)))
    machine.write(at(f".agentv/results/runs/e/{name}", bundle(experiment="e", name=name)))
    machine.sync()
    assert machine.publish("local").sent == 1
    shutil.rmtree(machine.local / ".agentv")
    machine.sync()
    assert machine.publish("local").removed == 1
    assert machine.differences("local") == []


def test_long_tags_are_told_and_hold_nothing_up(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    for day, tags in ((5, ["\u6f22" * 1_000]), (6, ["short"])):
        name = f"2026-01-0{day}T08-00-00-000Z"
        machine.repo.commit(at(f"runs/e/{name}", bundle(experiment="e", name=name, tags={"tags": tags})))
    machine.sync()
    report = machine.publish()
    assert (report.sent, len(report.refused)) == (1, 1)
    with connected(url) as connection:
        assert machine.sender().pending(connection) == (0, 0)


def test_rights(tmp_path: Path, postgres: Server) -> None:
    """The roles of docs/team.md suffice, and who has no rights reads so."""
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url.replace("user=postgres", "user=indexer_writer"))
    machine.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    machine.sync()
    reader = url.replace("user=postgres", "user=indexer_reader")
    page = (Path(__file__).parent.parent.parent / "docs/team.md").read_text()
    script = re.sub(r"--.*", "", page[page.index("```sql") + 6 : page.index("```\n\nSenders")])
    roles, grants = script.replace(" evals ", f" {url.split('///')[1].split('?')[0]} ").split("GRANT USAGE")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(roles.encode())
        machine.publish()
        with pytest.raises(IndexFileError, match="no permission to read the schema indexer_v8"):
            SharedIndex(reader)
        connection.execute(f"GRANT USAGE{grants}".encode())
    with SharedIndex(reader) as index:
        assert [run["run_id"] for run in index.runs()] == ["one"]
        assert index.leaderboard()[-1]["passed"] == 1
        assert index.count(search="one") == 1
    with pytest.raises(IndexFileError):
        Machine(tmp_path / "bert", "bert", reader).publish()


def test_what_is_sent_whole_and_indexes_of_other_versions(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    machine.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    machine.sync()
    assert machine.differences() == ["pier:23b29240-0000-4000-8000-000000000001"]  # before anything was sent
    machine.publish()
    assert machine.differences() == []
    machine.execute("UPDATE sources SET note = 'differs'")
    assert machine.differences() == ["sources"]
    assert machine.publish().sent == 0
    assert machine.differences() == []
    machine.execute("PRAGMA user_version = 7")
    with pytest.raises(IndexFileError, match="has schema version 7"):
        machine.publish()


def test_a_reader_goes_on_after_the_schema_was_made_anew(tmp_path: Path, postgres: Server) -> None:
    url = url_of(postgres)
    machine = Machine(tmp_path / "anna", "anna", url)
    machine.write(at("jobs/one", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    machine.sync()
    machine.publish()
    with SharedIndex(url) as index, psycopg.connect(url, autocommit=True) as connection:
        assert len(index.runs()) == 1
        connection.execute("DROP SCHEMA indexer_v8 CASCADE; DROP SCHEMA indexer CASCADE")
        with pytest.raises(IndexFileError, match="has no index"):
            index.runs()
        machine.publish()
        assert len(index.runs()) == 1


def test_an_index_that_is_replaced_while_it_is_sent_ends_the_sending(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender has one connection to it, so it sends what it began with; the next one sends the new index."""
    machine = Machine(tmp_path, "anna", url_of(postgres))
    machine.write(at("jobs/a", job({"fizz__aaaaaaa": trial("fizz", 1.0)})))
    machine.sync()
    begun = Sender._begun

    def replaced(self: Sender, *arguments: Any) -> Any:
        state = begun(self, *arguments)
        monkeypatch.setattr(Sender, "_begun", begun)
        machine.db.unlink()
        machine.write(at("jobs/b", job(id="23b29240-0000-4000-8000-000000000002")))
        machine.sync()
        return state

    monkeypatch.setattr(Sender, "_begun", replaced)
    assert machine.publish().sent == 1
    assert machine.publish().sent == 1
    assert machine.differences() == []
