"""A service that has fallen silent is asked for a sign of life, and counts as away without one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.errors import Reason, Unavailable
from services.gateway.presence import Presence
from tests.conftest import Until


class Probe:
    """Answers when `alive`."""

    def __init__(self) -> None:
        self.alive = True
        self.asked = 0

    async def __call__(self, timeout_s: float) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.alive:
            raise Unavailable(Reason.SEGMENTER_UNAVAILABLE, "no sign")


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def presence(probe: Probe) -> AsyncIterator[Presence]:
    watched = Presence("segmenter", Reason.SEGMENTER_UNAVAILABLE, probe, silence_s=0.02)
    yield watched
    await watched.close()


async def test_nothing_is_asked_while_nobody_waits(presence: Presence, probe: Probe) -> None:
    with presence.waiting() as answered:
        answered()
    await asyncio.sleep(0.1)
    assert probe.asked == 0


async def test_a_slow_service_that_gives_signs_stays(
    presence: Presence, probe: Probe, until: Until
) -> None:
    with presence.waiting():
        await until(lambda: probe.asked >= 3)
        assert not presence.away


async def test_a_silent_service_is_away_until_it_gives_a_sign(
    presence: Presence, probe: Probe, until: Until
) -> None:
    probe.alive = False
    with presence.waiting():
        await until(lambda: presence.away)
        with pytest.raises(Unavailable, match="no replica") as refused, presence.waiting():
            pass
        assert refused.value.retry_after_s == 0.02
        assert refused.value.reason is Reason.SEGMENTER_UNAVAILABLE
    # Nobody waits any more; it is still asked, or nobody would learn that it is back.
    probe.alive = True
    await until(lambda: not presence.away)
    with presence.waiting():
        pass


async def test_an_answer_is_the_best_sign(presence: Presence, probe: Probe, until: Until) -> None:
    probe.alive = False
    with presence.waiting() as answered:
        await until(lambda: presence.away)
        answered()
        assert not presence.away
