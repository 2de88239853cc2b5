"""Whether a gateway still answers: a process may stand still without ending.

One that a signal has stopped is told by its state, within seconds and for certain. One that hangs
is told by its health, which takes longer, since a busy one must not be taken for it.
"""

import asyncio
from collections.abc import Callable

import grpc.aio
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from limelight.proxies import local_options
from services.local import processes

_EVERY_S = 2.0
_ANSWER_S = 5.0
# In a row. A gateway works off its event loop, so even a busy one answers long before.
_LOST = 3
# Between two looks at a process's state, and looks in a row that find it stopped. They are counted,
# so that whoever was stopped together with it does not judge by the time that passed meanwhile.
_LOOK_S = 0.5
_STOPPED = 4


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


async def watch_state(
    pid: Callable[[], int], silent: Callable[[str], None], every_s: float = _LOOK_S
) -> None:
    """Look at a gateway's state in the kernel again and again; never returns.

    Args:
        pid: of its process now.
        silent: called with words for a log when a signal has stopped it and nothing lets it go on.
        every_s: seconds between two looks.
    """
    seen, looked_at = 0, 0
    while True:
        await asyncio.sleep(every_s)
        current = pid()
        seen = seen + 1 if _stopped(current) and current == looked_at else 0
        looked_at = current
        if seen == _STOPPED:
            seen = 0
            silent(f"stands still, stopped by a signal, for {_STOPPED * every_s:g} s")


def _stopped(pid: int) -> bool:
    try:
        return processes.stopped(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


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
