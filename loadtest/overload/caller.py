"""One call as bytes: neither request nor answer is made into messages, which would cost the
generator as much as the gateway.
"""

import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from limelight.channels import OPTIONS
from limelight.errors import from_rpc
from limelight.v1 import limelight_pb2
from loadtest.overload.outcomes import CallOutcome
from loadtest.pictures import Picture

_SEGMENT = "/limelight.v1.LimelightService/Segment"


def with_a_phrase(picture: Picture) -> bytes:
    """The request for the first thing in the picture."""
    task = limelight_pb2.SegmentTask()
    task.image.content = picture.content
    task.queries.include.add(phrase=picture.phrases[0])
    return limelight_pb2.SegmentRequest(task=task).SerializeToString()


def with_an_instruction(picture: Picture) -> bytes:
    """The request for the same in words that the planner reads."""
    task = limelight_pb2.SegmentTask(instruction=f"please find the {picture.phrases[0]}")
    task.image.content = picture.content
    return limelight_pb2.SegmentRequest(task=task).SerializeToString()


class RawCaller:
    """Calls `Segment` with what `make` gives, `deadline_s` each, over `channels` connections."""

    def __init__(
        self, address: str, make: Callable[[], bytes], deadline_s: float, channels: int = 4
    ) -> None:
        # Connections are shared by all channels of equal options otherwise.
        options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(address, options=options) for _ in range(channels)
        ]
        self._calls: list[Any] = [channel.unary_unary(_SEGMENT) for channel in self._channels]
        self._make = make
        self.deadline_s = deadline_s
        self._next = 0

    async def call(self, began: float, due: float) -> CallOutcome:
        """Make the call that is due at `due`; both are seconds of `time.perf_counter`."""
        self._next += 1
        method = self._calls[self._next % len(self._calls)]
        reason, retry_after = "", None
        try:
            await method(self._make(), timeout=self.deadline_s)
        except grpc.aio.AioRpcError as exc:
            error = from_rpc(exc, "")
            reason, retry_after = error.reason or error.code.name.lower(), error.retry_after
        latency = time.perf_counter() - due
        good = not reason and latency <= self.deadline_s
        return CallOutcome(due - began, latency, good, reason, retry_after)

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()
