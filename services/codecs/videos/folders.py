"""A folder of pictures as one video file, so that it travels and is tracked as any other.

Pictures sent one by one would be live input, of which some are dropped when the work is behind. The
file is Matroska with H.264 in full color resolution; at this quality a picture differs from its
original by a few steps of brightness at most.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from services.codecs import images
from services.codecs.videos.sources import FolderSource
from services.errors import InvalidMedia, Reason

_QUALITY = "8"
_GOP = "12"


def write_folder(source: FolderSource, path: Path) -> None:
    """Write the pictures of `source` to `path`, one a frame, in order.

    Raises:
        InvalidMedia: a picture cannot be read, or has another size than the first.
        TooLarge: a picture is over the limits of `services.codecs.images`.
    """
    rate = Fraction(source.rate).limit_denominator(1001)
    stream: av.VideoStream | None = None
    with av.open(str(path), "w", format="matroska") as output:
        for number, picture in enumerate(source.paths()):
            pixels = images.decode(picture.read_bytes())
            height, width = pixels.shape[:2]
            if stream is None:
                options = {"crf": _QUALITY, "preset": "veryfast", "g": _GOP, "bf": "0"}
                stream = output.add_stream("libx264", rate=rate, options=options)
                stream.width, stream.height = width, height
                stream.pix_fmt = "yuv444p"
                stream.codec_context.time_base = 1 / rate
            if (width, height) != (stream.width, stream.height):
                raise InvalidMedia(
                    Reason.IMAGE_BAD_SHAPE,
                    f"{picture.name} is {width}x{height}, the first picture is "
                    f"{stream.width}x{stream.height}",
                )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode(None))
