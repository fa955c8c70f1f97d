"""The promise: whatever happened, a sync makes the index equal to a rebuild."""

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.machine import Machine

MACHINE = settings(
    max_examples=50,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_the_index_equals_a_rebuild_whatever_happened(number: int) -> None:
    run_state_machine_as_test(seed(number)(type("Seeded", (Machine,), {})), settings=MACHINE)
