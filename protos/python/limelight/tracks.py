"""What the service tells of a tracked video, as frozen values of Python.

Frame indices count from 0, times are seconds of the video, boxes and masks are of the frame as it
was tracked (scaled, where `max_side` asked for it). All instances with one id are its masklet.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from limelight.convert.answers import model_from_proto, timings_from_proto
from limelight.convert.enums import PLAN_CAUSE, VERDICT
from limelight.convert.media import box_from_proto
from limelight.convert.plans import plan_from_proto
from limelight.results import MaskedArea, box_list, model_dict, plan_dict
from limelight.v1 import video_pb2
from limelight.values import ModelInfo, Plan, PlanCause, VerdictKind


@dataclass(frozen=True, slots=True)
class TrackStarted:
    """The service took the stream in.

    Attributes:
        request_id: finds the call in the service's logs.
        resume_token: goes on with this stream from another process (`resume_token=` of `track`).
        resume_s: seconds that the token is good for after a cut.
    """

    request_id: str
    resume_token: str
    resume_s: float


@dataclass(frozen=True, slots=True)
class TrackPlanned:
    """A plan was made on frame `frame_index`, and why."""

    plan: Plan
    frame_index: int
    cause: PlanCause

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the plan's line of `limelight track --json`."""
        return {
            "plan": plan_dict(self.plan),
            "at_frame": self.frame_index,
            "cause": self.cause.value,
        }


@dataclass(frozen=True, kw_only=True)
class TrackedInstance(MaskedArea):
    """One object in one frame.

    Attributes:
        id: the object's: the same in every frame, and never another object's.
        label: what to call it: the phrase it was found by, "exemplar", or the label of its prompt.
        phrase: the phrase of its query; empty for one found by exemplars or prompted.
        score: 0 to 1, how sure the model is of it in this frame.
    """

    id: int
    label: str
    phrase: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as those of an image's instance."""
        return {
            "id": self.id,
            "label": self.label,
            "phrase": self.phrase,
            "score": round(self.score, 6),
            "box": box_list(self.box),
            "area": self.area,
            **self.mask_dict(),
        }


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """One frame; every frame that is tracked comes once, in order.

    Attributes:
        index: in the video, or among the live frames that were sent.
        time_s: its presentation time.
        width, height: of the frame, pixels.
        instances: the visible objects; with `changed_only`, those that changed.
        gone: with `changed_only`, ids that were visible in the frame before and are not now.
        over_cap: things that were found and are over the cap on objects, so not tracked.
    """

    index: int
    time_s: float
    width: int
    height: int
    instances: tuple[TrackedInstance, ...] = ()
    gone: tuple[int, ...] = ()
    over_cap: int = 0

    def instance(self, number: int) -> TrackedInstance | None:
        """The object with that id; None where it is not visible."""
        return next((item for item in self.instances if item.id == number), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a frame's line of `limelight track --json`."""
        values: dict[str, Any] = {
            "frame": self.index,
            "time_s": round(self.time_s, 6),
            "width": self.width,
            "height": self.height,
            "instances": [item.to_dict() for item in self.instances],
        }
        if self.gone:
            values["gone"] = list(self.gone)
        if self.over_cap:
            values["over_cap"] = self.over_cap
        return values


@dataclass(frozen=True, slots=True)
class TrackProgress:
    """How far a file is.

    Attributes:
        frames: answered.
        frames_expected: that will be, as far as the file says; 0 if it does not.
        media_bytes: taken.
        frames_per_s: of the last seconds.
    """

    frames: int
    frames_expected: int
    media_bytes: int
    frames_per_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds until the last frame, if it goes on like this; None if that is not known."""
        if self.frames_expected < self.frames or not self.frames_per_s > 0:
            return None
        return (self.frames_expected - self.frames) / self.frames_per_s


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """Live frames that were not tracked, since later ones had come."""

    frame_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Masklet:
    """One object from its first frame to its last.

    Attributes:
        id: the object's.
        label: what it was called.
        first_frame, last_frame: indices of the frames it was visible in first and last.
        frames: in how many it was visible.
        pixels: of all its masks together.
        verdict: what the review said of it.
    """

    id: int
    label: str
    first_frame: int
    last_frame: int
    frames: int
    pixels: int
    verdict: VerdictKind = VerdictKind.UNREVIEWED

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "id": self.id,
            "label": self.label,
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "frames": self.frames,
            "pixels": self.pixels,
        }
        if self.verdict is not VerdictKind.UNREVIEWED:
            values["verdict"] = self.verdict.value
        return values


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """The end; always the last event.

    Attributes:
        frames: answered.
        objects: by id.
        summary: one sentence for a person.
        dropped: live frames that were not tracked.
        resumed: how often the stream went on at another replica.
        warning: what the file had that could not be read; empty for a sound one.
        timings_ms: milliseconds of each stage, over all frames.
        models: that took part.
    """

    frames: int
    objects: tuple[Masklet, ...]
    summary: str
    dropped: int = 0
    resumed: int = 0
    warning: str = ""
    timings_ms: dict[str, float] | None = None
    models: tuple[ModelInfo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the last line of `limelight track --json`."""
        return {
            "summary": self.summary,
            "frames": self.frames,
            "objects": [item.to_dict() for item in self.objects],
            "dropped": self.dropped,
            "resumed": self.resumed,
            "warning": self.warning,
            "timings_ms": {
                stage: round(value, 3) for stage, value in (self.timings_ms or {}).items()
            },
            "models": [model_dict(model) for model in self.models],
        }


TrackingEvent: TypeAlias = (
    TrackStarted | TrackPlanned | TrackedFrame | TrackProgress | FramesDropped | TrackSummary
)


def tracking_event_from_proto(response: video_pb2.TrackVideoResponse) -> TrackingEvent | None:
    """The event of a message; None for one without, or with one that only a newer service knows."""
    match response.WhichOneof("event"):
        case "started":
            started = response.started
            return TrackStarted(started.request_id, started.resume_token, started.resume_s)
        case "plan":
            plan = response.plan
            cause = PLAN_CAUSE.from_newer(plan.cause, PlanCause.START)
            return TrackPlanned(plan_from_proto(plan.plan), plan.frame_index, cause)
        case "frame":
            return _frame(response.frame)
        case "progress":
            progress = response.progress
            return TrackProgress(
                progress.frames,
                progress.frames_expected,
                progress.media_bytes,
                progress.frames_per_s,
            )
        case "dropped":
            return FramesDropped(tuple(response.dropped.frame_indices))
        case "summary":
            return _summary(response.summary)
    return None


def _frame(frame: video_pb2.TrackedFrame) -> TrackedFrame:
    return TrackedFrame(
        index=frame.frame_index,
        time_s=frame.timestamp_s,
        width=frame.width,
        height=frame.height,
        instances=tuple(
            TrackedInstance(
                id=item.object_id,
                label=item.label,
                phrase=item.phrase,
                score=item.score,
                box=box_from_proto(item.box),
                area=item.area,
                size=(frame.height, frame.width),
                _mask=item.mask,
            )
            for item in frame.instances
        ),
        gone=tuple(frame.gone),
        over_cap=frame.over_cap,
    )


def _summary(summary: video_pb2.TrackSummary) -> TrackSummary:
    return TrackSummary(
        frames=summary.frames,
        objects=tuple(
            Masklet(
                item.object_id,
                item.label,
                item.first_frame,
                item.last_frame,
                item.frames,
                item.pixels,
                VERDICT.from_newer(item.verdict, VerdictKind.UNREVIEWED),
            )
            for item in summary.objects
        ),
        summary=summary.summary,
        dropped=summary.dropped,
        resumed=summary.resumed,
        warning=summary.warning,
        timings_ms=timings_from_proto(summary.timings),
        models=tuple(model_from_proto(model) for model in summary.models),
    )
