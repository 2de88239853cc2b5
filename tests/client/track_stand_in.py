"""A small real gRPC server whose "videos" have one frame a byte: what it got can be told exactly.

A stream is known by its token, so that one that was cut can be gone on with.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from limelight.v1 import limelight_pb2_grpc, media_pb2, plan_pb2, video_pb2
from services.errors import ServiceError
from services.rpc.status import code_of, rich_status, trailing_metadata

Response = video_pb2.TrackVideoResponse


@dataclass
class Stored:
    """What is known of one stream."""

    media: bytearray = field(default_factory=bytearray)
    changes: list[video_pb2.PromptChange] = field(default_factory=list)


class TrackStandIn(limelight_pb2_grpc.LimelightServiceServicer):
    """Answers a frame a byte, and one a live picture.

    `cuts` are taken one a call, from the front: frames after which the call ends without a word of
    the service (None: never), or an error to end with at once. A call that has no `cuts` left is
    whole. `forgets`: bytes that the service has lost again when a stream is gone on with.
    """

    def __init__(self) -> None:
        self.configs: list[video_pb2.TrackConfig] = []
        self.streams: dict[str, Stored] = {}
        self.cuts: list[int | ServiceError | None] = []
        self.forgets = 0
        self.most_ahead = 0
        self.request_ids: list[str] = []
        self.gate: threading.Event | None = None
        self.ended = threading.Event()

    def TrackVideo(  # noqa: N802
        self, requests: Iterator[video_pb2.TrackVideoRequest], context: grpc.ServicerContext
    ) -> Iterator[Response]:
        context.add_callback(self.ended.set)
        config = next(requests).config
        self.configs.append(config)
        self.request_ids.append(dict(context.invocation_metadata())["x-request-id"])
        cut = self.cuts.pop(0) if self.cuts else None
        if isinstance(cut, ServiceError):
            status = rich_status(cut, "request")
            context.set_trailing_metadata(trailing_metadata(status))
            context.abort(code_of(cut), status.message)
        token = config.resume_token or f"stream-{len(self.streams)}"
        stored = self.streams.setdefault(token, Stored())
        if config.resume_token and self.forgets:
            del stored.media[-self.forgets :]
        yield Response(
            started=video_pb2.TrackStarted(
                request_id="request",
                resume_token=token,
                resume_s=60,
                media_bytes=len(stored.media),
                next_frame=config.next_frame,
            )
        )
        if not config.resume_token:
            yield Response(plan=_plan(config))
        frames = config.next_frame
        told = 0
        taken = 0
        for request in requests:
            taken += request.credits
            match request.WhichOneof("step"):
                case "chunk":
                    stored.media += request.chunk
                    yield Response(credits=1)
                case "frame":
                    stored.media += request.frame.image.content[:1]
                    yield Response(credits=1)
                case "change":
                    stored.changes.append(request.change)
                case "media_end":
                    break
            if self.gate is not None:
                self.gate.wait(30)
            while frames < len(stored.media) and told - taken < config.frame_window:
                yield Response(frame=_frame(frames, stored.media[frames]))
                frames, told = frames + 1, told + 1
                self.most_ahead = max(self.most_ahead, told - taken)
                if told == cut:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        yield from self._rest(requests, config, stored, frames, told - taken, cut, context)

    def _rest(
        self,
        requests: Iterator[video_pb2.TrackVideoRequest],
        config: video_pb2.TrackConfig,
        stored: Stored,
        frames: int,
        ahead: int,
        cut: Any,
        context: grpc.ServicerContext,
    ) -> Iterator[Response]:
        """What is left when the media are complete."""
        while True:
            while frames < len(stored.media) and ahead < config.frame_window:
                yield Response(frame=_frame(frames, stored.media[frames]))
                frames, ahead = frames + 1, ahead + 1
                self.most_ahead = max(self.most_ahead, ahead)
                if frames == cut:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            if frames == len(stored.media):
                break
            request = next(requests)
            ahead -= request.credits
            if request.WhichOneof("step") == "change":
                stored.changes.append(request.change)
        yield Response(
            progress=video_pb2.TrackProgress(
                frames=frames, frames_expected=2 * frames, media_bytes=frames, frames_per_s=10.0
            )
        )
        yield Response(
            summary=video_pb2.TrackSummary(
                frames=frames,
                objects=[
                    video_pb2.MaskletSummary(
                        object_id=1, label="dog", first_frame=0, last_frame=frames - 1, frames=3
                    )
                ],
                summary="One dog.",
            )
        )


def _plan(config: video_pb2.TrackConfig) -> video_pb2.TrackPlan:
    phrases = [query.phrase for query in config.queries.include] or [config.instruction]
    plan = plan_pb2.Plan(
        include=[plan_pb2.ConceptQuery(phrase=phrase) for phrase in phrases],
        outcome=plan_pb2.PLAN_OUTCOME_OK,
    )
    return video_pb2.TrackPlan(plan=plan, cause=video_pb2.PLAN_CAUSE_START)


def _frame(index: int, value: int) -> video_pb2.TrackedFrame:
    """Frame `index` with an object whose score is its byte; a mask of 2 x 3 pixels, all set."""
    mask = media_pb2.Mask(rle=media_pb2.RunLengths(height=2, width=3, counts=b"06"))
    return video_pb2.TrackedFrame(
        frame_index=index,
        timestamp_s=index / 10,
        width=3,
        height=2,
        instances=[
            video_pb2.TrackedInstance(
                object_id=1,
                label="dog",
                phrase="dog",
                score=value / 255,
                box=media_pb2.Box(x1=3, y1=2),
                mask=mask,
                area=6,
            )
        ],
    )
