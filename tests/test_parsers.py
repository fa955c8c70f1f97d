"""Whatever text comes, a parser takes it or says in one line why not."""

from pathlib import Path

import pytest

from tests.parsers import ask_mutated, load_mutated, small_index


@pytest.mark.parametrize("number", range(2))
def test_random_cursors_tokens_names_and_filters(tmp_path: Path, number: int) -> None:
    told = ask_mutated(small_index(tmp_path), number, 3000)
    assert min(told["answered"], told["refused"]) > 200


@pytest.mark.parametrize("number", range(2))
def test_random_settings(tmp_path: Path, number: int) -> None:
    told = load_mutated(tmp_path, number, 1500)
    assert min(told["taken"], told["refused"]) > 100
