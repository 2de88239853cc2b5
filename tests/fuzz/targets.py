"""What is fuzzed: a function for each parser, which raises nothing but what its caller expects."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.message import DecodeError

from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2
from services.codecs.headers import Malformed, read_header
from services.codecs.images import ImageHeader, ImageLimits, decode, mend, probe
from services.errors import InvalidMedia, InvalidRequest, ServiceError, TooLarge
from services.gateway.reading import read_task
from services.gateway.rules import TaskRules
from services.gateway.settings import Settings
from services.planner.calls import CallError, parse_call, plan_from_call
from services.rpc.metadata import from_metadata, to_metadata
from tests.hostile import hostile_images, valid_images

CORPUS = Path(__file__).parent / "corpus"
# Small, so that a run tries many; what large ones cost is measured with whole requests.
LIMITS = ImageLimits(max_pixels=1 << 20)


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """`feed` must return, or raise a plain refusal that it catches itself."""

    name: str
    feed: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


@cache
def targets() -> dict[str, FuzzTarget]:
    """Every target by its name, with the corpus's inputs and those made by code."""
    images = tuple(valid_images().values())
    hostile = tuple(case.data for case in hostile_images() if len(case.data) < 1 << 14)
    made: dict[str, tuple[bytes, ...]] = {
        "headers": images + hostile,
        "codecs": images,
        "requests": tuple(request(image) for image in images),
        "metadata": (b"x-limelight-timeout-ms\0" + b"9" * 400,),
        "plan_calls": (),
    }
    return {
        name: FuzzTarget(name, feed, (*kept(name), *made[name])) for name, feed in FEEDS.items()
    }


def kept(name: str) -> list[bytes]:
    """The corpus of a target, in the order of its file names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def feed_header(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        header = read_header(data)
        assert header.declared or header.format in ("AVIF", "HEIF")
        assert 1 <= header.orientation <= 8


def feed_codec(data: bytes) -> None:
    with contextlib.suppress(InvalidMedia, TooLarge):
        mend(data, LIMITS)
    with contextlib.suppress(InvalidMedia, TooLarge):
        header = probe(data, LIMITS)
        assert decode(data, LIMITS).shape == (header.height, header.width, 3)


class HeadersHere:
    """Reads headers in this process, as a worker does in its own."""

    async def header(self, content: bytes, field: FieldPath, *, damaged: bool) -> ImageHeader:
        return probe(content, LIMITS, field, damaged=damaged)


RULES = TaskRules(Settings(), HeadersHere())


def feed_request(data: bytes) -> None:
    try:
        message = limelight_pb2.SegmentRequest.FromString(data)
    except DecodeError:
        return
    refusal: ServiceError | None = None
    try:
        asyncio.run(read_task(message.task, RULES))
    except (InvalidRequest, TooLarge) as error:
        refusal = error
    if refusal is not None:
        assert refusal.message
        assert str(refusal.field).startswith("task")


def feed_metadata(data: bytes) -> None:
    """Pairs, a name and a value in turn, between zeros."""
    texts = data.decode("utf-8", errors="surrogateescape").split("\0")
    pairs = tuple(zip(texts[::2], texts[1::2], strict=False))
    for trusted in (False, True):
        with contextlib.suppress(ServiceError):
            call = from_metadata(pairs, 5.0, trusted=trusted)
            assert to_metadata(call)


def feed_plan_call(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    with contextlib.suppress(CallError):
        plan_from_call(parse_call(text))


def request(image: bytes) -> bytes:
    """A whole request on `image`."""
    message = limelight_pb2.SegmentRequest()
    message.task.image.content = image
    message.task.queries.include.add(phrase="dog")
    message.task.renders.add(kind=limelight_pb2.RENDER_KIND_OVERLAY)
    return message.SerializeToString()


FEEDS: Mapping[str, Callable[[bytes], None]] = {
    "headers": feed_header,
    "codecs": feed_codec,
    "requests": feed_request,
    "metadata": feed_metadata,
    "plan_calls": feed_plan_call,
}
