"""What a video may be, and the errors that name what it is instead.

Limits hold for what really comes out of the file: a duration or a number of frames that a container
claims is passed on in `VideoInfo` and never believed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from limelight.paths import FieldPath
from services.errors import InvalidMedia, Reason, TooLarge

# Where a request that carries a video has its bytes.
VIDEO_CONTENT = FieldPath(("video", "content"))

Stop = Callable[[], bool]
"""Asked between packets; True ends the work with `Cancelled`."""


def never() -> bool:
    """The `Stop` of work that nobody cancels."""
    return False


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may be. Sides and pixels are those of a frame as it is coded and as it is shown.

    A decoder keeps some 20 frames of at most 8 bytes a pixel, so the defaults bound it to 1.5 GB,
    and a 4K stream to that of 10 bits.
    """

    max_bytes: int = 1 << 30
    """Length of the encoded file."""
    max_pixels: int = 4096 * 2304
    """Width times height of one frame."""
    max_side: int = 8192
    min_side: int = 8
    """Smaller frames hold nothing to find."""
    max_aspect: float = 20.0
    """Longer side over shorter."""
    max_frames: int = 36_000
    """Frames of the stream, selected or not: twenty minutes at 30 a second."""
    max_seconds: float = 1_800.0
    """From the first frame shown to the last."""
    max_total_pixels: int = 36_000 * 1920 * 1080
    """Pixels of all frames that are decoded."""
    max_decode_seconds: float = 3_600.0
    """Wall-clock time inside the decoder."""
    max_packet_bytes: int = 16 << 20
    """One encoded frame."""
    max_gop_packets: int = 60
    """A GOP with more is handed on in parts."""
    max_gop_bytes: int = 4 << 20
    """A GOP with more is handed on in parts; one frame may still be longer."""
    max_lost_frames: int = 64
    """Frames in the middle that cannot be decoded; a stream that loses more is corrupt."""

    def check_size(self, width: int, height: int, field: FieldPath) -> None:
        """Raises unless frames of `width` x `height` are allowed.

        Raises:
            InvalidMedia: no pixels, too few, or sides too unequal (VIDEO_BAD_SHAPE).
            TooLarge: a side or the pixels over the limit (VIDEO_TOO_LARGE).
        """
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise TooLarge(
                Reason.VIDEO_TOO_LARGE,
                f"the video is {width}x{height}; at most {self.max_side} a side and "
                f"{self.max_pixels} pixels a frame are allowed",
                field=field,
            )
        short, long = sorted((width, height))
        if short < self.min_side:
            raise InvalidMedia(
                Reason.VIDEO_BAD_SHAPE,
                f"the video is {width}x{height}; at least {self.min_side} a side are needed",
                field=field,
            )
        if long > self.max_aspect * short:
            raise InvalidMedia(
                Reason.VIDEO_BAD_SHAPE,
                f"the video is {width}x{height}; one side may be at most {self.max_aspect:g} times "
                "the other",
                field=field,
            )

    def check_frames(self, frames: int, field: FieldPath) -> None:
        """Raises `TooLarge` (VIDEO_TOO_LONG) if `frames` are more than a stream may have."""
        if frames > self.max_frames:
            raise TooLarge(
                Reason.VIDEO_TOO_LONG,
                f"the video has more than {self.max_frames} frames, the most that are allowed",
                field=field,
            )

    def check_seconds(self, seconds: float, field: FieldPath) -> None:
        """Raises `TooLarge` (VIDEO_TOO_LONG) if a frame is shown `seconds` after the first."""
        if seconds > self.max_seconds:
            raise TooLarge(
                Reason.VIDEO_TOO_LONG,
                f"the video is longer than {self.max_seconds:g} seconds, the most that are allowed",
                field=field,
            )


DEFAULT_VIDEO_LIMITS = VideoLimits()


def corrupt(detail: str, field: FieldPath) -> InvalidMedia:
    """The error of a video whose bytes make no sense."""
    return InvalidMedia(Reason.VIDEO_CORRUPT, f"the video {detail}", field=field)


def unsupported(detail: str, field: FieldPath) -> InvalidMedia:
    """The error of a video of a kind that is not read."""
    return InvalidMedia(Reason.VIDEO_UNSUPPORTED, f"the video {detail}", field=field)
