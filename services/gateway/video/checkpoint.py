"""What a stream knows, as messages that another gateway can go on from, and back.

Everything but the media and the frames on their way: a client sends the former again, and the
latter come again. `stream` puts the parts together.
"""

from collections.abc import Sequence

from limelight.convert.answers import timings_from_proto, timings_to_proto
from limelight.convert.enums import PLAN_CAUSE, VERDICT
from limelight.convert.plans import (
    plan_from_proto,
    plan_to_proto,
    queries_from_proto,
    query_to_proto,
)
from limelight.convert.prompts import change_from_proto, change_to_proto
from limelight.internal.v1 import stream_pb2, tracker_pb2
from limelight.paths import FieldPath
from limelight.v1 import video_pb2
from limelight.values import ObjectPrompt, Plan, PlanCause, Verdict, VerdictKind
from services.domain import SessionState
from services.gateway.video.choice import Chooser, ObjectHistory
from services.gateway.video.prompts import Prompts, TrackedQuery
from services.gateway.video.sources import LivePoint
from services.gateway.video.tally import MaskletTally, TrackTally

_CHECKPOINT = FieldPath(("checkpoint",))


def session_to_proto(state: SessionState) -> tracker_pb2.SessionState:
    return tracker_pb2.SessionState(
        next_frame=state.next_frame,
        group=state.group,
        content=state.content,
        changes=state.changes,
    )


def session_from_proto(state: tracker_pb2.SessionState) -> SessionState:
    return SessionState(state.next_frame, state.group, state.content, state.changes)


def prompts_to_proto(prompts: Prompts) -> stream_pb2.StreamPrompts:
    return stream_pb2.StreamPrompts(
        first_queries=map(query_to_proto, prompts.first_queries),
        queries=[
            stream_pb2.StreamQuery(
                query=query_to_proto(tracked.query),
                include=tracked.include,
                own=tracked.own,
                active=tracked.active,
            )
            for tracked in prompts.queries
        ],
        labels=prompts.labels,
        changes=map(change_to_proto, prompts.changes),
    )


def prompts_from_proto(
    message: stream_pb2.StreamPrompts, objects: Sequence[ObjectPrompt]
) -> Prompts:
    """`objects` are those of the config."""
    prompts = Prompts(Plan(), objects)
    prompts.first_queries = queries_from_proto(message.first_queries)
    prompts.queries = [
        TrackedQuery(query, item.include, item.own, item.active)
        for item in message.queries
        for query in queries_from_proto([item.query])
    ]
    prompts.labels = list(message.labels)
    prompts.changes = [change_from_proto(change, _CHECKPOINT) for change in message.changes]
    return prompts


def choice_to_proto(chooser: Chooser) -> stream_pb2.StreamChoice:
    return stream_pb2.StreamChoice(
        plan=plan_to_proto(chooser.plan),
        max_objects=chooser.max_objects,
        undecided=chooser.undecided,
        verdicts=[
            stream_pb2.StreamVerdict(
                object_id=object_id, verdict=VERDICT.to_proto(verdict.kind), reason=verdict.reason
            )
            for object_id, verdict in chooser.verdicts.items()
        ],
        seen=[
            stream_pb2.SeenObject(
                object_id=object_id,
                wanted=seen.wanted,
                free=seen.free,
                twin=seen.twin,
                frames=seen.frames,
                covered=seen.covered,
                rejected=seen.rejected,
            )
            for object_id, seen in chooser.seen.items()
        ],
        chosen=sorted(chooser.chosen),
        removed=sorted(chooser.removed),
        numbers=chooser.numbers,
        told=sorted(chooser.places),
    )


def choice_from_proto(message: stream_pb2.StreamChoice, prompts: Prompts) -> Chooser:
    return Chooser(
        prompts,
        plan_from_proto(message.plan),
        message.max_objects,
        message.undecided,
        verdicts={
            item.object_id: Verdict(
                item.object_id,
                VERDICT.from_newer(item.verdict, VerdictKind.UNREVIEWED),
                item.reason,
            )
            for item in message.verdicts
        },
        seen={
            item.object_id: ObjectHistory(
                item.wanted, item.free, item.twin, item.frames, item.covered, item.rejected
            )
            for item in message.seen
        },
        chosen=set(message.chosen),
        removed=set(message.removed),
        numbers=dict(message.numbers),
        places=set(message.told),
    )


def tally_to_proto(tally: TrackTally) -> stream_pb2.StreamTally:
    return stream_pb2.StreamTally(
        frames=tally.frames,
        first=tally.first,
        last=tally.last,
        masklets=[
            video_pb2.MaskletSummary(
                object_id=masklet.number,
                label=masklet.label,
                first_frame=masklet.first_frame,
                last_frame=masklet.last_frame,
                frames=masklet.frames,
                pixels=masklet.pixels,
            )
            for masklet in tally.masklets
        ],
        timings=timings_to_proto(tally.timings_ms),
    )


def tally_from_proto(message: stream_pb2.StreamTally) -> TrackTally:
    masklets = [
        MaskletTally(
            item.object_id,
            item.label,
            item.first_frame,
            item.last_frame,
            item.frames,
            item.pixels,
        )
        for item in message.masklets
    ]
    tally = TrackTally(masklets)
    tally.frames, tally.first, tally.last = message.frames, message.first, message.last
    tally.timings_ms = timings_from_proto(message.timings)
    return tally


def epoch_to_proto(from_frame: int, plan: Plan, cause: PlanCause) -> stream_pb2.StreamEpoch:
    return stream_pb2.StreamEpoch(
        from_frame=from_frame, plan=plan_to_proto(plan), cause=PLAN_CAUSE.to_proto(cause)
    )


def epoch_from_proto(message: stream_pb2.StreamEpoch) -> tuple[int, Plan, PlanCause]:
    cause = PLAN_CAUSE.from_proto(message.cause, _CHECKPOINT / "epochs")
    return message.from_frame, plan_from_proto(message.plan), cause


def live_to_proto(point: LivePoint) -> stream_pb2.LivePosition:
    return stream_pb2.LivePosition(
        next_index=point.next_index, bytes=point.media_bytes, latest_s=point.latest_s
    )


def live_from_proto(message: stream_pb2.LivePosition) -> LivePoint:
    latest_s = message.latest_s if message.HasField("latest_s") else None
    return LivePoint(message.next_index, message.bytes, latest_s)
