"""A service that answers a video with the true masks of what it decodes."""

import io
from collections.abc import Iterator

import grpc
import numpy as np

from limelight.masks import encode_rle
from limelight.v1 import limelight_pb2_grpc, media_pb2, models_pb2, plan_pb2, video_pb2
from services.codecs.videos.decode import VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.selection import FrameSelection
from services.errors import InvalidMedia
from services.rpc.status import code_of, rich_status, trailing_metadata
from tests.tracker.clips import RED, picture

Response = video_pb2.TrackVideoResponse
FRAMES = 40


class ClipStandIn(limelight_pb2_grpc.LimelightServiceServicer):
    """Decodes what it is sent and answers with the red square's mask, every tenth frame without."""

    gate = None

    def __init__(self) -> None:
        self.configs: list[video_pb2.TrackConfig] = []
        self.media = b""

    def TrackVideo(  # noqa: N802
        self, requests: Iterator[video_pb2.TrackVideoRequest], context: grpc.ServicerContext
    ) -> Iterator[Response]:
        config = next(requests).config
        self.configs.append(config)
        yield Response(started=video_pb2.TrackStarted(request_id="abc", resume_token="t"))
        phrases = [query.phrase for query in config.queries.include] or [config.instruction]
        yield Response(
            plan=video_pb2.TrackPlan(
                plan=plan_pb2.Plan(
                    include=[plan_pb2.ConceptQuery(phrase=phrase) for phrase in phrases],
                    outcome=plan_pb2.PLAN_OUTCOME_OK,
                ),
                cause=video_pb2.PLAN_CAUSE_START,
            )
        )
        media = bytearray()
        for request in requests:
            if request.WhichOneof("step") == "media_end":
                break
            media += request.chunk
            yield Response(credits=1)
        self.media = bytes(media)
        indices = self._indices(config, context)
        ahead = 0
        for index in indices:
            while ahead >= config.frame_window:
                ahead -= next(requests).credits
            yield Response(frame=self.frame(index))
            ahead += 1
        yield Response(
            progress=video_pb2.TrackProgress(
                frames=len(indices), frames_expected=len(indices), frames_per_s=25.0
            )
        )
        yield Response(
            summary=video_pb2.TrackSummary(
                frames=len(indices),
                objects=[
                    video_pb2.MaskletSummary(
                        object_id=3,
                        label="red square",
                        first_frame=indices[0],
                        last_frame=indices[-1],
                        frames=len(indices),
                        pixels=9216,
                    )
                ],
                summary="Found 1 thing.",
                models=[models_pb2.Model(role="tracker", name="stand-in")],
            )
        )

    def frame(self, index: int) -> video_pb2.TrackedFrame:
        """What is answered about a frame."""
        return masked_frame(index, truth(index), 1 / 25)

    def _indices(self, config: video_pb2.TrackConfig, context: grpc.ServicerContext) -> list[int]:
        part = config.range
        selection = FrameSelection(
            part.start_s, part.end_s or None, max(1, config.stride), config.max_side
        )
        try:
            with Demuxer(io.BytesIO(self.media)) as demuxer:
                decoder = VideoDecoder(demuxer.header, selection=selection)
                frames = [frame for gop in demuxer.gops() for frame in decoder.decode(gop)]
        except InvalidMedia as fault:
            status = rich_status(fault, "abc")
            context.set_trailing_metadata(trailing_metadata(status))
            context.abort(code_of(fault), status.message)
        return [frame.index for frame in frames]


def truth(index: int) -> np.ndarray:
    """What frame `index` shows; every tenth hides it."""
    return (picture(index) == RED).all(2) & (index % 10 != 9)


def masked_frame(index: int, mask: np.ndarray, interval_s: float) -> video_pb2.TrackedFrame:
    """A frame with one object, or none where the mask is empty."""
    height, width = mask.shape
    frame = video_pb2.TrackedFrame(
        frame_index=index, timestamp_s=index * interval_s, width=width, height=height
    )
    if mask.any():
        rle = encode_rle(mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        frame.instances.add(
            object_id=3,
            label="red square",
            phrase="red square",
            score=0.9,
            box=media_pb2.Box(x0=columns[0], y0=rows[0], x1=columns[-1] + 1, y1=rows[-1] + 1),
            mask=media_pb2.Mask(
                rle=media_pb2.RunLengths(height=height, width=width, counts=rle.counts)
            ),
            area=int(mask.sum()),
        )
    return frame
