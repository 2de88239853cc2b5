"""Waiting ends when the caller's time does."""

import asyncio

import pytest

from services.deadline import Deadline
from services.errors import DeadlinePassed
from services.replica.waiting import within


async def test_the_block_is_cut_off() -> None:
    with pytest.raises(DeadlinePassed):
        async with within(Deadline.after(0.01)):
            await asyncio.Event().wait()


async def test_a_passed_deadline_lets_nothing_begin() -> None:
    began = False
    with pytest.raises(DeadlinePassed):
        async with within(Deadline.after(0)):
            began = True
    assert not began


async def test_without_a_deadline_and_in_time() -> None:
    async with within(Deadline()):
        await asyncio.sleep(0)
    async with within(Deadline.after(60)):
        await asyncio.sleep(0)


async def test_a_timeout_of_the_blocks_own_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError):
        async with within(Deadline.after(60)), asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_cancellation_stays_what_it_is() -> None:
    async def block() -> None:
        async with within(Deadline.after(60)):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
