"""Mutations of real files that keep their structure in mind: what a bug, a version or a bad disk might make of them."""

import json
import math
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from indexer.earlier import Nothing
from indexer.formats import recognise
from indexer.protocols import Options, Unreadable
from indexer.sources.disk import root_folder
from indexer.store import file, rows
from tests import agentevals
from tests.formats.memory import MemoryFolder

RealRun = tuple[str, dict[str, bytes], list[str]]

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**53 + 1, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan"),
    float("inf"), "", " ", "x" * 20_000, "\0", "\x1b[2J", "é\u2028", "../../etc/passwd", "'; DROP TABLE runs", "NaN",
    "2026-13-45T99:99:99Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "2026-01-05T09:00:00+99:99",
    [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, [{"score": "high"}],
)  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """The content of a JSON file, or of one with a document a line, changed in one to three places."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        change = random.choice([_structure, _structure, _structure, _bytes])
        data = change(random, data)
    return data


def _structure(random: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    try:
        json.loads(data)
    except ValueError:
        at = random.randrange(len(lines))
        if random.random() < 0.2:
            lines.insert(random.randrange(len(lines) + 1), lines[at])
        else:
            lines[at] = _document(random, lines[at])
        return b"\n".join(lines)
    return _document(random, data)


def _document(random: Random, data: bytes) -> bytes:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes(random, data)
    inner = list(_containers(document))
    if not inner:
        return json.dumps(random.choice(HOSTILE)).encode()
    container = random.choice(inner)
    key = random.choice(list(container) if isinstance(container, dict) else list(range(len(container))))
    value = container[key]
    match random.randrange(8):
        case 0:
            del container[key]
        case 1:
            container[key] = [value] * random.choice([1, 2, 500])
        case 2:
            container[key] = _nested(value, random.choice([3, 200]))
        case 3 if isinstance(container, dict):
            container[key.upper()] = container.pop(key)
        case 4 if isinstance(container, dict):
            text = json.dumps(document)
            pair = f"{json.dumps(key)}: "
            return text.replace(pair, f"{pair}{json.dumps(random.choice(HOSTILE))}, {pair}", 1).encode()
        case 5:
            other = random.choice(inner)
            container[key] = json.loads(json.dumps(other))
        case _:
            container[key] = random.choice(HOSTILE)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _containers(document: Any) -> Any:
    """All lists and objects that are not empty."""
    waiting = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list) and each:
            yield each
            waiting.extend(each.values() if isinstance(each, dict) else each)


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = {"a": value} if depth % 2 else [value]
    return value


def _bytes(random: Random, data: bytes) -> bytes:
    if not data:
        return random.randbytes(20)
    start = random.randrange(len(data))
    end = min(len(data), start + random.choice([1, 1, 4, 100]))
    match random.randrange(5):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + random.randbytes(end - start) + data[end:]
        case 2:
            return data[:start] + data[end:]
        case 3:
            return data[:end] + data[start:]
        case _:
            return data[:start] + random.choice([b"\xff", b"\0", b"{", b"]", b'"', b"\\", b",", b"\n"]) + data[start:]


OWN = Path(__file__).parent / "fixtures"
CPU_LIMIT = 20.0  # seconds for one file: far beyond what any needs, so that only a hang is one
SECRETS = ("LEAK", "u:pw@h", "FAKE-")


class Hang(BaseException):
    """A file kept its reader busy; no `except` of a reader may catch it."""


@contextmanager
def no_hang(limit: float = CPU_LIMIT) -> Iterator[None]:
    """Raises Hang when more seconds of processor time are spent inside."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {limit:.0f} s of processor time")

    old = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)


def real_runs(fixtures: Path = OWN) -> list[RealRun]:
    """Every real run below a folder: its path, its tree, and the files that its rows are read from."""
    found: list[RealRun] = []
    for root in sorted(path for path in fixtures.iterdir() if path.is_dir()):
        for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
            disk = root_folder(str(root)).find(folder.relative_to(root).as_posix())
            run = recognise(disk) if disk else None
            if disk is None or run is None:
                continue
            files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size < 1 << 20]
            tree = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
            inputs = [f"{disk.path}/{name}" for name in run.inputs() if f"{disk.path}/{name}" in tree]
            found.append((disk.path, tree, inputs))
    return found


def read_mutated(number: int, count: int, fixtures: Path = OWN) -> dict[str, int]:
    """Read that many mutated files; how many gave a run and how many a reason."""
    random = Random(number)
    database = sqlite3.connect(":memory:", isolation_level=None)
    for script in ("schema.sql", "lookups.sql", "indexes.sql"):
        file.run_script(database, script)
    runs = real_runs(fixtures)
    if fixtures == OWN:
        runs.append(("", agentevals.documents(), ["run"]))
    told = {"read": 0, "unreadable": 0}
    for _ in range(count):
        path, tree, inputs = random.choice(runs)
        victim = random.choice(inputs)
        tree = tree | {victim: mutated(random, tree[victim])}
        found = recognise(MemoryFolder(tree, path))
        try:
            with no_hang():
                run = found.read(Options(), Nothing()) if found else agentevals.read(tree)
        except Unreadable as error:
            told["unreadable"] += 1
            assert error.message
            continue
        told["read"] += 1
        if run is not None:
            database.execute("BEGIN")
            new = rows.run_rows(run, ("s", path, None), run.tags.tags if run.tags else [], (None, None, None))
            database.execute(rows.INSERT_RUN, (1, *new.run, 1))
            for at, (trial, scores) in enumerate(new.trials.values(), 1):
                database.execute(rows.INSERT_TRIAL, (at, 1, *trial))
                database.executemany(rows.INSERT_SCORE, [(at, *score) for score in scores])
            database.executemany(rows.INSERT_TARGET, [(1, *target) for target in new.targets])
            database.executemany(rows.INSERT_TAG, [(1, *tag) for tag in new.tags])
            values = [value for row in (new.run, *(trial for trial, _ in new.trials.values())) for value in row]
            assert all(math.isfinite(value) for value in values if isinstance(value, float))
            assert not [secret for secret in SECRETS if secret in repr(values)]
            assert not [t for t in run.trials if t.error and len(t.error) > 200]
            database.execute("ROLLBACK")
    return told
