"""What pages of trials and files show, and what they keep to themselves."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from indexer import render
from indexer.files import LARGEST
from tests.bundles import at, bundle, row
from tests.jobs import job, trial
from tests.web.serving import Answer, Server, serving
from tests.worlds import World

JOB, NAME = "jobs/j", "fizz__aaaaaaa"
KEY = "pier:23b29240-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("pages"))
    trials = {NAME: trial("fizz", None, "OSError", exception_info={
        "exception_type": "OSError", "exception_message": "first line\nsecond line"})}  # fmt: skip
    world.write(at(JOB, job({**trials, "half__bbbbbbb": trial("half", 0.5)})))
    world.sync()
    return world


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    with serving(world) as server:
        yield server


def of_trial(server: Server, page: str, **given: str) -> Answer:
    return server.get(f"/{page}?{urlencode({'key': KEY, 'trial': NAME} | given)}")


def written(world: World, name: str, content: str | bytes) -> str:
    place = world.local / JOB / NAME / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def test_a_trial_has_its_whole_error_its_neighbours_and_its_files(world: World, server: Server) -> None:
    text = of_trial(server, "trial").text
    assert "first line\nsecond line" in text
    assert "Next trial" in text
    assert "Previous trial" not in text
    assert "trial.log" in text
    assert "The file is empty." in of_trial(server, "view", path="trial.log").text
    assert server.get(f"/trial?{urlencode({'key': KEY, 'trial': 'fizz'})}").status == 404  # names are whole
    assert server.get(f"/trial?{urlencode({'key': 'pier:none', 'trial': NAME})}").status == 404


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        ({"steps": [{"source": "agent", "message": "hello", "tool_calls": [{"function_name": "bash"}]}]}, "bash"),
        ({"steps": None, "messages": [{"role": "user", "content": "hello there"}]}, "hello there"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"name": "grep"}]}]}, "hi grep"),
        ([{"type": "assistant", "message": {"role": "assistant", "content": "said so"}}], "said so"),
        ({"steps": [{"role": "user"}, {"content": "no role"}, {"role": "agent"}]}, "no role"),
    ],
)
def test_transcripts_are_shown_step_by_step(world: World, server: Server, document: Any, shown: str) -> None:
    name = written(world, "agent/trajectory.json", json.dumps(document))
    text = of_trial(server, "view", path=name).text
    steps = document if isinstance(document, list) else next(v for v in document.values() if v)
    assert text.count("<details") == len(steps)
    assert shown in text


def test_a_transcript_that_is_being_written_and_odd_lines_are_shown(world: World, server: Server) -> None:
    lines = [json.dumps({"type": "user", "text": "a\u2028b"}, ensure_ascii=False), '{"type": "assistant", "te']
    name = written(world, "torn.jsonl", "\n".join(lines))
    assert of_trial(server, "view", path=name).text.count("<details") == 1
    name = written(world, "lines.txt", "one\x0bstill one\ntwo\n")
    assert of_trial(server, "view", path=name).text.count('id="L') == 2
    name = written(world, "long.txt", "x" * 50_000)
    assert "and 30,000 more characters" in of_trial(server, "view", path=name).text
    name = written(world, "bom.json", b'\xef\xbb\xbf{"a": 1}')
    assert of_trial(server, "view", path=name).text.count('id="L') == 3


def test_files_are_searched(world: World, server: Server) -> None:
    name = written(world, "log.txt", "".join(f"line {at}\n" for at in range(5_000)) + "A needle <b>\n")
    text = of_trial(server, "view", path=name, search="NEEDLE <b>").text
    assert "1 line contains" in text
    assert 'id="L5001"' in text
    assert "<b>" not in text
    assert "0 lines contain" in of_trial(server, "view", path=name, search="nowhere").text
    assert of_trial(server, "view", path=name, search="line 7").text.count('id="L') == 1 + 10 + 100
    steps = [{"role": "user", "content": "find it"}, {"role": "agent", "content": "Found It"}, {"role": "user"}]
    name = written(world, "found.json", json.dumps({"messages": steps}))
    text = of_trial(server, "view", path=name, search="found it").text
    assert text.count("<details") == text.count(" open>") == 1
    assert "<summary>2 " in text  # its number in the whole
    assert of_trial(server, "file", path=name, search="x").status == 400


def test_what_is_searched_in_steps_is_found_wherever_it_stands(world: World, server: Server) -> None:
    steps = [
        {"role": "user", "content": "y" * 50_000 + " LATE"},
        {"role": "agent", "observation": {"k": 'a"b\nc'}},
        {"role": "agent", "extra": 7},
    ]
    name = written(world, "far.json", json.dumps({"messages": steps}))
    for search, number in (("late", 1), ('A"B\nC', 2), ("EXTRA", 3), ("7", 3)):
        text = of_trial(server, "view", path=name, search=search).text
        assert "1 step contains" in text, search
        assert f"<summary>{number} " in text
    assert " LATE</bdi>" in of_trial(server, "view", path=name, search="late").text
    assert "0 steps contain" in of_trial(server, "view", path=name, search="nowhere").text
    name = written(world, "far.txt", "p" * 50_000 + "NEEDLE")
    assert "NEEDLE</bdi>" in of_trial(server, "view", path=name, search="needle").text
    name = written(world, "wide.txt", "one\nTwo\n".encode("utf-16"))
    assert "1 line contains" in of_trial(server, "view", path=name, search="two").text
    name = written(
        world,
        "first.json",
        json.dumps({"messages": [{"role": "user"} | {f"k{at}": "x" * 3_000 for at in range(2_000)}]}),
    )
    assert "k1</h3>" in of_trial(server, "view", path=name).text
    name = written(world, "limit.txt", b"x\n" * (LARGEST // 2))
    assert "raw file" in of_trial(server, "view", path=name).text


def test_a_page_has_a_limit_whatever_the_file_holds(world: World, server: Server) -> None:
    step = {"role": "user"} | {f"k{at}": "x" * 100 for at in range(400)}
    name = written(world, "many.json", json.dumps({"steps": [step] * 100}))
    answer = of_trial(server, "view", path=name)
    assert len(answer.body) < 10_000_000
    assert "more steps are not shown" in answer.text
    name = written(world, "large.txt", b"first\n" + b"x" * 99 + b"\n" + b"y\n" * LARGEST)
    text = of_trial(server, "view", path=name).text
    assert "Only the last 8.4 MB are shown" in text
    assert "Earlier lines are not shown" in text


@pytest.mark.parametrize("depth", [100, 300, 900, 5_000])
def test_what_is_nested_deeply_is_shown_somehow(world: World, server: Server, depth: int) -> None:
    name = written(world, "deep.json", '{"steps": [' + '{"role": "u", "message": ' * depth + "1" + "}" * depth + "]}")
    assert of_trial(server, "view", path=name).status == 200
    name = written(world, "list.json", "[" * depth + "]" * depth)
    assert of_trial(server, "view", path=name).status == 200


def test_no_link_leads_out_of_a_run(world: World, server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    inside = world.local / JOB / NAME
    os.symlink(tmp_path / "secret.txt", inside / "link.txt")
    os.symlink(tmp_path, inside / "folder")
    os.symlink("result.json", inside / "mine.json")
    for page in ("view", "file"):
        for path in ("link.txt", "folder/secret.txt"):
            answer = of_trial(server, page, path=path)
            assert (answer.status, "a secret" in answer.text) == (404, False), path
        whole = {"key": KEY, "path": f"{NAME}/link.txt"}
        assert server.get(f"/{page}?{urlencode(whole)}").status == 404
        assert of_trial(server, page, path="mine.json").status == 200
    assert "secret.txt" not in of_trial(server, "trial").text


def test_trials_are_found_by_a_form(server: Server) -> None:
    text = server.get("/trials?trial_status=errored&error=first").text
    assert text.count("/trial?") == 1
    assert "<option selected>errored" in text
    assert server.get("/trials?nonsense=1").status == 400


def test_methods_that_nobody_answers_are_refused(server: Server) -> None:
    assert server.get("/index", "TRACE").status == 405
    assert server.get("/api/drift?every=zz").status == 400


def test_a_fall_is_shown_in_its_own_measure() -> None:
    score = {"measure": "score", "before": {"score": 0.571, "executions": 7}}
    assert render.level(score, "before") == "0.571 of 7"
    assert render.level({"measure": "errors", "before": {"errors": 0.25, "executions": 4}}, "before") == "25% of 4"


def test_outputs_are_of_what_is_compared(tmp_path: Path) -> None:
    world = World(tmp_path)

    def run(experiment: str, day: int, *rows: dict[str, Any], ended: bool = True) -> None:
        name = f"2026-01-{day:02}T08-00-00-000Z"
        files = bundle(rows=list(rows), experiment=experiment, name=name)
        world.write(at(f".agentv/results/runs/{experiment}/{name}", files))

    bare, other = {"suite": None}, {"suite": "aaa"}
    run("mma", 5, row("z1", 0.0), row("t1", 1.0, **bare), row("t1", 1.0, **other))
    run("mmb", 6, row("z1", 1.0), row("t1", 1.0, **bare), row("t1", 0.0, **other))
    run("mmc", 7, row("z1", 0.5), row("t1", 0.0, **bare), row("t1", 0.0, **other))
    world.sync()

    def sides(server: Server, query: str) -> list[Any]:
        text = server.get(f"/compare?{query}").text
        return re.findall(r'<section aria-label="([AB])">.*?trial=([^"&]*).*?status (\w+)', text, re.DOTALL)

    with serving(world) as server:
        found = sides(server, "a=experiment=mma&b=experiment=mmb&test=z1&experiment=mm*")
        assert [(side, status) for side, _, status in found] == [("A", "failed"), ("B", "passed")]
        found = sides(server, "a=search=mma&b=search=mmb&search=mm&test=/t1")
        assert [(side, status) for side, _, status in found] == [("A", "passed"), ("B", "passed")]
        assert not any("aaa" in trial for _, trial, _ in found)
        text = server.get("/compare?a=experiment=mma&b=experiment=mmb").text
        assert "test=%2Ft1" not in text  # it did not change, so it is not among the tests shown
        assert "test=aaa%2Ft1" in text
        long = "&".join(f"experiment=none{number}" for number in range(300))
        assert "outputs" not in server.get(f"/compare?a=experiment=mma&b=experiment=mmb&experiment=mm*&{long}").text
        words = "+".join(f"w{number}" for number in range(1_001))
        for path in (f"/runs?search={words}", f"/api/trials?search={words}"):
            assert server.get(path).status == 400
        assert server.get(f"/api/count?search={'mma+' * 1_001}").json == {"runs": 1}


def test_dashboards_survive_odd_numbers(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = [row("t1", cost_usd=1.7e308, target="a", duration_ms=5e-321), row("t1", cost_usd=1.7e308, target="b")]
    world.write(at(".agentv/results/runs/e/2026-01-05T08-00-00-000Z", bundle(rows=rows, experiment="e")))
    world.sync()
    with serving(world) as server:
        answer = server.get("/dashboards")
    assert answer.status == 200
    assert "No costs are known." in answer.text


def test_dashboards_tell_nothing_from_zero(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = [row("t1", cost_usd=0.0, duration_ms=0), row("t2", cost_usd=0.0, duration_ms=0)]
    world.write(at(".agentv/results/runs/e/2026-01-05T08-00-00-000Z", bundle(rows=rows, experiment="e")))
    world.sync()
    with serving(world) as server:
        text = server.get("/dashboards").text
    assert "No costs are known." not in text
    assert "No durations are known." not in text
