"""PyAV as it is used here: silent, without files of its own or a network, with few decoders."""

from typing import Any

import av
import av.logging
import numpy as np
from av.codec.context import Flags, ThreadType
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from services.codecs.videos.containers import SeekableFile
from services.codecs.videos.limits import VideoLimits
from services.errors import ServiceError

# By libavcodec's name of the codec: the decoder. What cameras, phones, screens, editors and
# browsers write; each is one more parser that a crafted file may reach.
DECODERS = {
    "h264": "h264",
    "hevc": "hevc",
    "vp8": "vp8",
    "vp9": "vp9",
    "av1": "libdav1d",
    "mpeg4": "mpeg4",
    "mpeg2video": "mpeg2video",
    "mpeg1video": "mpeg1video",
    "msmpeg4v3": "msmpeg4v3",
    "h263": "h263",
    "mjpeg": "mjpeg",
    "prores": "prores",
    "dnxhd": "dnxhd",
    "ffv1": "ffv1",
    "huffyuv": "huffyuv",
    "png": "png",
    "gif": "gif",
}
FORMATS = {"mp4": "mov", "matroska": "matroska", "avi": "avi", "gif": "gif"}

# With a Python file object libav waits for nothing; the file's own reader does.
_BUFFER_BYTES = 1 << 18


def _no_other_file(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise PermissionError("a video refers to another file")


class WatchedFile:
    """`file` for libav, which is told of a failure as of the end; `failure` keeps what it was.

    An exception that went through libav would be one of many by the time it is asked for, and PyAV
    prints those that it drops.
    """

    def __init__(self, file: SeekableFile, *, seekable: bool) -> None:
        self._file = file
        self._seekable = seekable
        self.failure: ServiceError | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether libav may jump about in it."""
        return self._seekable

    def read(self, length: int) -> bytes:
        """As the file's own."""
        if self.failure is not None:
            return b""
        try:
            return self._file.read(length)
        except ServiceError as error:
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file's own; negative for a failure, which is how C says it."""
        if self.failure is not None:
            return -1
        try:
            return self._file.seek(offset, whence)
        except ServiceError as error:
            self.failure = error
            return -1
        except ValueError:
            return -1

    def tell(self) -> int:
        """As the file's own."""
        return self._file.tell()


def open_input(file: WatchedFile, container: str, limits: VideoLimits) -> InputContainer:
    """`file` opened as `container`, and as nothing else.

    No other file, address or playlist can be reached, whatever the file says: the format is forced,
    and libav's own way of opening anything is replaced. Decoders that libav starts in order to know
    a stream are of `DECODERS` and take no frame over the limit of pixels.

    Raises:
        av.FFmpegError: libav cannot read it.
    """
    # libav's own log goes nowhere; errors come as exceptions.
    av.logging.set_level(None)
    return av.open(
        file,
        mode="r",
        format=FORMATS[container],
        options=_bound(limits),
        container_options={
            # Read in order, without going to an index at the end first.
            **({"fflags": "+ignidx"} if container in ("mp4", "matroska") else {}),
            "codec_whitelist": ",".join(DECODERS.values()),
            "protocol_whitelist": "none",
            "max_streams": "64",
            "probesize": str(4 << 20),
            "analyzeduration": "2000000",
            **({"enable_drefs": "0"} if container == "mp4" else {}),
            # An index of indexes may name one part any number of times.
            **({"use_odml": "0"} if container == "avi" else {}),
        },
        metadata_errors="replace",
        buffer_size=_BUFFER_BYTES,
        io_open=_no_other_file,
    )


def _bound(limits: VideoLimits) -> dict[str, str]:
    # Decoders compare it with frames that are padded to whole blocks; ours is checked besides.
    return {"max_pixels": str(limits.max_pixels + limits.max_pixels // 8 + (1 << 16))}


def matrix_of(frame: av.VideoFrame) -> bytes:
    """The display matrix that came with a frame; empty where none did."""
    data: Any = frame.side_data  # whose types PyAV's stubs confuse with keys
    try:
        return bytes(data[Type.DISPLAYMATRIX])
    except KeyError:
        return b""


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) at another size, by areas; C-contiguous."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    made: Any = frame.to_ndarray(
        width=width, height=height, interpolation=Interpolation.AREA, threads=1
    )
    return np.ascontiguousarray(made)


def limited(context: VideoCodecContext, limits: VideoLimits, reorder_depth: int | None) -> None:
    """Makes a decoder that is not open yet ours: one thread, and no frame over the limit.

    What can be decoded of a damaged frame comes out, so that no frame is missing without need.
    `strict` makes H.264's decoder wait for as many frames as the level allows where a stream does
    not say how many it reorders, instead of guessing and dropping what the guess was too low for.
    """
    context.thread_count = 1
    context.thread_type = ThreadType.SLICE
    context.flags |= int(Flags.output_corrupt)
    context.options = _bound(limits)
    if context.name == "h264":
        context.options = context.options | {"strict": "1"}
    if reorder_depth is not None:
        context.reorder_depth = reorder_depth
