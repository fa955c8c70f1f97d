from collections.abc import Iterator

import pytest

from tests.agentevals import Server, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A private PostgreSQL; skips where there is none."""
    with server() as running:
        yield running
