"""Replicas decode in processes: what happens to one of them costs its own request only."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator

import numpy as np
import psutil
import pytest

from limelight.values import ConceptQuery
from services.codecs import images
from services.codecs.images import ImageLimits, encode
from services.deadline import Deadline, SharedDeadline
from services.errors import DeadlinePassed, InvalidMedia, ServiceError, TooLarge
from services.isolation.pool import Nursery
from services.isolation.wire import Limits
from services.replica.decoding import ImageDecoder
from services.replica.metrics import RecordedMetrics
from services.segmenter.engines import create
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings
from tests.conftest import wait_until as until
from tests.hostile import hostile_images, valid_images

SETTINGS = SegmenterSettings(engine="fake")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    forking = Nursery(("services.replica.decoding",), Limits(SETTINGS.decode_memory_bytes))
    yield forking
    forking.close()


@pytest.fixture
def decoder(nursery: Nursery) -> Iterator[ImageDecoder]:
    opened = ImageDecoder(SETTINGS, nursery)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def picture() -> bytes:
    return encode(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


@pytest.fixture
async def held(
    decoder: ImageDecoder, nursery: Nursery, picture: bytes
) -> AsyncIterator[psutil.Process]:
    """The process that decodes next, stopped."""
    decoder.decode(picture)
    # Those of the test before may still be ending.
    await until(lambda: len(psutil.Process(nursery.pid).children()) == 1)
    (worker,) = psutil.Process(nursery.pid).children()
    worker.suspend()
    yield worker
    decoder.close()
    await until(lambda: not psutil.Process(nursery.pid).children())


@pytest.mark.parametrize("format", valid_images())
def test_pixels_are_those_of_a_thread(decoder: ImageDecoder, format: str) -> None:
    data = valid_images()[format]
    found = decoder.decode(data)
    assert np.array_equal(found, images.decode(data))
    found[:] = 0  # ours alone
    assert np.array_equal(decoder.decode(data), images.decode(data))


def test_hostile_images_are_refused_as_in_a_thread(decoder: ImageDecoder) -> None:
    for case in list(hostile_images())[::6]:
        told: list[ServiceError] = []
        for decode in (decoder.decode, images.decode):
            with pytest.raises(ServiceError) as caught:
                decode(case.data)
            told.append(caught.value)
        here, there = ((type(e), e.reason, e.message, e.field) for e in told)
        assert here == there, case.name


async def test_a_crash_costs_its_own_request(
    decoder: ImageDecoder, held: psutil.Process, picture: bytes
) -> None:
    decoding = asyncio.ensure_future(asyncio.to_thread(decoder.decode, picture))
    await until(lambda: not decoder._idle)
    os.kill(held.pid, signal.SIGSEGV)
    held.resume()
    with pytest.raises(InvalidMedia, match="decoding the image ended its process") as caught:
        await decoding
    assert str(caught.value.field) == "image.content"
    assert decoder.decode(picture).shape == (60, 80, 3)


@pytest.mark.parametrize("joined", [False, True])
async def test_at_the_deadline_the_work_ends(
    decoder: ImageDecoder, held: psutil.Process, picture: bytes, joined: bool
) -> None:
    deadline: Deadline | SharedDeadline = Deadline.after(0.2)
    if joined:
        shared = SharedDeadline()
        shared.join(deadline)  # type: ignore[arg-type]
        deadline = shared
    with pytest.raises(DeadlinePassed):
        await asyncio.to_thread(decoder.decode, picture, deadline)
    await until(lambda: not psutil.pid_exists(held.pid))
    with pytest.raises(DeadlinePassed):
        decoder.decode(picture, Deadline.after(0))
    assert decoder.decode(picture, Deadline.after(60)).shape == (60, 80, 3)


def test_memory_is_bounded() -> None:
    decoder = ImageDecoder(SegmenterSettings(engine="fake", decode_memory_bytes=64 << 20))
    large = encode(np.zeros((5000, 6000, 3), np.uint8), "jpeg")
    with pytest.raises(TooLarge) as caught:
        decoder.decode(large)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    decoder.close()


def test_without_the_process_that_forks_it_goes_on(picture: bytes) -> None:
    decoder = ImageDecoder(SETTINGS)
    decoder.decode(picture)
    os.kill(decoder._own.pid, signal.SIGKILL)  # type: ignore[union-attr,arg-type]
    assert decoder.decode(picture).shape == (60, 80, 3)
    decoder.close()


async def test_a_segmenter_outlives_a_decoder_that_crashes(picture: bytes) -> None:
    engine = create(SETTINGS)
    engine.load()
    segmenter = Segmenter(SETTINGS, engine, RecordedMetrics())

    def ask(image: bytes) -> Awaitable[object]:
        return segmenter.segment(image, (ConceptQuery("red"),), 0.5, 0, Deadline.after(60))

    await ask(picture)
    zygote = psutil.Process(segmenter._image_decoder._own.pid)  # type: ignore[union-attr]
    (worker,) = zygote.children()
    worker.suspend()
    other = encode(np.zeros((50, 70, 3), np.uint8))
    crashing = asyncio.ensure_future(ask(other))
    await until(lambda: not segmenter._image_decoder._idle)
    worker.send_signal(signal.SIGSEGV)
    worker.resume()
    with pytest.raises(InvalidMedia):
        await crashing
    await ask(other)
    await segmenter.close()
    assert not zygote.is_running()


def test_pictures_beyond_the_bytes_are_told_without_a_copy(decoder: ImageDecoder) -> None:
    limits = ImageLimits(SETTINGS.max_image_bytes, SETTINGS.max_image_pixels)
    for data in (b"", bytes(limits.max_bytes + 1)):
        with pytest.raises(ServiceError):
            decoder.decode(data)
    assert decoder._idle == []
