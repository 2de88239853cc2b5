"""Whether a gateway still answers: a process may stand still without ending."""

import asyncio
from collections.abc import Callable

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from limelight.proxies import local_options

_EVERY_S = 2.0
_ANSWER_S = 5.0
# In a row. A gateway works off its event loop, so even a busy one answers long before.
_LOST = 3


async def watch(
    address: Callable[[], str],
    silent: Callable[[str], None],
    every_s: float = _EVERY_S,
    answer_s: float = _ANSWER_S,
) -> None:
    """Ask a gateway for its health again and again; never returns.

    One that refuses connections has just ended, or drains: that is not silence.

    Args:
        address: where it is now.
        silent: called with words for a log when several answers in a row did not come.
        every_s: seconds between two questions.
        answer_s: seconds for an answer.
    """
    lost = 0
    while True:
        await asyncio.sleep(every_s)
        lost = 0 if await _answers(address(), answer_s) else lost + 1
        if lost == _LOST:
            lost = 0
            silent(f"did not answer {_LOST} times in a row, {answer_s:g} s each")


async def _answers(address: str, answer_s: float) -> bool:
    async with grpc.aio.insecure_channel(address, options=local_options(address)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=answer_s
            )
        except grpc.aio.AioRpcError as exc:
            return bool(exc.code() is not grpc.StatusCode.DEADLINE_EXCEEDED)
    return True
