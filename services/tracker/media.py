"""A session's media: packets of a video or live pictures, made into frames. Blocks; for threads.

Frames of a video come in order, each once (`services.codecs.videos`). What is remembered of the
groups tells where a session elsewhere must begin to decode.
"""

from collections import deque
from collections.abc import Iterator

from limelight.paths import FieldPath
from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.live import LiveDecoder, LiveFrame
from services.codecs.videos.selection import FrameSelection
from services.domain import EncodedFrame, MediaEnd, PacketGroup, TrackOpening
from services.errors import InvalidRequest, Reason
from services.replica.decoding import ImageDecoder
from services.tracker.settings import TrackerSettings

_HEADER = FieldPath(("opening", "media_header"))
_GROUP = FieldPath(("group",))
_FRAME = FieldPath(("frame",))
_PICTURE = _FRAME / "image" / "content"


class Media:
    """The frames of one session.

    Args:
        opening: what is tracked.
        settings: limits.
        decoder: of live pictures.
        first_frame: frames before it are not needed.

    Raises:
        InvalidRequest: the header is not one, or what is selected is nothing.
        InvalidMedia, TooLarge: such a video is not taken.
    """

    def __init__(
        self,
        opening: TrackOpening,
        settings: TrackerSettings,
        decoder: ImageDecoder,
        first_frame: int = 0,
    ) -> None:
        self._decoder: VideoDecoder | None = None
        self._pictures = LiveDecoder(
            max_side=opening.max_side,
            field=_PICTURE,
            decode=lambda content: decoder.decode(content, field=_PICTURE),
        )
        # (its first frame, the group that a fresh decoder must begin at for it), oldest first.
        self._groups: deque[tuple[int, int]] = deque()
        if opening.media_header:
            part = opening.range
            selection = FrameSelection(
                start_s=0.0 if part is None else part.start_s,
                end_s=None if part is None else part.end_s,
                stride=opening.stride,
                max_side=opening.max_side,
            )
            selection.check(_HEADER)
            try:
                header = GopHeader.decode(opening.media_header)
            except ValueError as error:
                raise InvalidRequest(Reason.MESSAGE_INVALID, str(error), field=_HEADER) from error
            self._decoder = VideoDecoder(
                header, video_limits(settings), selection, first_frame=first_frame
            )

    def frames(self, step: PacketGroup | EncodedFrame | MediaEnd) -> Iterator[DecodedFrame]:
        """The frames that `step` completes.

        Raises:
            InvalidRequest: it is not of the kind that this session takes, or not the next.
            InvalidMedia, TooLarge: it cannot be decoded, or is over a limit.
        """
        match step:
            case PacketGroup():
                yield from self._group(step)
            case EncodedFrame():
                yield self._picture(step)
            case MediaEnd() if self._decoder is not None:
                yield from self._decoder.flush()

    def resume_at(self, frame: int) -> int:
        """The group from which a fresh decoder gives `frame` and those after it.

        Groups before it are forgotten.
        """
        while len(self._groups) > 1 and self._groups[1][0] <= frame:
            self._groups.popleft()
        return self._groups[0][1] if self._groups else 0

    def _group(self, step: PacketGroup) -> Iterator[DecodedFrame]:
        if self._decoder is None:
            raise InvalidRequest(
                Reason.MESSAGE_INVALID, "the session was opened without a header", field=_GROUP
            )
        try:
            gop = Gop.decode(step.content)
            self._groups.append((gop.first_frame, gop.resume_from))
            yield from self._decoder.decode(gop)
        except InvalidRequest:
            raise
        except ValueError as error:
            raise InvalidRequest(Reason.MESSAGE_INVALID, str(error), field=_GROUP) from error

    def _picture(self, step: EncodedFrame) -> DecodedFrame:
        if self._decoder is not None:
            raise InvalidRequest(
                Reason.MESSAGE_INVALID, "the session was opened with a header", field=_FRAME
            )
        return self._pictures.decode(LiveFrame(step.index, step.timestamp_s, step.content))


def video_limits(settings: TrackerSettings) -> VideoLimits:
    """What a video may be, of a kind that the gateway has let through."""
    return VideoLimits(
        max_pixels=settings.max_video_pixels,
        max_side=settings.max_video_side,
        max_frames=settings.max_video_frames,
        max_seconds=settings.max_video_seconds,
        max_total_pixels=settings.max_video_frames * settings.max_video_pixels,
    )
