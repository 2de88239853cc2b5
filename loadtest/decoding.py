"""`python -m loadtest.decoding`: what decoding in a process costs, beside a thread, in one run.

Pictures go the way that replicas take (`services.replica.decoding`). Frames of videos, which the
tracker decodes in threads, go a way made here, to know what processes would cost it.
"""

import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import av
import numpy as np
import psutil

from services.codecs import images
from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import Gop, GopHeader
from services.deadline import Deadline
from services.isolation.dedicated import DedicatedWorker
from services.isolation.pool import Nursery
from services.isolation.wire import Limits, Shared
from services.replica.decoding import ImageDecoder
from services.segmenter.settings import SegmenterSettings

_PICTURES = {(1024, 768): 300, (4000, 3000): 20}
_FRAMES = 48
_CPU_S = 60.0

_decoder: VideoDecoder | None = None
_frames: Iterator[DecodedFrame] = iter(())


def begun(header: bytes) -> None:
    """In a worker: begin with a video."""
    global _decoder
    _decoder = VideoDecoder(GopHeader.decode(header))


def given(group: bytes) -> None:
    """In a worker: go on with a group."""
    global _frames
    assert _decoder is not None
    _frames = _decoder.decode(Gop.decode(group))


def frame() -> Shared | None:
    """In a worker: the next frame of the group."""
    found = next(_frames, None)
    return None if found is None else Shared(found.index, found.pixels.data.cast("B"))


def main() -> None:
    pictures()
    videos()


def pictures() -> None:
    """JPEGs of smooth noise."""
    decoder = ImageDecoder(SegmenterSettings(engine="fake"))
    for (width, height), times in _PICTURES.items():
        data = images.encode(_smooth(width, height), "jpeg", quality=90)
        ways: dict[str, Callable[[], Any]] = {
            "thread": partial(images.decode, data),
            "process": partial(decoder.decode, data, Deadline()),
        }
        for name, decode in ways.items():
            decode()
            _measured(f"JPEG of {width} x {height}, {name}", decode, times)
    decoder.close()


def videos() -> None:
    """H.264 that moves."""
    nursery = Nursery(("loadtest.decoding",), Limits(memory_bytes=2 << 30))
    for width, height in ((640, 360), (1920, 1080)):
        whole = _smooth(width + 3 * _FRAMES, height + 2 * _FRAMES)
        source = [
            np.ascontiguousarray(whole[2 * at : 2 * at + height, 3 * at : 3 * at + width])
            for at in range(_FRAMES)
        ]
        with Demuxer(io.BytesIO(_clip(source))) as demuxer:
            header, groups = demuxer.header.encode(), [gop.encode() for gop in demuxer.gops()]

        def threaded(header: bytes = header, groups: list[bytes] = groups) -> None:
            decoder = VideoDecoder(GopHeader.decode(header))
            for group in groups:
                for _ in decoder.decode(Gop.decode(group)):
                    pass

        def isolated(header: bytes = header, groups: list[bytes] = groups) -> None:
            worker = DedicatedWorker(nursery, silence_s=_CPU_S, answers={})
            worker.ask(begun, header, cpu_s=_CPU_S)
            for group in groups:
                worker.ask(given, group, cpu_s=_CPU_S)
                while worker.ask(frame, cpu_s=_CPU_S) is not None:
                    pass
            worker.end()

        isolated()
        _measured(f"frame of {width} x {height}, thread", threaded, 3, _FRAMES)
        _measured(f"frame of {width} x {height}, process", isolated, 3, _FRAMES)
    nursery.close()


def _clip(frames: list[images.Rgb]) -> bytes:
    """An MP4 of these, uint8 (H, W, 3), in groups of twelve."""
    file = io.BytesIO()
    height, width = frames[0].shape[:2]
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "bf": "0", "g": "12"}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _measured(name: str, work: Callable[[], Any], times: int, each: int = 1) -> None:
    took = []
    busy = _cpu_s()
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append((time.perf_counter() - begin) / each)
    cpu_ms = 1000 * (_cpu_s() - busy) / times / each
    took.sort()
    print(
        f"{name}: {cpu_ms:.1f} ms of CPU; {1000 * took[0]:.1f} ms at best, "
        f"{1000 * took[len(took) // 2]:.1f} at the median"
    )


def _cpu_s() -> float:
    """Of this process and those below it, ended or not."""
    me = psutil.Process()
    total = sum(me.cpu_times()[:4])
    for child in me.children(recursive=True):
        total += sum(child.cpu_times()[:4])
    return float(total)


def _smooth(width: int, height: int) -> images.Rgb:
    """Blocks of random colors, uint8 (height, width, 3)."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return blocks.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width].copy()


if __name__ == "__main__":
    # Under its own name, so that workers find what they are asked for.
    from loadtest import decoding

    decoding.main()
