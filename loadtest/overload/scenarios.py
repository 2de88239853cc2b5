"""What is measured: the capacity, and what is left of it under each load, per kind of call."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadtest.overload.caller import RawCaller, with_a_phrase, with_an_instruction
from loadtest.overload.loads import Rate, closed_loop, constant, open_loop, ramp, spike
from loadtest.overload.outcomes import Outcomes
from loadtest.pictures import Album, Picture

TIMES = (1.0, 1.5, 2.0, 5.0, 10.0)
CALLERS = (64, 256)
_CAPACITY_CALLERS = (4, 8)
# What the service is asked afterwards, and for how long, to see when it has recovered.
_AFTER_SHARE, _AFTER_S = 0.5, 4.0
# Of a load, what does not count: the service learns.
_LEARNT_SHARE = 0.25

KINDS: dict[str, tuple[Callable[[Picture], bytes], float]] = {
    "phrases": (with_a_phrase, 1.0),
    "instructions": (with_an_instruction, 3.0),
}


@dataclass(frozen=True)
class LoadMeasured:
    """One load and what came after it.

    Attributes:
        name: of the load.
        times: calls made of what the capacity is; None for callers that come back.
        during, after: what became of the calls.
        goodput: answers a second once the service had learned.
    """

    name: str
    times: float | None
    during: Outcomes
    after: Outcomes
    goodput: float


@dataclass(frozen=True)
class KindMeasured:
    """All loads of one kind of call, whose deadline is `deadline_s`; `capacity` in answers a
    second is the most that few callers got who came back.
    """

    kind: str
    deadline_s: float
    capacity: float
    loads: tuple[LoadMeasured, ...]

    @property
    def peak(self) -> float:
        """The greatest goodput of any load."""
        return max(self.capacity, *(load.goodput for load in self.loads))


class Overload:
    """Measures one deployment: pictures that are new to it, loads of `seconds` each."""

    def __init__(
        self, address: str, album: Album, seconds: float, tell: Callable[[str], None]
    ) -> None:
        self._address = address
        self._album = album
        self._seconds = seconds
        self._tell = tell
        self._rng = np.random.default_rng(0)
        self._numbers: Iterator[int] = iter(range(1, 10**9))

    async def run(self, kind: str) -> KindMeasured:
        """Every load of one kind of call."""
        make, deadline_s = KINDS[kind]
        caller = RawCaller(
            self._address, lambda: make(self._album.new(next(self._numbers))), deadline_s
        )
        try:
            return await self._measure(kind, caller)
        finally:
            await caller.close()

    async def _measure(self, kind: str, caller: RawCaller) -> KindMeasured:
        capacity = 0.0
        for callers in _CAPACITY_CALLERS:
            self._tell(f"{kind}: capacity, {callers} callers")
            alone = await closed_loop(caller, callers, self._seconds, obey=True)
            capacity = max(capacity, alone.goodput(self._seconds * _LEARNT_SHARE))
        if not capacity:
            raise RuntimeError(f"no call of the kind {kind} was answered: {alone.reasons}")
        loads = []
        for name, times, load in self._loads(caller, capacity):
            self._tell(f"{kind}: {name}")
            during = await load()
            rate = constant(_AFTER_SHARE * capacity)
            after = await open_loop(caller, rate, _AFTER_S, self._rng)
            learnt_s = 0.0 if times is None and "spike" in name else self._seconds * _LEARNT_SHARE
            loads.append(LoadMeasured(name, times, during, after, during.goodput(learnt_s)))
        return KindMeasured(kind, caller.deadline_s, capacity, tuple(loads))

    def _loads(
        self, caller: RawCaller, capacity: float
    ) -> Iterator[tuple[str, float | None, Callable[[], Awaitable[Outcomes]]]]:
        def at(rate: Rate) -> Callable[[], Awaitable[Outcomes]]:
            return lambda: open_loop(caller, rate, self._seconds, self._rng)

        def by(callers: int, obey: bool) -> Callable[[], Awaitable[Outcomes]]:
            return lambda: closed_loop(caller, callers, self._seconds, obey=obey)

        for times in TIMES:
            yield f"open, {times:g} times", times, at(constant(times * capacity))
        yield "ramp to 10 times", None, at(ramp(10 * capacity, self._seconds))
        yield "spike of 10 times", None, at(spike(capacity / 2, 10 * capacity, self._seconds))
        for callers in CALLERS:
            yield f"{callers} callers", None, by(callers, obey=False)
            yield f"{callers} callers that obey", None, by(callers, obey=True)
