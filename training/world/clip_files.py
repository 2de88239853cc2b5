"""Clips as video files: H.264 in MP4, as a camera or an editor leaves them.

After `clips.py` and the second renderer. Only writing; what reads files is the product's own.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from training.world.clips import AnyClip, ClipFrame

# Of the BT.601 matrix and its limited range, which the conversion to YUV uses.
_SMPTE170M, _LIMITED = 6, 1


def write_mp4(
    clip: AnyClip,
    target: Path | BinaryIO,
    *,
    gop: int = 24,
    quality: int = 20,
    b_frames: int = 2,
    rate: float | None = None,
    preset: str = "veryfast",
    frames: Iterable[ClipFrame] | None = None,
) -> None:
    """Write a clip as an H.264 video in an MP4 file, one key frame every `gop` frames.

    Args:
        clip: of either renderer; its width and height are even.
        target: file to write, or a seekable binary stream.
        gop: frames from one key frame to the next; the clip's length or more gives one GOP. Only
            the first frame of each is a key frame, also where the scene is cut.
        quality: x264's constant rate factor, 0 (lossless) to 51.
        b_frames: bidirectional frames in a row at most; the file's order differs with any.
        rate: frames a second; by default the clip's.
        preset: x264's.
        frames: the clip's frames if they are drawn already.

    Raises:
        ValueError: width or height is odd.
    """
    if clip.width % 2 or clip.height % 2:
        raise ValueError(f"4:2:0 video needs even sides, not {clip.width} x {clip.height}")
    file = str(target) if isinstance(target, Path) else target
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(rate or clip.rate).limit_denominator(1001),
            options={
                "crf": str(quality),
                "preset": preset,
                # x264 would else set key frames at cuts, and as often as it likes.
                "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}",
                "threads": "1",
            },
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.colorspace = _SMPTE170M
        stream.codec_context.color_range = _LIMITED
        for frame in clip.frames() if frames is None else frames:
            picture = VideoFrame.from_ndarray(frame.image, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
