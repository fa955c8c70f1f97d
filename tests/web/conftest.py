from collections.abc import Iterator

import pytest

from tests.web.serving import Server, serving
from tests.worlds import World


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    """The world of the module, served."""
    with serving(world) as server:
        yield server
        assert server.stop()[0] == 0
