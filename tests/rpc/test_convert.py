"""Nothing is lost between protobuf and the domain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.v1 import media_pb2, plan_pb2
from services.domain import (
    RLE,
    Box,
    Candidate,
    ConceptQuery,
    Detection,
    Exemplar,
    ModelInfo,
    Plan,
    Planned,
    PlanOutcome,
    QueryResult,
    Reviewed,
    SegmentedImage,
    SelectBy,
    Selection,
    Verdict,
    VerdictKind,
)
from services.errors import InvalidRequest
from services.rpc import convert

MODEL = ModelInfo("planner", "tiny", "abc", "fake")
side = st.floats(0, 1e6, allow_nan=False)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w + 1, y + h + 1), side, side, side, side)
queries = st.builds(
    ConceptQuery,
    phrase=st.text(max_size=40),
    exemplars=st.lists(st.builds(Exemplar, boxes, st.booleans()), max_size=3).map(tuple),
)
plans = st.builds(
    Plan,
    include=st.lists(queries, max_size=3).map(tuple),
    exclude=st.lists(queries, max_size=3).map(tuple),
    select=st.none()
    | st.builds(Selection, st.sampled_from(SelectBy), st.integers(1, 100), st.integers(1, 100)),
    review=st.booleans(),
    reason=st.text(max_size=40),
    outcome=st.sampled_from(PlanOutcome),
)


@given(plans)
def test_plans(plan: Plan) -> None:
    wire = plan_pb2.Plan.FromString(convert.plan_to_proto(plan).SerializeToString())
    assert convert.plan_from_proto(wire) == plan
    assert wire.degraded == plan.degraded


@given(plans)
def test_planned(plan: Plan) -> None:
    planned = Planned(plan, MODEL, cached=True, attempts=2, timings_ms={"plan": 1.5})
    assert convert.planned_from_proto(convert.planned_to_proto(planned)) == planned


def test_segmented() -> None:
    detection = Detection(0.5, Box(0, 1, 2, 3), RLE((4, 5), b"PPYo0"), 4)
    results = (QueryResult(0.25, (detection, detection)), QueryResult(0.75, ()))
    image = SegmentedImage(5, 4, results, MODEL, {"encode": 2.0})
    assert convert.segmented_from_proto(convert.segmented_to_proto(image)) == image


def test_reviews() -> None:
    verdicts = tuple(Verdict(i, kind, "why") for i, kind in enumerate(VerdictKind))
    reviewed = Reviewed(verdicts, MODEL, {"review": 3.0})
    assert convert.reviewed_from_proto(convert.reviewed_to_proto(reviewed)) == reviewed
    candidate = Candidate(7, "dog", RLE((2, 2), b"04"))
    assert convert.candidate_from_proto(convert.candidate_to_proto(candidate)) == candidate


@pytest.mark.parametrize(
    "sides",
    [(0, 0, 0, 5), (5, 0, 4, 5), (0, 0, math.nan, 5), (-math.inf, 0, 1, 1), (0, 0, 0, 0)],
)
def test_a_box_that_is_none(sides: tuple[float, ...]) -> None:
    box = media_pb2.Box(x0=sides[0], y0=sides[1], x1=sides[2], y1=sides[3])
    with pytest.raises(InvalidRequest) as caught:
        convert.box_from_proto(box, "queries[3].box")
    assert caught.value.field == "queries[3].box"


def test_an_unset_rank_and_count_are_one() -> None:
    selection = plan_pb2.Selection(by=plan_pb2.SELECT_BY_TOPMOST)
    assert convert.selection_from_proto(selection, "s") == Selection(SelectBy.TOPMOST, 1, 1)
