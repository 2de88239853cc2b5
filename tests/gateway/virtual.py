"""A simulation of load in virtual time: an event loop whose clock jumps from timer to timer.

Minutes of load pass in a moment and always in the same way, however busy the machine is. What is
under test (`services.gateway.admission`) is real; what stands behind it is a server of known speed.
"""

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest

from services.caller import ANONYMOUS, Priority
from services.deadline import Deadline
from services.errors import DeadlinePassed, DeadlineTooShort, Overloaded
from services.gateway.admission import Admission
from services.gateway.lanes import Cost
from services.gateway.refusals import RefusalPacer

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: it puts the clock forward by as long as it would have."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "every task waits for another"
        self.now += timeout
        return super().select(0)  # type: ignore[no-any-return]


def simulate(monkeypatch: pytest.MonkeyPatch, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `main` gives, run in virtual time."""
    selector = _Selector()
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: selector.now)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            return runner.run(main())


# What a call costs, refused or not, as it was measured: of the gateway, and of who makes it.
GATEWAY_S, CALLER_S = 0.0009, 0.0004


class Core:
    """One processor core, which all that is simulated shares."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        """By the gateway's loop and the callers, which come before the server."""
        self.gateway_s = 0.0

    def loop(self, seconds: float) -> None:
        """The gateway's event loop works: nothing else happens in it meanwhile."""
        self.spent_s += seconds
        self.gateway_s += seconds
        asyncio.get_running_loop()._selector.now += seconds  # type: ignore[attr-defined]

    async def work(self, seconds: float) -> None:
        """The server works in what is left."""
        while seconds > 1e-6:
            before = self.spent_s
            await asyncio.sleep(seconds)
            seconds = self.spent_s - before


class Server:
    """Works on what comes in batches, in order of arrival, and drops what is too late as replicas
    do: `seconds(n)` a batch of `n`, with some noise. It has a core to itself, or shares `core`.
    """

    def __init__(
        self, seconds: Callable[[int], float], max_batch: int = 8, core: Core | None = None
    ) -> None:
        self._work = asyncio.sleep if core is None else core.work
        self.seconds = seconds
        self._max_batch = max_batch
        self._queue: deque[tuple[asyncio.Future[None], Deadline]] = deque()
        self._arrived = asyncio.Event()
        self._noise = np.random.default_rng(7)
        self.wasted = 0
        """Items that were worked on though nobody waited for them any more."""

    async def answer(self, deadline: Deadline) -> None:
        done: asyncio.Future[None] = asyncio.Future()
        self._queue.append((done, deadline))
        self._arrived.set()
        async with asyncio.timeout(deadline.remaining_s()):
            await done

    async def run(self) -> None:
        while True:
            batch = []
            while self._queue and len(batch) < self._max_batch:
                done, _ = self._queue.popleft()
                if not done.done():
                    batch.append(done)
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._work(self.seconds(len(batch)) * self._noise.lognormal(-0.02, 0.2))
            for done in batch:
                if done.done():
                    self.wasted += 1
                else:
                    done.set_result(None)


@dataclass
class Seen:
    """What became of the calls of one load: seconds of the simulation, and of their waiting."""

    answered: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    too_short: int = 0
    late: int = 0
    retry_after_s: list[float] = field(default_factory=list)

    def goodput(self, begin: float, end: float) -> float:
        """Answers a second."""
        return sum(begin <= at < end for at in self.answered) / (end - begin)

    @property
    def calls(self) -> int:
        return len(self.answered) + len(self.shed) + self.late + self.too_short


class Callers:
    """Makes calls of one kind on `admission` before `server`, and notes what became of each.

    With a `core`, calls take of it what they cost; with a `pacer`, refusals wait for their turn.
    """

    def __init__(
        self,
        admission: Admission,
        server: Server,
        *,
        kind: str = "phrases",
        deadline_s: float = 1.0,
        priority: Priority = Priority.INTERACTIVE,
        core: Core | None = None,
        pacer: RefusalPacer | None = None,
    ) -> None:
        self._core = core
        self._pacer = pacer
        self._admission = admission
        self._server = server
        self._cost = Cost(kind, 1000)
        self._deadline_s = deadline_s
        self._priority = priority
        self.seen = Seen()
        self._begin = time.monotonic()
        self._rng = np.random.default_rng(3)

    @property
    def now(self) -> float:
        return time.monotonic() - self._begin

    async def call(self) -> float:
        """Make one call; seconds after which it may be made again, 0 if it was answered."""
        begin = time.monotonic()
        deadline = Deadline.after(self._deadline_s)
        if self._core is not None:
            self._core.spent_s += CALLER_S
            self._core.loop(GATEWAY_S)
        who, cost, priority = ANONYMOUS, self._cost, self._priority
        try:
            with self._admission.admit(who, cost, deadline, priority):
                async with self._admission.turn(who, cost, deadline, priority):
                    try:
                        await self._server.answer(deadline)
                    except TimeoutError:
                        raise DeadlinePassed from None
        except Overloaded as error:
            if self._pacer is not None:
                await self._pacer.turn(deadline)
            retry_after_s = error.retry_after_s or 0.0  # which the tests hold to be a tenth or more
            self.seen.shed.append(time.monotonic() - begin)
            self.seen.retry_after_s.append(retry_after_s)
            return retry_after_s
        except DeadlineTooShort:
            self.seen.too_short += 1
        except DeadlinePassed:
            self.seen.late += 1
        else:
            self.seen.answered.append(self.now)
        return 0.0

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Calls at random, `rate` a second, whatever becomes of them."""
        end = self.now + seconds
        async with asyncio.TaskGroup() as group:
            while self.now < end:
                group.create_task(self.call())
                await asyncio.sleep(self._rng.exponential(1 / rate))

    async def closed_loop(
        self, callers: int, seconds: float, *, obey: bool, think_s: float = 0.01
    ) -> None:
        """`callers` that call again when they are answered, or as they are told."""
        end = self.now + seconds

        async def ask_on() -> None:
            while self.now < end:
                wait_s = await self.call()
                await asyncio.sleep(wait_s if obey and wait_s else think_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(ask_on())
