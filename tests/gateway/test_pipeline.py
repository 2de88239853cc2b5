"""The main job through a real gateway: plans executed exactly, events in order."""

import numpy as np
import pytest

from limelight import png
from limelight.masks import decode_rle
from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2, plan_pb2, review_pb2
from limelight.values import RLE, ConceptQuery, Plan, PlanOutcome, SelectBy, Selection, VerdictKind
from services.codecs.images import decode
from tests.gateway.conftest import Ask
from tests.gateway.peers import HEIGHT, WIDTH, Peers, detection

Stub = limelight_pb2_grpc.LimelightServiceStub


async def segment(stub: Stub, task: limelight_pb2.SegmentTask) -> limelight_pb2.SegmentResult:
    response = await stub.Segment(limelight_pb2.SegmentRequest(task=task))
    return response.result


def plan(*include: str, exclude: tuple[str, ...] = (), **rest: object) -> Plan:
    return Plan(
        tuple(ConceptQuery(p) for p in include),
        tuple(ConceptQuery(p) for p in exclude),
        **rest,  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def things(peers: Peers) -> None:
    dogs = [detection(0, 10, 20, 30), detection(40, 0, 80, 40, 0.8), detection(100, 50, 110, 60)]
    peers.things = {
        "dog": dogs,
        "animal": [*dogs, detection(60, 60, 70, 70, 0.7)],
        "cat": [detection(60, 60, 70, 70, 0.85)],
    }


async def test_explicit_queries_never_ask_the_planner(stub: Stub, peers: Peers, ask: Ask) -> None:
    result = await segment(stub, ask.phrases("dog", "cat"))
    assert peers.asked == ["segment"]
    assert result.plan.outcome == plan_pb2.PLAN_OUTCOME_EXPLICIT
    assert [(item.id, item.label) for item in result.instances] == [
        (1, "dog"),
        (2, "dog"),
        (3, "cat"),
        (4, "dog"),
    ]
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    assert [(q.phrase, q.found) for q in result.queries] == [("dog", 3), ("cat", 1)]
    assert result.summary == "Found 4: 3 x dog, 1 x cat."
    assert {timing.stage for timing in result.timings} >= {"segment", "encode", "total"}


async def test_the_mask_that_comes_back_is_the_mask(stub: Stub, ask: Ask) -> None:
    result = await segment(stub, ask.phrases("cat"))
    (item,) = result.instances
    rle = item.mask.rle
    mask = decode_rle(RLE((rle.height, rle.width), rle.counts))
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[60:70, 60:70] = True
    assert (mask == expected).all()
    assert item.area == 100
    assert (item.box.x0, item.box.y0, item.box.x1, item.box.y1) == (60, 60, 70, 70)


async def test_the_same_thing_found_by_two_queries_is_answered_once(stub: Stub, ask: Ask) -> None:
    result = await segment(stub, ask.phrases("animal", "cat"))
    assert len(result.instances) == 4
    # The better score of the two wins: the cat as "cat".
    assert sorted(item.label for item in result.instances) == ["animal", "animal", "animal", "cat"]


async def test_exclude_takes_away_what_it_covers(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.plan = plan("animal", exclude=("dog",))
    result = await segment(stub, ask.task("the animals but not the dogs"))
    (item,) = result.instances
    assert item.box.x0 == 60
    assert item.provenance.query == 0


@pytest.mark.parametrize(
    ("by", "rank", "count", "lefts"),
    [
        (SelectBy.LEFTMOST, 1, 1, [0]),
        (SelectBy.RIGHTMOST, 2, 1, [40]),
        (SelectBy.TOPMOST, 1, 2, [0, 40]),
        (SelectBy.BOTTOMMOST, 1, 1, [100]),
        (SelectBy.LARGEST, 1, 1, [40]),
        (SelectBy.SMALLEST, 1, 2, [100, 0]),
        (SelectBy.NEAREST_CENTER, 1, 1, [40]),
        (SelectBy.HIGHEST_SCORE, 3, 1, [40]),
        (SelectBy.LEFTMOST, 4, 1, []),
    ],
)
async def test_select(
    stub: Stub,
    peers: Peers,
    ask: Ask,
    by: SelectBy,
    rank: int,
    count: int,
    lefts: list[int],
) -> None:
    peers.plan = plan("dog", select=Selection(by, rank, count))
    result = await segment(stub, ask.task("one of the dogs"))
    assert [item.box.x0 for item in result.instances] == lefts
    if not lefts:
        assert "Nothing is left" in result.summary


async def test_review_takes_out_what_is_rejected_and_comes_before_select(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    peers.plan = plan("cat", "dog", review=True, select=Selection(SelectBy.HIGHEST_SCORE, count=9))
    peers.verdict = lambda p: VerdictKind.REJECTED if p == "dog" else VerdictKind.ACCEPTED
    result = await segment(stub, ask.task("the animal that sleeps"))
    assert peers.asked == ["plan", "segment", "review"]
    (item,) = result.instances
    assert item.label == "cat"
    assert item.provenance.verdict == review_pb2.VERDICT_ACCEPTED
    assert item.provenance.verdict_reason == "seen"


async def test_the_caller_may_forbid_or_demand_a_review(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.plan = plan("cat", review=True)
    await segment(stub, ask.task("a cat", review=review_pb2.REVIEW_MODE_NEVER))
    assert "review" not in peers.asked
    peers.plan = plan("cat")
    await segment(stub, ask.task("a cat", review=review_pb2.REVIEW_MODE_ALWAYS))
    assert peers.asked[-1] == "review"


async def test_a_refused_plan_costs_no_segmentation(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.plan = Plan(reason="That is a poem.", outcome=PlanOutcome.REFUSED)
    result = await segment(stub, ask.task("roses are red"))
    assert peers.asked == ["plan"]
    assert result.summary == "Nothing to look for: That is a poem."
    assert (result.width, result.height) == (WIDTH, HEIGHT)


async def test_a_degraded_plan_says_so(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.plan = plan("dog", outcome=PlanOutcome.DEGRADED)
    result = await segment(stub, ask.task("dog"))
    assert result.plan.outcome == plan_pb2.PLAN_OUTCOME_DEGRADED
    assert "no valid plan" in result.summary


async def test_absent_things_are_said_to_be_absent(stub: Stub, ask: Ask) -> None:
    result = await segment(stub, ask.phrases("elephant"))
    assert not result.instances
    assert result.summary == 'Nothing was found for "elephant".'
    assert result.queries[0].presence < 0.5


async def test_max_instances_keeps_the_best(stub: Stub, ask: Ask) -> None:
    result = await segment(stub, ask.phrases("dog", max_instances=2))
    assert [item.score for item in result.instances] == pytest.approx([0.9, 0.9])


async def test_stream_tells_each_step_and_ends_with_the_answer(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    peers.plan = plan("dog", "cat", review=True)
    request = limelight_pb2.SegmentStreamRequest(task=ask.task("the pets"))
    events = [event async for event in stub.SegmentStream(request)]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["plan", "candidates", *["verdict"] * 4, "done"]
    done = events[-1].done
    assert done.request_id == events[0].plan.request_id
    found = {item.id for item in events[1].candidates.instances}
    assert {item.id for item in done.instances} <= found


async def test_mask_formats(stub: Stub, ask: Ask) -> None:
    as_png = await segment(stub, ask.phrases("cat", mask_format=media_pb2.MASK_FORMAT_PNG))
    assert png.decode_mask(as_png.instances[0].mask.png).sum() == 100
    polygons = await segment(stub, ask.phrases("cat", mask_format=media_pb2.MASK_FORMAT_POLYGONS))
    (polygon,) = polygons.instances[0].mask.polygons.polygons
    corners = {tuple(p) for p in np.reshape(polygon.coordinates, (-1, 2)).tolist()}
    assert corners == {(60, 60), (70, 60), (70, 70), (60, 70)}
    none = await segment(stub, ask.phrases("cat", mask_format=media_pb2.MASK_FORMAT_NONE))
    assert not none.instances[0].HasField("mask")
    assert none.instances[0].area == 100


async def test_letters_that_no_font_has_are_in_the_warnings(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    overlay = [{"kind": limelight_pb2.RENDER_KIND_OVERLAY}]
    for phrase in ("ᠨᠣᠬᠠᠢ", "собака", "犬"):
        peers.things[phrase] = [detection(0, 0, 40, 40)]
    mongolian = await segment(stub, ask.phrases("ᠨᠣᠬᠠᠢ", "собака", renders=overlay))
    (warning,) = mongolian.warnings
    assert warning.startswith("No font covers U+1828, U+1823, U+182C, ")
    covered = await segment(stub, ask.phrases("собака", "犬", renders=overlay))
    assert list(covered.warnings) == []
    spotlight = [{"kind": limelight_pb2.RENDER_KIND_SPOTLIGHT}]
    without_labels = await segment(stub, ask.phrases("ᠨᠣᠬᠠᠢ", renders=spotlight))
    assert list(without_labels.warnings) == []


async def test_renderings(stub: Stub, ask: Ask, picture: bytes) -> None:
    task = ask.phrases("cat")
    kinds = limelight_pb2.RenderKind
    task.renders.add(kind=kinds.RENDER_KIND_OVERLAY, format=limelight_pb2.IMAGE_FORMAT_PNG)
    task.renders.add(kind=kinds.RENDER_KIND_SPOTLIGHT, format=limelight_pb2.IMAGE_FORMAT_WEBP)
    task.renders.add(kind=kinds.RENDER_KIND_CUTOUT)
    task.renders.add(kind=kinds.RENDER_KIND_BACKGROUND, background_color="#ff0000")
    result = await segment(stub, task)
    assert [item.kind for item in result.renderings] == [1, 2, 3, 4]
    original = decode(picture)
    overlay = decode(result.renderings[0].content)
    assert overlay.shape == original.shape
    assert (overlay[65, 65] != original[65, 65]).any()
    red = decode(result.renderings[3].content)
    assert red[5, 5].tolist() == [255, 0, 0]
    assert (red[65, 65] == original[65, 65]).all()
