"""Credits hold each side of a stream back until the other has taken what was sent."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from services.errors import InvalidRequest, Reason
from services.rpc.credits import Credits, FlowControl, Receiver, Sender


@dataclass
class Note:
    """A message of either direction."""

    number: int = 0
    credits: int = 0
    finish: bool = False


def give_back(note: Note, credits: int) -> None:
    note.credits = credits


FLOW = FlowControl(
    window=4,
    acknowledge=lambda count: Note(credits=count),
    finish=lambda: Note(finish=True),
    credits_of=lambda note: note.credits,
    give_back=give_back,
    is_finish=lambda note: note.finish,
)
FINISH = Note(finish=True)


async def notes(read: list[int], count: int = 10) -> AsyncIterator[Note]:
    for number in range(count):
        read.append(number)
        yield Note(number)


async def stream(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_spending_waits_for_a_grant() -> None:
    credits = Credits(1)
    await credits.spend()
    second = asyncio.ensure_future(credits.spend())
    await settle()
    assert not second.done()
    credits.grant(3)
    await second
    assert credits.left == 2


async def test_no_request_is_read_without_a_credit() -> None:
    read: list[int] = []
    sender = Sender(notes(read), FLOW)
    sending = aiter(sender)
    assert [(await anext(sending)).number for _ in range(4)] == [0, 1, 2, 3]
    fifth = asyncio.ensure_future(anext(sending))
    await settle()
    assert read == [0, 1, 2, 3]
    assert not fifth.done()
    sender.received(Note(credits=2))
    assert (await fifth).number == 4
    await sending.aclose()


async def test_responses_are_acknowledged_half_a_window_at_a_time() -> None:
    sender = Sender(notes([], count=1), FLOW)
    sending = aiter(sender)
    assert [await anext(sending), await anext(sending)] == [Note(0), FINISH]
    third = asyncio.ensure_future(anext(sending))
    sender.taken()
    await settle()
    assert not third.done()
    sender.taken()
    assert await third == Note(credits=2)
    await sending.aclose()


async def test_a_source_that_fails_fails_the_sender() -> None:
    async def broken() -> AsyncIterator[Note]:
        yield Note(1)
        raise InvalidRequest(Reason.OPTION_INVALID, "broken")

    sending = aiter(Sender(broken(), FLOW))
    await anext(sending)
    with pytest.raises(InvalidRequest):
        await anext(sending)


async def released(incoming: Receiver[Note]) -> int:
    """The credits that go with the next response."""
    response = Note()
    await incoming.release(response)
    return response.credits


async def test_a_closed_sender_ends_although_its_source_does_not() -> None:
    async def resting() -> AsyncIterator[Note]:
        yield Note(0)
        await asyncio.Event().wait()

    sender = Sender(resting(), FLOW)
    sending = aiter(sender)
    await anext(sending)
    second = asyncio.ensure_future(anext(sending))
    await settle()
    assert not second.done()
    sender.close()
    with pytest.raises(StopAsyncIteration):
        await second


async def test_a_response_gives_back_once_what_was_taken() -> None:
    async with Receiver(stream([Note(1), Note(2), Note(3), FINISH]), FLOW) as incoming:
        assert await released(incoming) == 0
        assert [(await anext(incoming)).number for _ in range(2)] == [1, 2]
        assert await released(incoming) == 2
        assert await released(incoming) == 0
        assert [note.number async for note in incoming] == [3]
        assert await released(incoming) == 1


async def test_the_receiver_sees_acknowledgments_while_it_works() -> None:
    async def requests() -> AsyncIterator[Note]:
        yield Note(1)
        yield Note(credits=2)
        await asyncio.Event().wait()

    async with Receiver(requests(), FLOW) as incoming:
        await anext(incoming)
        for _ in range(6):
            await released(incoming)
        seventh = asyncio.ensure_future(released(incoming))
        await settle()
        assert not seventh.done()
        seventh.cancel()


async def test_a_receiver_that_is_done_drops_what_comes_until_the_sender_has_closed() -> None:
    go, close = asyncio.Event(), asyncio.Event()
    left: list[int] = []

    async def requests() -> AsyncIterator[Note]:
        await go.wait()
        for number in range(20):  # more than there are credits for
            left.append(number)
            yield Note(number)
        await close.wait()

    async with Receiver(requests(), FLOW) as incoming:
        closing = asyncio.ensure_future(incoming.closed(60))
        await settle()
        go.set()
        await settle()
        assert len(left) == 20
        assert not closing.done()
        close.set()
        await closing


async def test_a_sender_that_ignores_credits_is_refused() -> None:
    async with Receiver(notes([], count=9), FLOW) as incoming:
        await settle()
        with pytest.raises(InvalidRequest, match="without a credit"):
            async for _ in incoming:
                pass


async def test_a_broken_stream_reaches_the_receiver() -> None:
    async def broken() -> AsyncIterator[Note]:
        yield Note(1)
        raise ConnectionError("gone")

    async with Receiver(broken(), FLOW) as incoming:
        assert await anext(incoming) == Note(1)
        with pytest.raises(ConnectionError):
            await anext(incoming)
