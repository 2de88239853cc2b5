"""Nothing is lost between protobuf and the domain."""

from hypothesis import given
from hypothesis import strategies as st

from limelight.convert.plans import plan_from_proto, plan_to_proto, selection_from_proto
from limelight.paths import FieldPath
from limelight.v1 import plan_pb2
from limelight.values import (
    RLE,
    Box,
    ConceptQuery,
    Exemplar,
    ModelInfo,
    Plan,
    PlanOutcome,
    SelectBy,
    Selection,
    Verdict,
    VerdictKind,
)
from services.domain import Candidate, Detection, Planned, QueryResult, Reviewed, SegmentedImage
from services.rpc.convert.planner import (
    candidate_from_proto,
    candidate_to_proto,
    planned_from_proto,
    planned_to_proto,
    reviewed_from_proto,
    reviewed_to_proto,
)
from services.rpc.convert.segmenter import segmented_from_proto, segmented_to_proto

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
    wire = plan_pb2.Plan.FromString(plan_to_proto(plan).SerializeToString())
    assert plan_from_proto(wire) == plan


@given(plans)
def test_planned(plan: Plan) -> None:
    planned = Planned(plan, MODEL, cached=True, attempts=2, timings_ms={"plan": 1.5})
    assert planned_from_proto(planned_to_proto(planned)) == planned


def test_segmented() -> None:
    detection = Detection(0.5, Box(0, 1, 2, 3), RLE((4, 5), b"PPYo0"), 4)
    results = (QueryResult(0.25, (detection, detection)), QueryResult(0.75, ()))
    image = SegmentedImage(5, 4, results, MODEL, {"encode": 2.0})
    assert segmented_from_proto(segmented_to_proto(image)) == image


def test_reviews() -> None:
    verdicts = tuple(Verdict(i, kind, "why") for i, kind in enumerate(VerdictKind))
    reviewed = Reviewed(verdicts, MODEL, {"review": 3.0})
    assert reviewed_from_proto(reviewed_to_proto(reviewed)) == reviewed
    candidate = Candidate(7, "dog", RLE((2, 2), b"04"))
    assert candidate_from_proto(candidate_to_proto(candidate)) == candidate


def test_an_unset_rank_and_count_are_one() -> None:
    selection = plan_pb2.Selection(by=plan_pb2.SELECT_BY_TOPMOST)
    assert selection_from_proto(selection, FieldPath()) == Selection(SelectBy.TOPMOST, 1, 1)
