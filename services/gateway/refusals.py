"""How fast calls are turned away, so that it leaves the time to answer others.

A refusal costs the gateway a millisecond, and as much again elsewhere on the machine. Callers that
come back the moment they are refused, whatever they are told, would take every processor for it:
their number alone decides how often they come. So only a share of one core goes to refusals, and
less where the event loop falls behind, which delays every answer (additive increase, multiplicative
decrease of their rate, as in `services.gateway.lanes`). Those that come faster wait their turn,
which slows such callers down. A burst, and all who come when they were told to, are refused at
once.
"""

import asyncio
import time

from services.deadline import Deadline
from services.running_mean import RunningMean

# What a refusal is taken to cost before it was measured, and bounds for what is measured: seconds.
_FIRST_S, _LEAST_S, _MOST_S = 0.001, 0.0002, 0.01
# The loop is looked at so often while calls are refused. It is behind when a timer is so late, and
# then the rate is cut; otherwise it grows, by a share of the most it may be.
_LOOK_S, _LATE_S, _CUT, _GROWTH = 0.05, 0.03, 0.8, 0.01
# The least rate, of the most: others may be what delays the loop.
_LEAST_RATE = 0.2
# A measurement of the cost takes so many seconds and so many refusals at least.
_MEASURED_S, _MEASURED_CALLS = 0.25, 16
# Refusals of so many seconds are given at once, after as long without any.
_BURST_S = 1.0
# Of a caller's time: what it may wait for its refusal, and seconds at most.
_WAIT_SHARE, _MOST_WAIT_S = 0.75, 2.0
# So many wait, some 20 kB each; more are refused at once.
_MOST_WAITING = 4096


class RefusalPacer:
    """The refusals of one event loop.

    Args:
        share: of one core, what refusals may take.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._cost = RunningMean()
        self._rate = self._most_rate
        self._next = 0.0
        self._waiting = 0
        self._since = time.monotonic()
        self._cpu_s = time.process_time()
        self._count = 0
        self._looking: asyncio.Task[None] | None = None

    @property
    def rate(self) -> float:
        """Refusals a second, at present."""
        return self._rate

    @property
    def waiting(self) -> int:
        """Refusals that wait for their turn."""
        return self._waiting

    async def turn(self, deadline: Deadline) -> None:
        """Wait until a caller may be told that it is refused, who gives up at `deadline`."""
        self._count += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        delay_s = self._delay_s(deadline)
        if delay_s <= 0 or self._waiting >= _MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._waiting -= 1

    @property
    def _most_rate(self) -> float:
        """Refusals a second that take as much as they may."""
        return self._share / (self._cost.value or _FIRST_S)

    def _delay_s(self, deadline: Deadline) -> float:
        now = time.monotonic()
        most_s, remaining_s = _MOST_WAIT_S, deadline.remaining_s()
        if remaining_s is not None:
            most_s = min(most_s, remaining_s * _WAIT_SHARE)
        # Whoever would wait longer than that puts nobody else off.
        self._next = min(max(self._next, now - _BURST_S) + 1 / self._rate, now + _MOST_WAIT_S)
        return min(self._next - now, most_s)

    async def _look(self) -> None:
        """Adapt the rate for as long as calls are refused."""
        self._since, self._cpu_s = time.monotonic(), time.process_time()
        quiet_s = 0.0
        while quiet_s < _BURST_S:
            before, due = self._count, time.monotonic() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            quiet_s = 0.0 if self._count != before or self._waiting else quiet_s + _LOOK_S
            self._measure(now)
            if now - due > _LATE_S:
                self._rate *= _CUT
            else:
                self._rate += _GROWTH * self._most_rate
            self._rate = min(max(self._rate, _LEAST_RATE * self._most_rate), self._most_rate)
        self._rate = self._most_rate

    def _measure(self, now: float) -> None:
        """Learn from the process's own time what a refusal costs, answers counted in."""
        if now - self._since < _MEASURED_S:
            return
        cpu_s = time.process_time()
        if self._count >= _MEASURED_CALLS:
            cost_s = (cpu_s - self._cpu_s) / self._count
            self._cost.add(min(max(cost_s, _LEAST_S), _MOST_S))
        self._since, self._cpu_s, self._count = now, cpu_s, 0
