"""One fault under steady calls."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from limelight import AsyncClient, Segmentation
from loadtest.chaos.evidence import NotMet
from loadtest.chaos.faults import LocalFault
from loadtest.generator import Load, Sample, open_loop
from loadtest.pictures import Album
from services.local.description import describe
from services.local.state import Phase, StackFolder, StackState

# Seconds of calls before the fault, and after what can be undone of it.
BEFORE_S, AFTER_S = 4.0, 6.0
# Clients with a connection each, shared out among the gateways.
CLIENTS = 8
# Seconds of a call's deadline, its repetitions included.
DEADLINE_S = 60.0
# An answer that takes longer was held up by the fault.
HELD_UP_S = 2.0
_WELL_S = 240.0


class StackEnded(Exception):
    """The stack is no longer there."""


class OwnConnection(AsyncClient):
    """A client whose connection no other of this process shares."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._options = [*self._options, ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Trial:
    """What became of the calls around one fault, which happened `at_s` seconds after the first.

    `well` is whether the whole stack was well again in time for the next fault. `evidence` tells in
    words that a limit was met, and `unmet` that it was not, or not as promised.
    """

    fault: LocalFault
    load: Load
    at_s: float
    well: bool
    evidence: str = ""
    unmet: str = ""

    @property
    def lost(self) -> int:
        """Calls that failed in spite of the client's repetitions."""
        return sum(sample.error is not None for sample in self.load.samples)

    @property
    def slowest_s(self) -> float:
        """Seconds of the slowest answer, from when its call was due; 0 without any."""
        return max((sample.latency_s for sample in self.load.answered), default=0.0)

    @property
    def recovered_s(self) -> float:
        """Seconds from the fault to the last call's due time that failed or was held up."""
        return max((_due_s(one) - self.at_s for one in self._suffered()), default=0.0)

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        in_time = self.fault.well_s is None or self.recovered_s <= self.fault.well_s
        return self.well and not self.lost and in_time and not self.unmet

    def _suffered(self) -> Iterator[Sample]:
        for sample in self.load.samples:
            held_up = sample.error is not None or sample.latency_s > HELD_UP_S
            if held_up and _due_s(sample) + sample.latency_s > self.at_s:
                yield sample


def _due_s(sample: Sample) -> float:
    return sample.ended_s - sample.latency_s


class Chaos:
    """Lets faults happen to one stack.

    Args:
        folder: where the stack's state and logs are.
        album: what is asked about.
        rate: calls a second.
        tell: progress, in words.
    """

    def __init__(
        self,
        folder: StackFolder,
        album: Album,
        rate: float,
        tell: Callable[[str], None],
    ) -> None:
        self._folder, self._album, self._rate, self._tell = folder, album, rate, tell
        self._numbers = iter(range(1, 10**9))
        self._rng = np.random.default_rng(0)

    async def run(self, fault: LocalFault) -> Trial:
        """One fault, from steady calls to a stack that is well again.

        Raises:
            StackEnded, NoSuchPart: the fault could not happen.
        """
        self._tell(fault.name)
        address = self._state().addresses["gateway"]
        async with contextlib.AsyncExitStack() as open_clients:
            clients = [
                await open_clients.enter_async_context(OwnConnection(address))
                for _ in range(CLIENTS)
            ]

            async def call(number: int) -> Segmentation:
                picture = self._album.new(number)
                client = clients[number % len(clients)]
                return await client.segment(
                    picture.content, phrases=[picture.phrases[0]], timeout=DEADLINE_S
                )

            seconds = BEFORE_S + fault.lasts_s + AFTER_S + (fault.well_s or 8.0)
            began = time.perf_counter()
            calls = asyncio.create_task(
                open_loop(call, self._numbers, self._rate, seconds, self._rng)
            )
            await asyncio.sleep(BEFORE_S)
            at_s = time.perf_counter() - began
            try:
                with await asyncio.to_thread(fault.happens, self._state()):
                    lasting = asyncio.create_task(asyncio.sleep(fault.lasts_s))
                    if fault.evidence is not None:
                        await fault.evidence.during(self._state())
                    await lasting
                load = await calls
            finally:
                calls.cancel()
        trial = Trial(fault, load, at_s, await self.well(), *await self._evidence(fault))
        self._tell(
            f"  {trial.lost} of {len(load.samples)} calls lost, slowest answer "
            f"{trial.slowest_s:.1f} s, well again after {trial.recovered_s:.1f} s"
        )
        return trial

    async def _evidence(self, fault: LocalFault) -> tuple[str, str]:
        if fault.evidence is None:
            return "", ""
        try:
            return await fault.evidence.after(self._state(), self._folder), ""
        except NotMet as exc:
            return "", str(exc)

    async def well(self) -> bool:
        """Wait until all parts serve; whether they did in time."""
        end = time.perf_counter() + _WELL_S
        while time.perf_counter() < end:
            state = self._folder.read()
            if state is None:
                return False
            if state.phase is Phase.READY and not state.stage:
                report = await asyncio.to_thread(describe, state)
                if all(service["health"] == "serving" for service in report["services"]):
                    return True
            await asyncio.sleep(0.5)
        return False

    def _state(self) -> StackState:
        state = self._folder.read()
        if state is None:
            raise StackEnded("the stack has ended")
        return state
