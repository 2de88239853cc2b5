"""How many calls of one kind are worked on at once, who is next, and who is told at once that it
cannot be.

A lane has room for as many units of work as answer well, which it finds out as TCP does (AIMD: D.
Chiu and R. Jain, 1989; for models with a latency objective: Clipper, D. Crankshaw et al., NSDI
2017): calls answered within their target while the lane is full raise its limit little by little,
and a call that took longer cuts it by a share, once per round trip. So it follows the services
behind, and shares them with other gateways, without being told of either. The target is half a
second or half of the caller's time, but more for what takes long anyway: it is measured by the
quickest answer of late.

Calls that find no room wait in a short queue, a sixteenth of their time at most: interactive ones
before batches, to which the last quarter of the room is closed. Whoever would wait longer, or be
answered too late, is told on arrival. Those estimates are work ahead over the pace of late
(`services.pace`); they are made again when a call's turn comes, so that no work goes to what cannot
be answered in time.

A call that is shed is told when to come again, each a little later than the one before it, so that
all those that do as told come back no faster than twice the pace.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from services.caller import Priority
from services.deadline import Deadline
from services.errors import (
    DeadlinePassed,
    DeadlineTooShort,
    Overloaded,
    Reason,
)
from services.gateway.metrics import GatewayMetrics
from services.pace import Pace

# A lane's limit: at first, and at least. One unit answers while another is on its way.
_FIRST_LIMIT, _LEAST_LIMIT = 8.0, 2.0
# Answers within so many seconds are quick enough to let in more, or within so many times the
# quickest of late: a batch that runs already, and then a batch larger than that.
_TARGET_S, _SLOW, _SLOW_AT_LEAST = 0.5, 3.0, 2.0
# What is left of the limit after an answer beyond its target, and after one that was too late.
_CUT, _HARD_CUT = 0.9, 0.7
# Of a caller's time: what an answer may take of it for the lane to be well; what may pass before
# its turn; and what an estimate may come to. The rest is for what no estimate knows.
_WELL_SHARE, _WAIT_SHARE, _SAFE_SHARE = 0.5, 1 / 16, 0.85
# Of a lane's room, what batches may fill: people need not wait for the end of one.
_BATCH_SHARE = 0.75
# Nobody waits longer for a turn.
_MOST_WAIT_S = 30.0
# Calls that are shed are told to come back at so many times the pace, between these delays.
_RETURN_PACE = 2.0
_RETRY_S = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call is estimated to take.

    Attributes:
        kind: calls of one kind take about equally long for a unit of work.
        held_bytes: image bytes that the call holds for as long as it lives.
        units: work, of which a plain call of the kind has one.
    """

    kind: str
    held_bytes: int
    units: float = 1.0


class Shed(Overloaded):
    """A call that is not worked on; `why` is its label in `limelight_shed_total`."""

    def __init__(self, why: str, message: str, retry_after_s: float) -> None:
        super().__init__(Reason.OVERLOADED, message, retry_after_s=retry_after_s)
        self.why = why


@dataclass(eq=False, slots=True)
class _Waiter:
    units: float
    deadline: Deadline
    turn: asyncio.Future[None]
    since: float


class Lane:
    """The calls of one kind, in one event loop.

    Args:
        kind: of the calls.
        metrics: where the lane is shown.
        held_up: whether a service that they need answered nothing for a while after that instant.
    """

    def __init__(
        self,
        kind: str,
        metrics: GatewayMetrics,
        held_up: Callable[[float], bool] = lambda _: False,
    ) -> None:
        self._kind = kind
        self._held_up = held_up
        self._metrics = metrics
        self._pace = Pace()
        self._limit = _FIRST_LIMIT
        self._busy = 0.0
        self._begun = 0
        self._last_cut = 0.0
        self._next_return = 0.0
        self._queues: dict[Priority, deque[_Waiter]] = {each: deque() for each in Priority}
        self._show()

    @property
    def limit(self) -> float:
        """Units of work that may be under way now."""
        return self._limit

    @property
    def busy(self) -> float:
        """Units of work under way."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return sum(map(len, self._queues.values()))

    def check(self, units: float, priority: Priority, deadline: Deadline) -> None:
        """Raise what a call would be told that came now; cheap, so before anything is read of it.

        Raises:
            Shed: it would wait too long, or be answered too late, for others are ahead of it.
            DeadlineTooShort: not even alone would it be answered in time.
            DeadlinePassed: it is too late already.
        """
        self.check_alone(units, deadline)
        remaining = deadline.remaining_s()
        if remaining is None:
            return
        wait_s = self._wait_s(units, priority)
        patience_s = _patience_s(remaining)
        if wait_s > patience_s or self._stands_s(priority) > patience_s / 2:
            raise self.shed("queue", "too many calls wait", priority)
        if self._busy and wait_s + self._expected_s(units) > remaining * _SAFE_SHARE:
            raise self.shed("deadline", "calls ahead leave too little time", priority)

    def check_alone(self, units: float, deadline: Deadline) -> None:
        """Raise what a call would be told if nobody else were there.

        Raises:
            DeadlineTooShort: it would not be answered in time.
            DeadlinePassed: it is too late already.
        """
        deadline.check()
        remaining = deadline.remaining_s()
        alone_s = self.idle_s(units)
        if remaining is not None and alone_s > remaining:
            raise DeadlineTooShort(
                f"{remaining * 1000:.0f} ms are left, and the quickest answer took "
                f"{alone_s * 1000:.0f} ms with no other call beside it"
            )

    def idle_s(self, units: float) -> float:
        """Seconds that a call takes with no other beside it; 0 when unknown."""
        return self._pace.idle_s(units)

    async def take(
        self, units: float, priority: Priority, deadline: Deadline
    ) -> AbstractContextManager[None]:
        """Wait for the call's turn; what it does with it runs inside of what this gives, at once.

        Raises:
            Shed, DeadlineTooShort, DeadlinePassed: see `check`; also after a wait.
        """
        granted_s = deadline.remaining_s()
        self.check(units, priority, deadline)
        if self._fits(units, priority) and not self._ahead(priority):
            self._hold(units)
        else:
            waiter = _Waiter(units, deadline, asyncio.Future(), time.monotonic())
            await self._wait(waiter, priority)
        return self._turn(units, priority, deadline, granted_s)

    @contextmanager
    def _turn(
        self, units: float, priority: Priority, deadline: Deadline, granted_s: float | None
    ) -> Iterator[None]:
        begin, under_way = time.monotonic(), self._busy
        number, alone = self._begun, self._busy <= units
        try:
            yield
        except (DeadlinePassed, Overloaded):
            self._cut(_HARD_CUT)
            raise
        except asyncio.CancelledError:
            if deadline.passed:
                self._cut(_HARD_CUT)
            raise
        else:
            if self._held_up(begin):
                return  # an outage is no pace, and the next call need not have so much time
            full = not self._fits(1.0, priority) or under_way + 1.0 > self._room(priority)
            seconds = time.monotonic() - begin
            self.learn(units, under_way, seconds, alone and self._begun == number)
            self._adapt(units, seconds, granted_s, full)
        finally:
            self._hold(-units)
            self._call_next()

    def learn(self, units: float, under_way: float, seconds: float, alone: bool) -> None:
        """A call of `units` took `seconds`, with `under_way` units in the lane as it began."""
        self._pace.done(units, under_way, seconds, alone)

    def shed(self, why: str, message: str, priority: Priority) -> Shed:
        """What to raise for a call that is not worked on, with a time to come again.

        Each one's is later than that of the one before.
        """
        now = time.monotonic()
        soonest, latest = _RETRY_S
        soonest = max(soonest, self._pace.wait_s(self._ahead(priority)))
        self._next_return = min(
            max(self._next_return, now + soonest) + self._pace.wait_s(1) / _RETURN_PACE,
            now + latest,
        )
        return Shed(why, message, min(self._next_return - now, latest))

    def _adapt(self, units: float, seconds: float, granted_s: float | None, full: bool) -> None:
        """Learn from an answer of how many at a time answer well."""
        if seconds > self._target_s(units, granted_s):
            self._cut(_CUT)
        elif full:
            # One more a round trip, in which as many units end as there is room for.
            self._limit += units / self._limit
        self._show()

    def _target_s(self, units: float, granted_s: float | None) -> float:
        """Within how many seconds an answer is quick enough to let in more."""
        quickest_s = self._pace.quickest_s(units)
        target_s = max(_TARGET_S, _SLOW * quickest_s)
        if granted_s is None:
            return target_s
        return min(target_s, max(granted_s * _WELL_SHARE, _SLOW_AT_LEAST * quickest_s))

    def _cut(self, share: float) -> None:
        now = time.monotonic()
        if now >= self._last_cut + self._pace.expected_s(1.0, self._busy):
            self._last_cut = now
            self._limit = max(_LEAST_LIMIT, self._limit * share)

    def _room(self, priority: Priority) -> float:
        """Units that may be under way when a call of `priority` begins."""
        return self._limit * (_BATCH_SHARE if priority is Priority.BATCH else 1.0)

    def _fits(self, units: float, priority: Priority) -> bool:
        return self._busy + units <= self._room(priority) or not self._busy

    def _ahead(self, priority: Priority) -> float:
        """Units that wait and come before a new call of `priority`."""
        return sum(
            waiter.units
            for each, queue in self._queues.items()
            if each <= priority
            for waiter in queue
        )

    def _wait_s(self, units: float, priority: Priority) -> float:
        ahead = self._ahead(priority)
        return self._pace.wait_s(max(0.0, ahead + self._busy + units - self._room(priority)))

    def _expected_s(self, units: float) -> float:
        return self._pace.expected_s(units, min(self._busy + units, max(self._limit, units)))

    def _stands_s(self, priority: Priority) -> float:
        """Seconds that a call has waited already which comes before a new one of `priority`."""
        heads = [queue[0] for each, queue in self._queues.items() if each <= priority and queue]
        return max((time.monotonic() - head.since for head in heads), default=0.0)

    async def _wait(self, waiter: _Waiter, priority: Priority) -> None:
        queue = self._queues[priority]
        queue.append(waiter)
        self._show()
        remaining = waiter.deadline.remaining_s()
        patience_s = _MOST_WAIT_S if remaining is None else _patience_s(remaining)
        try:
            async with asyncio.timeout(patience_s) as timer:
                await waiter.turn
        except BaseException as error:
            if waiter in queue:
                queue.remove(waiter)
            if waiter.turn.done() and not waiter.turn.cancelled() and not waiter.turn.exception():
                self._hold(-waiter.units)  # its turn had come as it left
                self._call_next()
            if isinstance(error, TimeoutError) and timer.expired():
                raise self.shed("queue", "its turn did not come in time", priority) from None
            raise
        finally:
            self._show()

    def _call_next(self) -> None:
        for priority, queue in self._queues.items():
            while queue and self._fits(queue[0].units, priority):
                waiter = queue.popleft()
                if waiter.turn.done():
                    continue
                remaining = waiter.deadline.remaining_s()
                expected_s = self._expected_s(waiter.units)
                if remaining is not None and expected_s > remaining and self._busy:
                    message = "the calls before it took too long"
                    waiter.turn.set_exception(self.shed("deadline", message, priority))
                    continue
                self._hold(waiter.units)
                waiter.turn.set_result(None)
            if queue:
                return  # nobody overtakes those of a higher priority

    def _hold(self, units: float) -> None:
        self._begun += units > 0
        self._busy += units
        if self._busy < 1e-9:  # sums of fractions
            self._busy = 0.0
        self._show()

    def _show(self) -> None:
        self._metrics.lane(self._kind, self._limit, self._busy, self.waiting)


def _patience_s(remaining: float) -> float:
    return min(remaining * _WAIT_SHARE, _MOST_WAIT_S)
