"""What pages of trials and files show, and what they keep to themselves."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from indexer import render
from indexer.files import LARGEST
from tests.bundles import at
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
    assert "It is empty." in of_trial(server, "view", path="trial.log").text
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
    assert "1 lines have" in text
    assert 'id="L5001"' in text
    assert "<b>" not in text
    assert "0 lines have" in of_trial(server, "view", path=name, search="nowhere").text
    assert of_trial(server, "view", path=name, search="line 7").text.count('id="L') == 1 + 10 + 100
    steps = [{"role": "user", "content": "find it"}, {"role": "agent", "content": "Found It"}, {"role": "user"}]
    name = written(world, "found.json", json.dumps({"messages": steps}))
    text = of_trial(server, "view", path=name, search="found it").text
    assert text.count("<details") == text.count(" open>") == 1
    assert "<summary>2 " in text  # its number in the whole
    assert of_trial(server, "file", path=name, search="x").status == 400


def test_a_page_has_a_limit_whatever_the_file_holds(world: World, server: Server) -> None:
    step = {"role": "user"} | {f"k{at}": "x" * 100 for at in range(400)}
    name = written(world, "many.json", json.dumps({"steps": [step] * 100}))
    answer = of_trial(server, "view", path=name)
    assert len(answer.body) < 10_000_000
    assert "more steps are not shown" in answer.text
    name = written(world, "large.txt", b"first\n" + b"x" * 99 + b"\n" + b"y\n" * LARGEST)
    text = of_trial(server, "view", path=name).text
    assert "The last 8.4 MB of it" in text
    assert "lines before are not shown" in text


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
