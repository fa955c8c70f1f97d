"""A long life in short: nothing that lasts grows, and everything is right in the end."""

from pathlib import Path

import pytest

from indexer.store import file
from tests.month import growth, live


@pytest.mark.slow
def test_a_month_of_events(tmp_path: Path) -> None:
    samples = live(tmp_path, events=300, every=20)
    assert samples[-1].runs > 300
    grown = growth(samples)
    assert samples[-1].log <= file.LONGEST_LOG
    assert max(grown["memory"], grown["serve_memory"]) < 1.5
    assert max(grown["handles"], grown["serve_handles"]) < 1.3
    assert max(sample.threads for sample in samples) < 60  # one for each folder that lives
