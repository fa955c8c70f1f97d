"""The promise: whatever happened, a sync makes the index equal to a rebuild."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.machine import SETTINGS, seeded


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_the_index_equals_a_rebuild_whatever_happened(number: int) -> None:
    run_state_machine_as_test(seeded(number), settings=SETTINGS)
