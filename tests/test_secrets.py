"""No secret reaches the index: which fields are kept is a list, and what is kept is masked."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from indexer.earlier import Nothing
from indexer.errors import SettingsError
from indexer.formats import recognise
from indexer.project import find_project
from indexer.protocols import Options, Unreadable
from indexer.settings import load
from tests import agentevals
from tests.bundles import at, bundle, row
from tests.commands import indexer
from tests.formats.memory import MemoryFolder
from tests.jobs import config, job, trial
from tests.mutations import real_runs
from tests.repos import RESULTS
from tests.test_daemon import Watching
from tests.web.serving import serving
from tests.worlds import SETTINGS, World

CANARY = "CANARYbird"
TOKEN = f"ghp_{CANARY}0123456789"
URL = f"https://user:{CANARY}pw@example.org/x"

# of every text in every JSON file of a run: those that are kept
KEPT = {
    "agentevals": """
        results: error
        results: results.*.error_text
        results: results.*.eval_set_item_id
        results: results.*.evaluator_name
        results: results.*.evaluator_type
        run: eval_set_id
        run: run_id
        run: summary.agents.*
        run: summary.models.*
        """,
    "agentv": """
        benchmark.json: metadata.experiment
        index.jsonl: artifact_dir
        index.jsonl: category
        index.jsonl: error
        index.jsonl: failure_reason_code
        index.jsonl: scores.*.assertions.*.text
        index.jsonl: scores.*.name
        index.jsonl: scores.*.type
        index.jsonl: suite
        index.jsonl: target
        index.jsonl: test_id
        tags.json: tags.*
        """,
    "copilot-experiments": """
        run.json: experiment_slug
        run.json: run_id
        run.json: variants.*.tasks.*.task_slug
        run.json: variants.*.tasks.*.trials.*.error
        run.json: variants.*.tasks.*.trials.*.metrics.models.*
        run.json: variants.*.tasks.*.trials.*.status
        run.json: variants.*.variant.name
        run.json: variants.*.variant.reasoning_effort
        """,
    "pier": """
        config.json: agent.model_name
        config.json: task.path
        config.json: task.source
        result.json: agent_info.model_info.name
        result.json: agent_info.model_info.provider
        result.json: agent_info.name
        result.json: agent_info.version
        result.json: exception_info.exception_message
        result.json: exception_info.exception_type
        result.json: id
        result.json: source
        result.json: task_checksum
        result.json: task_name
        """,
}


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the texts of a document are."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from texts(inside, (*path, key))
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from texts(inside, (*path, number))
    elif isinstance(value, str):
        yield path


def replaced(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], text)
    return copy


def documents(data: bytes) -> list[Any]:
    """What a JSON file holds, or one with a document a line."""
    try:
        return [json.loads(data)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError:
        return []


def kept_fields(path: str, tree: dict[str, bytes], text: str) -> set[str]:
    """The fields of a run's files whose text, when it is `text`, is found in what is read of the run."""
    kept = set()
    for name, data in tree.items():
        told = documents(data)
        for number, document in enumerate(told):
            for where in texts(document):
                changed = [*told[:number], replaced(document, where, text), *told[number + 1 :]]
                planted = tree | {name: "\n".join(map(json.dumps, changed)).encode()}
                found = recognise(MemoryFolder(planted, path)) if path else None
                try:
                    run = found.read(Options(), Nothing()) if found else agentevals.read(planted) if not path else None
                except Unreadable as error:
                    assert CANARY not in error.message
                    continue
                if CANARY in repr(run):
                    field = ".".join("*" if isinstance(step, int) else step for step in where)
                    kept.add(f"{name.rpartition('/')[2]}: {field}")
    return kept


def runs(tool: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Real runs of a tool, and one with errors."""
    for path, tree, _ in real_runs():
        if (run := recognise(MemoryFolder(tree, path))) is not None and tool == run.format.NAME:
            yield path, tree
    failed: dict[str, Mapping[str, str | bytes]] = {
        "agentevals": agentevals.documents(),
        "agentv": at(
            "runs/e", bundle(name="e", rows=[row(status="execution_error", error="x", failure_reason_code="x")])
        ),
        "pier": at("jobs/e", job({"fizz__aaaaaaa": trial(reward=None, error="AgentError")})),
    }
    if tool in failed:
        files = {name: text if isinstance(text, bytes) else text.encode() for name, text in failed[tool].items()}
        yield next(iter(files)).rpartition("/")[0], files


@pytest.mark.slow
@pytest.mark.parametrize("tool", KEPT)
def test_only_these_fields_are_kept_and_without_secrets(tool: str) -> None:
    kept = set()
    for path, tree in runs(tool):
        kept |= kept_fields(path, tree, CANARY)
        for secret in (URL, TOKEN):
            assert kept_fields(path, tree, secret) == set()
    assert kept == {line.strip() for line in KEPT[tool].splitlines() if line.strip()}


FILE = "CANARYfish"  # in names of files
OWN = "plain-words-CANARYbird"  # looks like no token: only the run's own files tell that it is a secret


def plant(world: World) -> None:
    """Secrets wherever one may lie."""
    secret = f"{OWN} {TOKEN} {URL}"
    told = config() | {"agent": config()["agent"] | {"kwargs": {"key": OWN}, "env": {"DB": f"pg://u:{OWN}@h/d"}}}
    message = (
        f"login with {secret}: user:{OWN}@host, {json.dumps({'Authorization': 'Token ' + OWN})}\nTraceback {secret}"
    )
    exception = {"exception_type": TOKEN, "exception_message": message, "exception_traceback": message}
    torn = trial(error="E", config=told, exception_info=exception)[:-40] + TOKEN
    files = job(
        {
            "fizz__aaaaaaa": trial(reward=None, config=told, exception_info=exception),
            "fizz__bbbbbbb": torn,
            "fizz__ccccccc": trial(reward={TOKEN: 1.0}, source=URL, task_checksum=TOKEN),
        }
    )
    files |= {f"fizz__aaaaaaa/agent/{FILE}.txt": secret, f"{FILE}.json": secret, "fizz__aaaaaaa/exception.txt": secret}
    world.write(at("jobs/a", files))
    errors = [row("t1", status="execution_error", error=f"{TOKEN} {URL}", target=URL, category=TOKEN)]
    files = bundle(
        rows=errors, tags={"tags": [TOKEN, f"see {URL}", f"api_key={OWN}"]}, authored={"token": OWN, "u": URL}
    )
    files |= {f"refund/t1/{FILE}.md": secret, "notes.json": json.dumps({"notes": [secret]})}
    world.repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", files), author=f"Bo {URL} {TOKEN}", message=f"run {secret}")
    world.repo.git("notes", "--ref=agentv", "add", "-m", secret, RESULTS)
    world.repo.git("tag", "-a", "-m", secret, "v1", RESULTS)
    trailers = f"AgentV-Run: {URL}\nEntire-Checkpoint: {TOKEN}\nAgentV-Run: e::2026-01-05T09-00-00-123Z"
    world.repo.commit({"a": "a"}, ref="refs/heads/main", message=f"fix {TOKEN} {URL}\n\n{trailers}", author=TOKEN)


def test_secrets_are_nowhere(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(world)
    remote = URL.replace("https:", "http:").replace("example.org", "127.0.0.1:9") + f"?private_token={OWN}"
    settings = SETTINGS + f"""
[[source]]
name = "remote"
kind = "git"
url = "{remote}"
fetch_every = "1s"
[[repo]]
path = "{{repo}}"
"""  # fmt: skip
    config_file = world.root / "indexer.toml"
    config_file.write_text(settings.format(db=world.db, repo=world.repo.path, local=world.local))
    for name, value in {"XDG_CACHE_HOME": str(tmp_path / "cache"), "DATABASE_URL": URL, "API_KEY": OWN}.items():
        monkeypatch.setenv(name, value)
    said = []
    commands = "sync", "status", "runs", "failures", "check", "leaderboard", "show latest", "show latest~1", "rebuild"
    for command in [*commands, "runs --json --all", "status --json", "failures --json", "changes", "history t1"]:
        process = indexer(world.root, *command.split(), "--config", config_file)
        assert "Traceback" not in process.stderr
        said.append(f"{command}: {process.stdout}{process.stderr}")
    watching = Watching(world, settings, sweep=0.5)
    try:
        world.write({"jobs/a/fizz__aaaaaaa/result.json": trial(reward=None, error="OtherError")})
        with serving(world) as server:
            keys = [run["key"] for run in server.get("/api/runs").json["runs"]]
            assert len(keys) == 2
            paths = ["/api/runs", "/runs", "/dashboards", "/api/health", "/api/changes", "/api/leaderboard", "/"]
            paths += ["/index/trials.json?_shape=array", "/index/sources", "/index/problems", "/index/run_commits"]
            paths += [f"/{page}?key={quote(key)}" for key in keys for page in ("api/run", "api/trials", "run")]
            for path in paths:
                answer = server.get(path)
                assert answer.status in (200, 503), (path, answer.status)
                said.append(f"{path}: {answer.text}")
        bytes_kept = {path.name: path.read_bytes() for path in world.db.parent.iterdir()}
    finally:
        watching.stop()
    assert {"index.db", "index.db-wal", "index.db.lock"} <= bytes_kept.keys()
    said.append((world.root / "log").read_text())
    assert [text for text in said if CANARY in text] == []
    assert {text.partition("?")[0] for text in said if FILE in text} == {"/run"}  # on loopback, as they are
    assert [name for name, data in bytes_kept.items() if CANARY.encode() in data or FILE.encode() in data] == []
    assert "***" in "".join(said)


def test_a_remote_as_path_is_not_repeated(world: World) -> None:
    for key in ("source]]\nname = 'a'\nkind = 'git'", "source]]\nname = 'a'\nkind = 'folder'", "repo]]"):
        (world.root / "indexer.toml").write_text(f"[[{key}\npath = '{URL}'\n")
        with pytest.raises(SettingsError, match=r"path: must be a folder on this machine") as error:
            load(find_project(world.root / "indexer.toml"))
        assert CANARY not in str(error.value)
