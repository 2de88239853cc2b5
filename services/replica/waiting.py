"""Waiting no longer than the caller does: used around everything a request awaits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.deadline import Deadline
from services.errors import DeadlinePassed


@asynccontextmanager
async def within(deadline: Deadline) -> AsyncIterator[None]:
    """Cancel the block when `deadline` passes and raise `DeadlinePassed` in its place."""
    deadline.check()
    try:
        async with asyncio.timeout(deadline.remaining_s()) as timer:
            yield
    except TimeoutError as error:
        if timer.expired():
            raise DeadlinePassed from error
        raise
