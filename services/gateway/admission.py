"""Who may come in: the first layer of admission, before anything of a request is looked into.

Calls and the bytes they hold are capped, and each kind of call has a lane
(`services.gateway.lanes`) that knows what can be answered in time. Whoever is shed costs nothing
and is told when to come again. The requests of those who are let in are read, and then take their
turn in their lane.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from services.caller import Caller, Priority
from services.deadline import Deadline
from services.errors import DeadlineTooShort, Overloaded, Reason, Unavailable
from services.gateway.lanes import Cost, Lane, Shed
from services.gateway.metrics import GatewayMetrics

# Calls of one kind share what they need: the segmenter alone, or the planner as well.
PHRASES, INSTRUCTIONS = "phrases", "instructions"
KINDS = (PHRASES, INSTRUCTIONS)
# How soon to come again with a video when as many are tracked as may be.
STREAM_RETRY_S = 5.0
# Of the places for videos, those that batches may not take.
_KEPT_FOR_INTERACTIVE = 1 / 4


class Admission:
    """Admits calls of one event loop.

    Args:
        max_in_flight: calls at a time.
        max_bytes: of images that are held.
        metrics: where what is turned away is counted.
        max_streams: videos at a time.
        stalled: what a call of that kind is told that finds no room while a service that it needs
            answers nothing at all; None where it answers.
        away: what every call of that kind is told, before anything of it is read.
        held_up: whether a service that the kind needs stalled after that instant.
    """

    def __init__(
        self,
        max_in_flight: int,
        max_bytes: int,
        metrics: GatewayMetrics,
        max_streams: int = 16,
        stalled: Callable[[str], Unavailable | None] = lambda _: None,
        away: Callable[[str], Unavailable | None] = lambda _: None,
        held_up: Callable[[str, float], bool] = lambda *_: False,
    ) -> None:
        self._max_streams = max_streams
        self._stalled, self._away = stalled, away
        self._streams = 0
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._in_flight = 0
        self._bytes = 0
        self._draining = False
        self._lanes = {kind: Lane(kind, metrics, partial(held_up, kind)) for kind in KINDS}

    @property
    def in_flight(self) -> int:
        """Calls that were admitted and are not answered: those that wait for their turn too."""
        return self._in_flight

    @property
    def held_bytes(self) -> int:
        """Image bytes held now."""
        return self._bytes

    @property
    def draining(self) -> bool:
        """Whether nothing more is admitted."""
        return self._draining

    def drain(self) -> None:
        """Admit nothing more; what runs goes on."""
        self._draining = True

    def lane(self, kind: str) -> Lane:
        """The calls of `kind`."""
        return self._lanes[kind]

    def check_room(
        self, caller: Caller, deadline: Deadline, priority: Priority = Priority.INTERACTIVE
    ) -> None:
        """Whether there is a place for any call of `caller` at all, whatever it is.

        Raises:
            Overloaded: there is none; with a time to come again.
            DeadlineTooShort: not even a call of the quickest kind would be answered in time.
            Unavailable: the gateway drains.
            DeadlinePassed: it is too late already.
        """
        with self._counting(caller, PHRASES):
            self._check_open()
            lane = self._lanes[PHRASES]  # instructions go through the segmenter, too
            lane.check_alone(1.0, deadline)
            self._check_places(lane, priority)

    @contextmanager
    def admit(
        self,
        caller: Caller,
        cost: Cost,
        deadline: Deadline,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Iterator[None]:
        """Hold a place for one call of `caller`, whose `cost` is a first guess.

        Raises:
            Overloaded: there is no room, or not enough time; with a time to come again.
            DeadlineTooShort: there would not be enough time if nobody else were there.
            Unavailable: the gateway drains, or a service is away; or there is no room because one
                stands still.
            DeadlinePassed: it is too late already.
        """
        with self._counting(caller, cost.kind):
            self._check(cost, deadline, priority)
        self._hold(1, cost.held_bytes)
        try:
            yield
        finally:
            self._hold(-1, -cost.held_bytes)

    @asynccontextmanager
    async def turn(
        self,
        caller: Caller,
        cost: Cost,
        deadline: Deadline,
        priority: Priority = Priority.INTERACTIVE,
    ) -> AsyncIterator[None]:
        """Wait until it is the turn of an admitted call, whose `cost` is known, and hold its place
        among those that are worked on. Raises as `admit`.
        """
        lane = self._lanes[cost.kind]
        with self._counting(caller, cost.kind):
            turn = await lane.take(cost.units, priority, deadline)
        with turn:
            yield

    @property
    def streams(self) -> int:
        """Videos tracked now."""
        return self._streams

    @contextmanager
    def admit_stream(
        self, caller: Caller, deadline: Deadline, priority: Priority = Priority.INTERACTIVE
    ) -> Iterator[None]:
        """Hold a place for one video of `caller`, whose length nobody knows.

        Batches leave a quarter of the places to interactive callers.

        Raises:
            Overloaded: as many are tracked as may be; with a time to come again.
            Unavailable: the gateway drains.
            DeadlinePassed: it is too late already.
        """
        with self._counting(caller):
            self._check_open()
            deadline.check()
            places = self._max_streams
            if priority is Priority.BATCH:
                places -= int(places * _KEPT_FOR_INTERACTIVE)
            if self._streams >= places:
                message = f"{self._streams} videos are tracked, the most at once"
                raise Shed("streams", message, STREAM_RETRY_S)
        self._count_stream(1)
        try:
            yield
        finally:
            self._count_stream(-1)

    def _check(self, cost: Cost, deadline: Deadline, priority: Priority) -> None:
        self._check_open()
        if (away := self._away(cost.kind)) is not None:
            raise away
        lane = self._lanes[cost.kind]
        lane.check_alone(cost.units, deadline)
        self._check_places(lane, priority)
        if self._bytes + cost.held_bytes > self._max_bytes and self._in_flight:
            message = "the images in progress fill the memory set aside"
            raise lane.shed("bytes", message, priority)
        lane.check(cost.units, priority, deadline)

    def _check_places(self, lane: Lane, priority: Priority) -> None:
        if self._in_flight >= self._max_in_flight:
            message = f"{self._in_flight} calls are in progress"
            raise lane.shed("in_flight", message, priority)

    def _check_open(self) -> None:
        if self._draining:
            raise Unavailable(Reason.DRAINING, "the server is shutting down", retry_after_s=1.0)

    def _count_stream(self, streams: int) -> None:
        self._streams += streams
        self._metrics.streams.set(self._streams)

    @contextmanager
    def _counting(self, caller: Caller, kind: str | None = None) -> Iterator[None]:
        try:
            yield
        except Overloaded as error:
            if kind is not None and (stalled := self._stalled(kind)) is not None:
                # Fewer calls would not be answered either: to clients, this passes by itself.
                self._count_shed("stalled", caller)
                raise stalled from error
            self._count_shed(error.why if isinstance(error, Shed) else "queue", caller)
            raise
        except DeadlineTooShort:
            self._count_shed("deadline_too_short", caller)
            raise
        except Unavailable as error:
            why = "draining" if error.reason is Reason.DRAINING else "away"
            self._count_shed(why, caller)
            raise

    def _count_shed(self, why: str, caller: Caller) -> None:
        self._metrics.shed.labels(why).inc()
        self._metrics.tenant_shed.labels(caller.tenant, why).inc()

    def _hold(self, calls: int, held_bytes: int) -> None:
        self._in_flight += calls
        self._bytes += held_bytes
        self._metrics.in_flight.set(self._in_flight)
        self._metrics.in_flight_bytes.set(self._bytes)
