"""Frames to a file, one by one, each shown when it was shown in the source.

`OverlayWriter` writes MP4 (H.264), `CutoutWriter` WebM with alpha (VP9). A file has its name only
once it is complete: until `close` it is written beside it, under a name that ends in `.part`. What
fails or is left by an exception leaves nothing.
"""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

# MPEG's clock, which is a multiple of most frame rates; WebM counts milliseconds whatever we say.
_TICKS_A_SECOND = 90_000
# libavutil's numbers for BT.709.
_BT709 = 1
_LIMITED = 1


class VideoWriter:
    """A file of one video track; the first frame decides its size.

    Raises (from `write`):
        ValueError: a frame is not uint8 (H, W, channels), of the first one's size, and shown later
            than the one before.
        OSError: the file cannot be written.
    """

    _container: str
    _codecs: tuple[tuple[str, dict[str, str]], ...]
    _pixels: str
    _channels: int
    _input: str

    def __init__(self, path: Path, rate: float | None = None) -> None:
        """`rate`, frames a second, is for players that ask; the frames' times decide."""
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._rate = Fraction(rate or 25.0).limit_denominator(1001)
        self._output: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._shape: tuple[int, ...] | None = None
        self._ticks = -1
        self.frames = 0
        """Frames written so far."""

    def write(self, pixels: NDArray[np.uint8], time_s: float) -> None:
        """Add a frame that is shown at `time_s`, in seconds from 0."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != self._channels:
            raise ValueError(
                f"a frame is uint8 (H, W, {self._channels}), not {pixels.dtype} {pixels.shape}"
            )
        if self._shape is None:
            self._open(pixels.shape[1], pixels.shape[0])
            self._shape = pixels.shape
        if pixels.shape != self._shape:
            raise ValueError(f"a frame of {pixels.shape} in a video of {self._shape}")
        ticks = round(time_s * _TICKS_A_SECOND)
        if ticks <= self._ticks:
            raise ValueError(f"a frame at {time_s:g} s is not after the one before")
        self._ticks = ticks
        height, width = pixels.shape[:2]
        if width % 2 or height % 2:  # halved colors need even sides
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=self._input)
        frame = frame.reformat(
            format=self._pixels,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            threads=1,
        )
        frame.pts = ticks
        frame.time_base = Fraction(1, _TICKS_A_SECOND)
        assert self._stream is not None
        assert self._output is not None
        self._output.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Complete the file and give it its name; without frames there is none."""
        if self._output is None:
            return
        assert self._stream is not None
        self._output.mux(self._stream.encode(None))
        self._output.close()
        self._output = None
        self._part.replace(self._path)

    def discard(self) -> None:
        """Remove what has been written."""
        if self._output is not None:
            with contextlib.suppress(av.FFmpegError):
                self._output.close()
            self._output = None
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
        else:
            self.discard()

    def _open(self, width: int, height: int) -> None:
        codec, options = next(
            (name, options) for name, options in self._codecs if name in av.codecs_available
        )
        av.logging.set_level(None)
        # The format by name: the file's own may end in anything.
        self._output = av.open(str(self._part), mode="w", format=self._container)
        stream = self._output.add_stream(codec, rate=self._rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width = width + width % 2
        stream.height = height + height % 2
        stream.pix_fmt = self._pixels
        stream.codec_context.time_base = Fraction(1, _TICKS_A_SECOND)
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = _LIMITED
        stream.codec_context.thread_count = 1
        self._marked(stream)
        self._stream = stream

    def _marked(self, stream: av.VideoStream) -> None:
        """What a format wants to be told of the track."""


class OverlayWriter(VideoWriter):
    """uint8 (H, W, 3) RGB as MP4: H.264, or MPEG-4 where this build of libav has no encoder."""

    _container = "mp4"
    _codecs = (
        ("libx264", {"preset": "veryfast", "crf": "20"}),
        ("mpeg4", {"qscale": "3"}),
    )
    _pixels = "yuv420p"
    _channels = 3
    _input = "rgb24"


class CutoutWriter(VideoWriter):
    """uint8 (H, W, 4) RGBA with straight alpha as WebM: VP9 with an alpha track of its own."""

    _container = "webm"
    _codecs = (
        (
            "libvpx-vp9",
            {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0", "auto-alt-ref": "0"},
        ),
    )
    _pixels = "yuva420p"
    _channels = 4
    _input = "rgba"

    def _marked(self, stream: av.VideoStream) -> None:
        stream.metadata["alpha_mode"] = "1"
