"""Random text for whatever users and links hand to a parser: cursors, tokens, names, filters, settings."""

import base64
import json
import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from indexer import open_index
from indexer.errors import IndexerError, SettingsError
from indexer.project import find_project
from indexer.queries.compare import side_of
from indexer.queries.index import Index
from indexer.queries.pages import SORTS
from indexer.settings import load
from tests.bundles import at, bundle
from tests.mutations import HOSTILE, mutated, no_hang
from tests.worlds import World

SETTINGS = b"""
db = "results/index.db"
stale_after = "1h"
errors = true
[threshold]
agentv = 0.8
pier = 1.0
[[source]]
name = "local"
kind = "folder"
path = "."
[[source]]
name = "team"
kind = "git"
path = "../results.git"
refs = ["agentv/results/v1", "main", "refs/agentv/runs/*"]
wip = true
[[source]]
name = "far"
kind = "git"
url = "https://example.org/results.git"
fetch_every = "30s"
[[repo]]
path = "../product"
web_url = "https://example.org/commit/{sha}"
"""


def small_index(root: Path) -> Path:
    """An index of a few runs."""
    world = World(root)
    for number in range(12):
        name = f"2026-01-{number + 1:02}T09-00-00-000Z"
        world.repo.commit(at(f"runs/e{number % 3}/{name}", bundle(experiment=f"e{number % 3}", tags={"tags": ["a"]})))
    world.sync()
    return world.db


def ask_mutated(db: Path, number: int, count: int) -> dict[str, int]:
    """Ask an index with so many random cursors, tokens, names and filters; how many were answered and refused."""
    random = Random(number)
    told = Counter[str]()
    with closing(open_index(db)) as index:
        real = [index.token()]
        for sort in (*SORTS, *(f"-{sort}" for sort in SORTS)):
            page = index.runs(sort=sort, limit=random.randrange(1, 8))
            real += [page.next_cursor or "", page.runs[0]["key"], page.runs[0]["run_id"], page.runs[0]["timestamp"]]
        for _ in range(count):
            try:
                with no_hang():
                    _ask(random, index, _text(random, random.choice(real)))
            except IndexerError as error:
                told["refused"] += 1
                assert "\n" not in str(error)
            else:
                told["answered"] += 1
    return dict(told)


def _ask(random: Random, index: Index, text: str) -> None:
    sort = random.choice(["-timestamp", "timestamp", "pass_rate", "-cost_usd", text])
    names = ("experiment", "target", "model", "status", "source", "tag", "since", "until", "commit")
    some: dict[str, Any] = {name: _text(random, text) for name in names if random.random() < 0.1}
    match random.randrange(10):
        case 0:
            index.changes(text)
        case 1:
            index.run(text)
        case 2:
            index.history(text)
        case 3:
            index.compare(text, random.choice([text, "latest", "latest~1"]))
        case 4:
            index.drift(window=random.choice([text, "40"]), by=random.choice([None, "test", text]), **some)
        case 6:
            index.leaderboard(by=random.choice(["test", "day", "tag:team", text]), across=random.choice([None, text]))
        case 7:
            index.compare(side_of([f"{random.choice(names)}={text}"]), side_of([f"target={text}"]), **some)
        case 5:
            run = random.choice([None, text, "latest"])
            told: dict[str, Any] = {
                name: random.choice([None, text]) for name in ("trial_status", "error_type", "error", "cursor")
            }
            index.trials(run, **told, **some)
        case 8:
            index.trial(random.choice([text, "latest"]), text)
        case _:
            some["min_pass_rate"] = random.choice([None, None, 0.5, -1.0, 2.0, float("nan"), float("inf")])
            limit = random.choice([1, 3, 50, 0, -1, 1001])
            page = index.runs(cursor=random.choice([text, None]), sort=sort, limit=limit, **some)
            assert len(page.runs) <= limit


def _text(random: Random, seed: str) -> str:
    """A text like another one; what is base64 is changed inside."""
    match random.randrange(6):
        case 0:
            try:
                inside = base64.urlsafe_b64decode(seed + "==")
            except ValueError:
                inside = b'["2026-01-05", "a"]'
            return base64.urlsafe_b64encode(mutated(random, inside)).decode().rstrip("=")
        case 1:
            return str(random.choice(HOSTILE))
        case 2:
            return random.choice(["latest", "latest:e1", "tag:a", "7d", "2026-01-05", "refund/t1"]) + random.choice(
                ["", "~1", "~99999999999999999999", ":", "~", "/", "%", "\0", "*", "é"]
            )
        case 3:
            return seed
        case _:
            return mutated(random, seed.encode()).decode("utf-8", "replace")


def load_mutated(folder: Path, number: int, count: int) -> dict[str, int]:
    """Load so many random settings files and variables; how many were taken and refused."""
    random = Random(number)
    told = Counter[str]()
    path = folder / "indexer.toml"
    for _ in range(count):
        path.write_bytes(_settings(random))
        variable = random.choice(["INDEXER_STALE_AFTER", "INDEXER_THRESHOLD", "INDEXER_SOURCE", "INDEXER_ERRORS"])
        value = json.dumps(random.choice(HOSTILE)).replace("\0", "")
        if random.random() < 0.2:
            os.environ[variable] = value
        try:
            with no_hang():
                load(find_project(path))
        except SettingsError as error:
            told["refused"] += 1
            assert "\n" not in str(error).replace(str(folder), "")
        else:
            told["taken"] += 1
        finally:
            os.environ.pop(variable, None)
    return dict(told)


def _settings(random: Random) -> bytes:
    lines = SETTINGS.splitlines()
    for _ in range(random.choice([0, 1, 1, 2])):
        at_line = random.randrange(len(lines))
        key = lines[at_line].partition(b"=")[0]
        value = random.choice(HOSTILE)
        match random.randrange(5):
            case 0:
                lines[at_line] = key + b"= " + json.dumps(value).encode("utf-8", "surrogatepass")
            case 1:
                del lines[at_line]
            case 2:
                lines.insert(at_line, random.choice(lines))
            case 3:
                lines[at_line] = key + b"= " + random.choice([b"'1h'", b"true", b"[1]", b"{a = 1}", b"1e400", b"nan"])
            case _:
                lines = mutated(random, b"\n".join(lines)).splitlines() or [b""]
    return b"\n".join(lines)
