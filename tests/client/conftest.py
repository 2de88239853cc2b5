from collections.abc import Iterator

import pytest

from tests.client.stand_in import StandIn, serving


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def address(service: StandIn) -> Iterator[str]:
    with serving(service) as address:
        yield address
