"""Mutations of real files that keep their structure in mind: what a bug, a version or a bad disk might make of them."""

import json
from random import Random
from typing import Any

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
