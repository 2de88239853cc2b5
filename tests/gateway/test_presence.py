"""A service that has fallen silent is asked for a sign of life, and counts as away without one."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from services.errors import Reason, Unavailable
from services.gateway.presence import Presence
from tests.conftest import Clock, Until


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


@pytest.fixture
async def patient(probe: Probe) -> AsyncIterator[Presence]:
    """One that asks for no sign of life in the time of a test."""
    watched = Presence("segmenter", Reason.SEGMENTER_UNAVAILABLE, probe, silence_s=3600.0)
    yield watched
    await watched.close()


async def test_a_service_that_answers_nothing_stalls(patient: Presence, clock: Clock) -> None:
    assert patient.stalled() is None
    with patient.waiting() as answered:
        clock.advance(1.5)
        assert patient.stalled() is None
        clock.advance(1.0)
        stalled = patient.stalled()
        assert stalled is not None
        assert stalled.reason is Reason.SEGMENTER_UNAVAILABLE
        assert stalled.retry_after_s is not None
        answered()
        assert patient.stalled() is None
    clock.advance(60)
    assert patient.stalled() is None, "nobody asked it anything"
    with patient.waiting():
        assert patient.stalled() is None


async def test_what_an_outage_took_is_not_what_answers_take(
    patient: Presence, clock: Clock
) -> None:
    def answer(seconds: float) -> bool:
        """Whether a call was held up that took so long."""
        with patient.waiting() as answered:
            began = time.monotonic()
            clock.advance(seconds)
            answered()
            return patient.held_up(began)

    assert not answer(10), "the first one may take that long"
    assert not answer(0.1)
    assert answer(40)
    assert not answer(40), "it has become slow"
    assert not answer(0.1)


async def test_a_slow_service_does_not_stall(patient: Presence, clock: Clock) -> None:
    with patient.waiting() as answered:
        clock.advance(10)
        answered()
    with patient.waiting() as answered:
        clock.advance(25)
        assert patient.stalled() is None, "it takes that long"
        clock.advance(10)
        assert patient.stalled() is not None
        answered()
    for _ in range(60):  # it has become quick
        with patient.waiting() as answered:
            answered()
    with patient.waiting():
        clock.advance(2.5)
        assert patient.stalled() is not None


async def test_a_service_whose_calls_all_fail_stalls_as_well(
    patient: Presence, clock: Clock
) -> None:
    """A proxy that has ended refuses each call at once, so that none waits for long."""
    for _ in range(5):
        with patient.waiting():
            pass
        clock.advance(0.6)
    assert patient.stalled() is not None
    clock.advance(60)
    assert patient.stalled() is None, "nobody has asked it for long"


async def test_a_service_whose_calls_all_fail_is_away(
    presence: Presence, probe: Probe, until: Until
) -> None:
    """Nobody waits for long, yet whoever comes need not be tried again and again."""
    probe.alive = False
    end = asyncio.get_running_loop().time() + 60
    while not presence.away:
        with presence.waiting():
            pass
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() < end
    assert presence.refusal() is not None
    probe.alive = True
    await until(lambda: not presence.away)
    assert presence.refusal() is None
