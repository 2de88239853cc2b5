"""The client against a real server: answers, errors, retries, cancellation, sync and async."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from limelight import (
    AsyncClient,
    CandidatesFound,
    CandidateVerdict,
    Client,
    Done,
    LimelightError,
    PlanMade,
    RetryPolicy,
    SelectBy,
    Selection,
)
from limelight.paths import FieldPath
from limelight.values import VerdictKind
from services.errors import Internal, InvalidRequest, Overloaded, Reason, TooLarge, Unavailable
from services.local.ports import free_ports
from tests.client.stand_in import SIZE, StandIn, mask, serving

PICTURE = b"any bytes: the stand-in does not look"
QUICK = RetryPolicy(attempts=3, first_delay=0.01, patience=0.0)

type_of_call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def segment(request: pytest.FixtureRequest, address: str) -> type_of_call:
    """One call through either client."""

    def sync(image: Any = PICTURE, instruction: str | None = None, **options: Any) -> Any:
        with Client(address, retry=QUICK) as client:
            return client.segment(image, instruction, **options)

    def aio(image: Any = PICTURE, instruction: str | None = None, **options: Any) -> Any:
        async def call() -> Any:
            async with AsyncClient(address, retry=QUICK) as client:
                return await client.segment(image, instruction, **options)

        return asyncio.run(call())

    return sync if request.param == "sync" else aio


@pytest.mark.parametrize("kind", ["rle", "png", "polygons"])
def test_answer_is_complete_and_masks_are_exact(segment: type_of_call, kind: str) -> None:
    answer = segment(instruction="the dogs", mask_format=kind, request_id="mine-1")
    assert (answer.height, answer.width) == SIZE
    assert answer.request_id == "mine-1"
    assert answer.plan.include[0].phrase == "the dogs"
    assert answer.plan.select == Selection(SelectBy.LEFTMOST, 2, 2)
    assert answer.summary == "Found 2."
    assert answer.timings_ms == {"total": 12.5}
    assert answer.models[0].name == "stand-in"
    for number, instance in enumerate(answer.instances):
        np.testing.assert_array_equal(instance.mask, mask(number))
        assert instance.area == instance.mask.sum()
        assert not instance.mask.flags.writeable
    np.testing.assert_array_equal(answer.mask, mask(0) | mask(1))


def test_no_masks_were_asked_for(segment: type_of_call) -> None:
    instance = segment(phrases=["dog"], mask_format="none").instances[0]
    assert not instance.has_mask
    assert "mask" not in instance.to_dict()
    with pytest.raises(ValueError, match="no masks"):
        _ = instance.mask


def test_error_says_what_the_service_said(segment: type_of_call, service: StandIn) -> None:
    service.faults = [
        InvalidRequest(
            Reason.BOX_INVALID, "the box is inside out", field=FieldPath.parse("task.queries")
        )
    ]
    with pytest.raises(LimelightError) as caught:
        segment(phrases=["dog"], request_id="mine-2")
    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.reason, error.field) == ("BOX_INVALID", "task.queries")
    assert error.message == "the box is inside out"
    assert error.request_id == "mine-2"
    assert len(service.tasks) == 1


def test_repeats_what_is_safe_until_it_succeeds(segment: type_of_call, service: StandIn) -> None:
    service.faults = [
        Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.05),
        Unavailable(Reason.DRAINING, "going away"),
    ]
    started = time.monotonic()
    assert len(segment(phrases=["dog"]).instances) == 2
    assert len(service.tasks) == 3
    assert time.monotonic() - started >= 0.05
    assert len({pairs["x-request-id"] for pairs in service.metadata}) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Internal(),
        TooLarge(Reason.MASKS_TOO_LARGE, "waiting will not help"),
        (grpc.StatusCode.ABORTED, "whatever a proxy says"),
    ],
)
def test_does_not_repeat_what_is_not_safe(
    segment: type_of_call, service: StandIn, fault: Any
) -> None:
    service.faults = [fault]
    with pytest.raises(LimelightError):
        segment(phrases=["dog"])
    assert len(service.tasks) == 1


LOST = [
    (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    (grpc.StatusCode.CANCELLED, "CANCELLED"),  # of a server that stops
]


@pytest.mark.parametrize("fault", LOST, ids=["connection", "server"])
def test_repeats_what_was_lost(segment: type_of_call, service: StandIn, fault: Any) -> None:
    service.faults = [fault]
    assert len(segment(phrases=["dog"]).instances) == 2
    assert len(service.tasks) == 2


@pytest.mark.parametrize("fault", LOST, ids=["connection", "server"])
def test_does_not_repeat_what_was_lost_unless_it_may(
    address: str, service: StandIn, fault: Any
) -> None:
    service.faults = [fault]
    careful = RetryPolicy(repeat_lost=False)
    with Client(address, retry=careful) as client, pytest.raises(LimelightError) as caught:
        client.segment(PICTURE, phrases=["dog"])
    assert caught.value.lost
    assert len(service.tasks) == 1


def test_a_channel_that_is_closed_ends_its_calls(address: str, service: StandIn) -> None:
    service.gate = threading.Event()
    client = Client(address, retry=QUICK)
    failures: list[LimelightError] = []

    def call() -> None:
        with pytest.raises(LimelightError) as caught:
            client.segment(PICTURE, phrases=["dog"])
        failures.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    assert service.called.wait(60)
    client.close()
    thread.join(60)
    assert [error.code for error in failures] == [grpc.StatusCode.CANCELLED]
    assert not failures[0].lost
    assert len(service.tasks) == 1


def test_gives_up_after_its_attempts(segment: type_of_call, service: StandIn) -> None:
    service.faults = [Unavailable(Reason.DRAINING, "going away")] * 5
    with pytest.raises(LimelightError, match="going away"):
        segment(phrases=["dog"])
    assert len(service.tasks) == QUICK.attempts


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_service_that_is_away_for_long_is_waited_for(
    address: str, service: StandIn, kind: str
) -> None:
    """More failures in a row than there are attempts, and than the budget has."""
    service.faults = [Unavailable(Reason.SEGMENTER_UNAVAILABLE, "starting")] * 15
    patient = RetryPolicy(first_delay=0.001, max_delay=0.01)
    if kind == "sync":
        with Client(address, retry=patient) as client:
            answer = client.segment(PICTURE, phrases=["dog"])
    else:

        async def call() -> Any:
            async with AsyncClient(address, retry=patient) as client:
                return await client.segment(PICTURE, phrases=["dog"])

        answer = asyncio.run(call())
    assert len(answer.instances) == 2
    assert len(service.tasks) == 16


def test_does_not_wait_beyond_the_deadline(segment: type_of_call, service: StandIn) -> None:
    service.faults = [Overloaded(Reason.OVERLOADED, "full", retry_after_s=60.0)]
    started = time.monotonic()
    with pytest.raises(LimelightError) as caught:
        segment(phrases=["dog"], timeout=30.0)
    assert caught.value.retry_after == 60.0
    assert time.monotonic() - started < 30


@pytest.mark.slow
def test_deadline_ends_the_call(segment: type_of_call, service: StandIn) -> None:
    service.gate = threading.Event()
    with pytest.raises(LimelightError) as caught:
        segment(phrases=["dog"], timeout=3.0)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.wait(60)


def test_nothing_listens() -> None:
    with (
        Client(f"127.0.0.1:{free_ports(1)[0]}", retry=QUICK) as client,
        pytest.raises(LimelightError) as caught,
    ):
        client.segment(PICTURE, phrases=["dog"])
    assert caught.value.unreachable


def test_a_service_that_comes_late_is_reached() -> None:
    port = free_ports(1)[0]
    service = StandIn()
    patient = RetryPolicy(attempts=500, first_delay=0.05, max_delay=0.2)
    answers: list[int] = []

    def call() -> None:
        with Client(f"127.0.0.1:{port}", retry=patient) as client:
            answers.append(len(client.segment(PICTURE, phrases=["dog"], timeout=60).instances))

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)  # the first attempts must fail: there is no condition to wait on
    with serving(service, port):
        thread.join(60)
    assert answers == [2]
    assert len(service.tasks) == 1


def test_stream_tells_every_step(address: str) -> None:
    with Client(address) as client:
        events = list(client.segment_stream(PICTURE, "the dogs"))
    assert [type(event) for event in events] == [PlanMade, CandidatesFound, CandidateVerdict, Done]
    plan, candidates, verdict, done = events
    assert plan.plan == done.segmentation.plan
    np.testing.assert_array_equal(candidates.instances[0].mask, mask(0))
    assert (verdict.id, verdict.verdict, verdict.reason) == (2, VerdictKind.REJECTED, "too small")


async def test_async_stream_tells_every_step(address: str) -> None:
    async with AsyncClient(address) as client:
        events = [event async for event in client.segment_stream(PICTURE, "the dogs")]
    assert [type(event) for event in events] == [PlanMade, CandidatesFound, CandidateVerdict, Done]


def test_stream_repeats_before_its_first_event(address: str, service: StandIn) -> None:
    service.faults = [Unavailable(Reason.DRAINING, "going away")]
    with Client(address, retry=QUICK) as client:
        assert isinstance(list(client.segment_stream(PICTURE, "the dogs"))[-1], Done)
    assert len(service.tasks) == 2


def test_a_stream_that_is_closed_early_is_cancelled(address: str, service: StandIn) -> None:
    service.gate = threading.Event()
    with Client(address) as client:
        events = client.segment_stream(PICTURE, "the dogs")
        next(events)
        events.close()
        assert service.cancelled.wait(60)


async def test_a_cancelled_task_cancels_the_call(address: str, service: StandIn) -> None:
    service.gate = threading.Event()
    async with AsyncClient(address) as client:
        task = asyncio.create_task(client.segment(PICTURE, phrases=["dog"]))
        assert await asyncio.to_thread(service.called.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(service.cancelled.wait, 5)


def test_metadata_travels(address: str, service: StandIn) -> None:
    with Client(address, metadata=[("authorization", "Bearer x")]) as client:
        client.segment(PICTURE, phrases=["dog"])
    assert service.metadata[0]["authorization"] == "Bearer x"
