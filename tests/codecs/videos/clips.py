"""Clips made for a test: each frame carries its number, which survives lossy coding."""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]

SIZE = (96, 64)
_BITS = 8


def picture(number: int, width: int = SIZE[0], height: int = SIZE[1]) -> Rgb:
    """A frame: the number's bits as black and white columns above, colors that move below."""
    x, y = np.arange(width), np.arange(height)[:, None]
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = 60 + (x + 5 * number) * 2 % 120
    pixels[..., 1] = 40 + y * 150 // height
    pixels[..., 2] = 200 - number % 64
    strip = pixels[: height // 3]
    for bit in range(_BITS):
        columns = slice(bit * width // _BITS, (bit + 1) * width // _BITS)
        strip[:, columns] = 235 if number >> bit & 1 else 20
    return pixels


def number_in(pixels: Rgb) -> int:
    """The number of the frame, whatever its size."""
    height, width = pixels.shape[:2]
    strip = pixels[height // 12 : height // 4].mean(axis=(0, 2))
    middles = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    return sum(1 << bit for bit, x in enumerate(middles) if strip[x - 1 : x + 2].mean() > 128)


@contextmanager
def _usual_priority() -> Iterator[None]:
    """As root, SVT-AV1 makes its thread a real-time one, and what starts later inherits that."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@dataclass(frozen=True)
class Clip:
    """How to make a video."""

    container: str = "mp4"
    codec: str = "libx264"
    frames: int = 40
    size: tuple[int, int] = SIZE
    pixels: str = "yuv420p"
    rate: int = 25
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    ticks: Sequence[int] = ()
    """Times in milliseconds, for a variable frame rate."""
    rotation: int = 0
    """Counter-clockwise degrees that a player turns it by."""
    hflip: bool = False
    aspect: Fraction | None = None
    sound: bool = False
    interlaced: bool = False
    transfer: int = 0
    source: Sequence[Rgb] = ()
    """Its frames; numbered pictures if there are none."""

    def make(self) -> bytes:
        """The file."""
        with tempfile.NamedTemporaryFile() as file, _usual_priority():
            self._write(file.name)
            return Path(file.name).read_bytes()

    def _write(self, path: str) -> None:
        with av.open(path, "w", format=self.container, options=self.container_options) as output:
            stream = output.add_stream(self.codec, rate=self.rate, options=self.codec_options)
            stream.width, stream.height = self.size
            stream.pix_fmt = self.pixels
            stream.codec_context.thread_count = 1
            if self.ticks:
                stream.codec_context.time_base = Fraction(1, 1000)
            if self.rotation or self.hflip:
                stream.set_display_rotation(self.rotation, hflip=self.hflip)
            if self.aspect:
                stream.codec_context.sample_aspect_ratio = self.aspect
            if self.transfer:
                stream.codec_context.color_trc = self.transfer
                stream.codec_context.color_primaries = 9
                stream.codec_context.colorspace = 9
            if self.interlaced:
                stream.codec_context.flags |= 1 << 18 | 1 << 29
            sound = output.add_stream("aac", rate=44100) if self.sound else None
            for number in range(self.frames):
                pixels = self.source[number] if self.source else picture(number, *self.size)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                if not self.pixels.startswith("rgb"):
                    frame = frame.reformat(format=self.pixels, dst_colorspace=Colorspace.ITU601)
                if self.ticks:
                    frame.pts, frame.time_base = self.ticks[number], Fraction(1, 1000)
                else:
                    frame.pts, frame.time_base = number, Fraction(1, self.rate)
                output.mux(stream.encode(frame))
                if sound is not None:
                    samples = np.zeros((1, 1024), np.float32)
                    noise = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                    noise.sample_rate, noise.pts = 44100, 1024 * number
                    output.mux(sound.encode(noise))
            output.mux(stream.encode(None))
            if sound is not None:
                output.mux(sound.encode(None))


X264 = {"bf": "2", "g": "12", "preset": "veryfast", "crf": "18", "sc_threshold": "0"}
OPEN = X264 | {"bf": "3", "x264-params": "open-gop=1:b-pyramid=normal:keyint=12:min-keyint=12"}
X265 = {"preset": "ultrafast", "x265-params": "keyint=12:min-keyint=12:log-level=none:pools=1"}
VPX = {"g": "12", "deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "400000"}
ALTREF = VPX | {
    "deadline": "good",
    "cpu-used": "1",
    "auto-alt-ref": "1",
    "lag-in-frames": "16",
    "g": "60",
    "arnr-maxframes": "5",
}

# Of every container and codec that is read and can be written here.
KINDS: dict[str, Clip] = {
    "mp4-h264": Clip(codec_options=X264),
    "mp4-h264-open": Clip(codec_options=OPEN),
    "mp4-h264-one-gop": Clip(codec_options=X264 | {"g": "1000"}, frames=150),
    "mp4-h264-intra": Clip(codec_options=X264 | {"g": "1", "bf": "0"}),
    "mp4-h264-deep-b": Clip(codec_options=X264 | {"bf": "8", "b_strategy": "0", "g": "30"}),
    "mp4-faststart": Clip(codec_options=X264, container_options={"movflags": "faststart"}),
    "mp4-fragmented": Clip(
        codec_options=X264,
        container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ),
    "mp4-sound": Clip(codec_options=X264, sound=True),
    "mp4-hevc": Clip(codec="libx265", codec_options=X265),
    "mp4-hevc-open-10": Clip(
        codec="libx265",
        pixels="yuv420p10le",
        codec_options=X265
        | {"preset": "medium", "x265-params": X265["x265-params"] + ":open-gop=1:bframes=3"},
    ),
    "mp4-av1": Clip(
        codec="libsvtav1", codec_options={"preset": "12", "g": "12", "svtav1-params": "lp=1"}
    ),
    "mp4-mpeg4": Clip(codec="mpeg4", codec_options={"g": "12", "bf": "2", "qscale": "2"}),
    "mp4-10-bit": Clip(pixels="yuv420p10le", codec_options=X264),
    "mp4-444": Clip(pixels="yuv444p", codec_options=X264),
    "mp4-odd": Clip(size=(97, 63), pixels="yuv444p", codec_options=X264),
    "mov-h264": Clip("mov", codec_options=X264),
    "mov-prores": Clip("mov", "prores_ks", pixels="yuv422p10le"),
    "mov-png": Clip("mov", "png", pixels="rgb24"),
    "mkv-h264": Clip("matroska", codec_options=X264),
    "mkv-ffv1": Clip("matroska", "ffv1", pixels="yuv444p", size=(97, 63)),
    "mkv-mpeg2": Clip(
        "matroska", "mpeg2video", codec_options={"g": "12", "bf": "2", "qscale": "2"}
    ),
    "webm-vp8": Clip("webm", "libvpx", codec_options=VPX),
    "webm-vp8-altref": Clip(
        "webm",
        "libvpx",
        codec_options=ALTREF,
        frames=60,
    ),
    "webm-vp9": Clip("webm", "libvpx-vp9", codec_options=VPX),
    "webm-vp9-altref": Clip(
        "webm",
        "libvpx-vp9",
        codec_options=ALTREF,
        frames=60,
    ),
    "webm-vp9-odd": Clip("webm", "libvpx-vp9", size=(97, 63), codec_options=VPX),
    "webm-vp9-alpha": Clip(
        "webm", "libvpx-vp9", pixels="yuva420p", codec_options=VPX | {"auto-alt-ref": "0"}
    ),
    "avi-h264": Clip("avi", codec_options=X264),
    "avi-mpeg4": Clip("avi", "mpeg4", codec_options={"g": "12", "qscale": "2"}),
    "avi-mpeg4-b": Clip("avi", "mpeg4", codec_options={"g": "12", "bf": "2", "qscale": "2"}),
    "avi-mjpeg": Clip("avi", "mjpeg", pixels="yuvj420p", codec_options={"qscale": "2"}),
    "gif": Clip("gif", "gif", pixels="rgb8"),
}


def animated_webp(frames: int = 12, *, lossless: bool = True) -> bytes:
    """Numbered pictures as an animated WebP of 40 ms each, made by Pillow."""
    return saved(
        [Image.fromarray(picture(number)) for number in range(frames)],
        "WEBP",
        duration=40,
        lossless=lossless,
    )


def saved(pictures: Sequence[Image.Image], format: str, **options: object) -> bytes:
    """Pillow's file of several frames."""
    buffer = io.BytesIO()
    first, *rest = pictures
    first.save(buffer, format, save_all=True, append_images=rest, **options)
    return buffer.getvalue()
