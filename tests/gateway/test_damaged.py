"""Images that have lost pixels: refused, or taken with a warning where the request says so."""

import numpy as np
import pytest
from PIL import Image

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from limelight.values import ConceptQuery, Plan
from services.codecs.images import decode
from tests.gateway.conftest import Ask
from tests.gateway.peers import HEIGHT, WIDTH, Peers, detection
from tests.gateway.test_faults import refused
from tests.gateway.test_pipeline import segment
from tests.hostile import picture, saved

Stub = limelight_pb2_grpc.LimelightServiceStub

PICTURE = picture(WIDTH, HEIGHT)


@pytest.fixture(autouse=True)
def things(peers: Peers) -> None:
    peers.things = {"dog": [detection(0, 10, 20, 30)]}
    peers.plan = Plan((ConceptQuery("dog"),), review=True)


def cut(format: str, **options: object) -> bytes:
    """The picture's file without its last fifth."""
    data = saved(PICTURE, format, **options)
    return data[: len(data) * 4 // 5]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
async def test_what_is_left_of_it_goes_to_all_and_the_answer_warns(
    stub: Stub, peers: Peers, ask: Ask, format: str
) -> None:
    task = ask.task("the dog", image={"content": cut(format), "accept_damaged": True})
    task.renders.add(kind=limelight_pb2.RENDER_KIND_OVERLAY)
    result = await segment(stub, task)
    (warning,) = result.warnings
    assert warning.startswith("The image has lost pixels, ")
    assert len(result.instances) == 1
    assert peers.asked == ["plan", "segment", "review"]
    # One whole PNG for everyone: nobody behind the gateway knows of damage.
    (whole,) = set(peers.images)
    right = decode(saved(PICTURE, format))
    rows = slice(HEIGHT // 2, None) if format == "BMP" else slice(0, HEIGHT // 2)
    assert np.array_equal(decode(whole)[rows], right[rows])
    drawn = decode(result.renderings[0].content)
    assert drawn.shape == right.shape


async def test_a_whole_image_goes_as_it_came_and_without_a_warning(
    stub: Stub, peers: Peers, ask: Ask, picture: bytes
) -> None:
    task = ask.phrases("dog", image={"content": picture, "accept_damaged": True})
    assert list((await segment(stub, task)).warnings) == []
    assert peers.images == [picture]


@pytest.mark.parametrize("format", ["WEBP", "AVIF"])
async def test_what_cannot_be_read_in_part_is_refused_all_the_same(
    stub: Stub, peers: Peers, ask: Ask, format: str
) -> None:
    task = ask.phrases("dog", image={"content": cut(format), "accept_damaged": True})
    fault = await refused(stub, task)
    assert (fault.reason, fault.field) == ("IMAGE_CORRUPT", "task.image.content")
    assert peers.asked == []


async def test_too_little_of_it_is_refused(stub: Stub, peers: Peers, ask: Ask) -> None:
    bmp = saved(PICTURE, "BMP")
    task = ask.phrases("dog", image={"content": bmp[: len(bmp) // 10], "accept_damaged": True})
    assert (await refused(stub, task)).reason == "IMAGE_CORRUPT"
    assert peers.asked == []


async def test_a_damaged_background(stub: Stub, ask: Ask) -> None:
    task = ask.phrases("dog")
    spec = task.renders.add(kind=limelight_pb2.RENDER_KIND_BACKGROUND)
    spec.background_image.content = cut("JPEG")
    fault = await refused(stub, task)
    assert fault.field == "task.renders[0].background_image.content"
    spec.background_image.accept_damaged = True
    result = await segment(stub, task)
    (warning,) = result.warnings
    assert warning.startswith("Of the background: The image has lost pixels")
    assert decode(result.renderings[0].content).shape == (HEIGHT, WIDTH, 3)


async def test_orientation_is_applied_once(stub: Stub, peers: Peers, ask: Ask) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(PICTURE.rotate(90, expand=True), "JPEG", exif=exif.tobytes())
    damaged = data[: len(data) * 9 // 10]
    await segment(stub, ask.phrases("dog", image={"content": damaged, "accept_damaged": True}))
    assert decode(peers.images[0]).shape == decode(data).shape == (HEIGHT, WIDTH, 3)
