"""Plans and reviews: `limelight/internal/v1/planner.proto`."""

from limelight.convert.answers import (
    model_from_proto,
    model_to_proto,
    timings_from_proto,
    timings_to_proto,
)
from limelight.convert.enums import VERDICT
from limelight.convert.media import rle_from_proto, rle_to_proto
from limelight.convert.plans import plan_from_proto, plan_to_proto
from limelight.internal.v1 import planner_pb2
from limelight.values import Verdict, VerdictKind
from services.domain import Candidate, Planned, Reviewed


def planned_to_proto(planned: Planned) -> planner_pb2.MakePlanResponse:
    return planner_pb2.MakePlanResponse(
        plan=plan_to_proto(planned.plan),
        model=model_to_proto(planned.model),
        cached=planned.cached,
        attempts=planned.attempts,
        timings=timings_to_proto(planned.timings_ms),
    )


def planned_from_proto(response: planner_pb2.MakePlanResponse) -> Planned:
    return Planned(
        plan=plan_from_proto(response.plan),
        model=model_from_proto(response.model),
        cached=response.cached,
        attempts=response.attempts,
        timings_ms=timings_from_proto(response.timings),
    )


def candidate_to_proto(candidate: Candidate) -> planner_pb2.Candidate:
    return planner_pb2.Candidate(
        id=candidate.id, phrase=candidate.phrase, mask=rle_to_proto(candidate.mask)
    )


def candidate_from_proto(candidate: planner_pb2.Candidate) -> Candidate:
    return Candidate(candidate.id, candidate.phrase, rle_from_proto(candidate.mask))


def reviewed_to_proto(reviewed: Reviewed) -> planner_pb2.ReviewCandidatesResponse:
    return planner_pb2.ReviewCandidatesResponse(
        verdicts=[
            planner_pb2.CandidateVerdict(
                id=verdict.id, verdict=VERDICT.to_proto(verdict.kind), reason=verdict.reason
            )
            for verdict in reviewed.verdicts
        ],
        model=model_to_proto(reviewed.model),
        timings=timings_to_proto(reviewed.timings_ms),
    )


def reviewed_from_proto(response: planner_pb2.ReviewCandidatesResponse) -> Reviewed:
    return Reviewed(
        verdicts=tuple(
            Verdict(
                verdict.id,
                VERDICT.from_newer(verdict.verdict, VerdictKind.UNREVIEWED),
                verdict.reason,
            )
            for verdict in response.verdicts
        ),
        model=model_from_proto(response.model),
        timings_ms=timings_from_proto(response.timings),
    )
