"""Reading a document in one step and taking it part by part give the same; what does not fit costs itself alone."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from indexer.formats.agentv_documents import Aggregate, Metrics, Row
from indexer.formats.copilot import RunDocument
from indexer.formats.documents import Document, fitted, read_document
from indexer.formats.pier_documents import JobConfig, JobResult, Lock, TrialConfig, TrialResult
from indexer.protocols import Unreadable

FIXTURES = Path(__file__).parent.parent / "fixtures"
MODELS: dict[str, list[type[Document]]] = {
    "index.jsonl": [Row],
    "summary.json": [Aggregate],
    "benchmark.json": [Aggregate],
    "metrics.json": [Metrics],
    "run.json": [RunDocument],
    "result.json": [JobResult, TrialResult],
    "config.json": [JobConfig, TrialConfig],
    "lock.json": [Lock],
}


def documents() -> list[tuple[type[Document], bytes]]:
    found = []
    for name, models in MODELS.items():
        for path in sorted(FIXTURES.rglob(name)):
            lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
            found += [(model, line) for line in lines for model in models if line.strip()]
    return found


def read(model: type[Document], data: bytes) -> Document | None:
    try:
        return read_document(model, "x", data)
    except Unreadable:
        return None


def test_both_ways_read_real_documents_alike() -> None:
    compared = 0
    for model, data in documents():
        whole = read(model, data)
        if whole is not None:
            assert fitted(model, json.loads(data)) == whole
            compared += 1
    assert compared > 100


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, part in inside for each in places(part, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


WRONG: list[Any] = [{"a": 1}, [[1]], "x" * 10_001, True, -(2**70), float("nan"), float("inf"), "nonsense", None]


@pytest.mark.parametrize("seed", range(3))
def test_what_does_not_fit_costs_itself_alone(seed: int) -> None:
    """A value of another type is as if it were null, for every field and element."""
    random = Random(seed)
    real = [(model, json.loads(data)) for model, data in documents() if read(model, data) is not None]
    for _ in range(400):
        model, content = random.choice(real)
        where = random.choice(places(content)[1:] or [()])
        wrong, plain = random.choice(WRONG), replaced(content, where, None) if where else content
        changed = replaced(content, where, wrong) if where else content
        found = read(model, json.dumps(changed).encode())
        if found is None or found == read(model, json.dumps(plain).encode()):
            continue
        # it was a value of the field's type after all: then reading it in one step says the same
        assert fitted(model, changed) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"test_id": 7, "score": "0.5"}', ("7", 0.5)),
        ('{"test_id": "t", "score": NaN}', ("t", None)),
        ('{"test_id": "t", "score": "NaN"}', ("t", None)),
        ('{"test_id": 1.5, "score": 1e999}', ("1.5", None)),
        ('{"test_id": "t", "score": [1], "scores": [{"name": "a", "score": 1}, 7, {"name": 8}]}', ("t", None)),
        ('{"test_id": "https://u:p@h/x", "score": -1}', ("https://***@h/x", -1.0)),
    ],
)
def test_values_as_tools_write_them(text: str, expected: tuple[str, float | None]) -> None:
    row = read_document(Row, "x", text.encode())
    assert (row.test_id, row.score) == expected
    if row.scores:
        assert [grader and grader.name for grader in row.scores] == ["a", None, "8"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"test_id": NaN}', "7", '{"score": 1}', '{"test_id": [1]}', '{"test_id": "\\ud800"}', "\xff"]
)
def test_no_document_at_all(text: str) -> None:
    with pytest.raises(Unreadable):
        read_document(Row, "x", text.encode("latin-1"))


@pytest.mark.parametrize(("length", "is_kept"), [(9_999, True), (10_000, True), (10_001, False), (1_000_000, False)])
def test_a_name_of_more_than_ten_thousand_characters_is_none(length: int, is_kept: bool) -> None:
    row = read(Row, json.dumps({"test_id": "t", "suite": "ab " * (length // 3) + "x" * (length % 3)}).encode())
    assert isinstance(row, Row)
    assert (row.test_id, row.suite is not None) == ("t", is_kept)
