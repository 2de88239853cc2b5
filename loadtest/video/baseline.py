"""The engine alone: the sessions of `services.segmenter.video` in one process, without a service.

The same model, settings, batches and threads as in a replica, and the same work: packets are
decoded, frames encoded, looked at and tracked, masks drawn and run-length coded. There is no Ray,
no gRPC, no gateway and no state that is kept for a replica that dies.

It runs as `python -m loadtest.video.baseline FOLDER`, in a process of its own with the environment
of the stack's processes, and obeys lines on standard input: each is a JSON `{"sessions"}`, answered
by a JSON line. The clip and the settings are files of the folder.
"""

import asyncio
import io
import json
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from limelight.values import ConceptQuery
from loadtest.video.footage import BenchClip
from services.local.runtime import with_allocator

_CLIP, _WORK = "clip.mp4", "work.json"


@dataclass(frozen=True, slots=True)
class EngineRun:
    """`sessions` at once, each through the whole clip: frames of all, seconds, CPU seconds."""

    sessions: int
    frames: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Frames a second of all sessions."""
        return self.frames / self.seconds


class EngineAlone:
    """The process, started with `async with`; `run` has it track."""

    def __init__(
        self, clip: BenchClip, folder: Path, settings: Mapping[str, str], max_objects: int
    ) -> None:
        self._clip = clip
        self._folder = folder
        self._work = {
            "settings": dict(settings),
            "phrases": clip.phrases,
            "max_objects": max_objects,
        }

    async def __aenter__(self) -> Self:
        (self._folder / _CLIP).write_bytes(self._clip.content)
        (self._folder / _WORK).write_text(json.dumps(self._work), encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.video.baseline", str(self._folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=with_allocator(os.environ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def run(self, sessions: int) -> EngineRun:
        """Track with so many sessions at once.

        Raises:
            RuntimeError: the process ended; what it said is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"sessions": sessions}).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the engine's process ended")
        return EngineRun(**json.loads(answer))


async def main() -> None:
    """Load, then obey standard input until it ends."""
    # The models are imported here alone: whoever only starts this process does without.
    from services.codecs.videos.decode import DecodedFrame, VideoDecoder
    from services.codecs.videos.demux import Demuxer
    from services.domain import TrackOpening
    from services.segmenter.video.session import SessionOptions
    from services.segmenter.video.tracking import open_video_segmenter
    from services.tracker.ahead import Ahead
    from services.tracker.feeding import FrameFeed
    from services.tracker.metrics import RecordedTrackerMetrics
    from services.tracker.settings import TrackerSettings

    folder = Path(sys.argv[1])
    work = json.loads((folder / _WORK).read_text(encoding="utf-8"))
    settings = TrackerSettings(**work["settings"])
    segmenter = open_video_segmenter(settings, RecordedTrackerMetrics())
    with Demuxer(io.BytesIO((folder / _CLIP).read_bytes())) as demuxer:
        header, gops = demuxer.header, list(demuxer.gops())
    pool = ThreadPoolExecutor(settings.decode_threads, "decode")
    ahead: Ahead[DecodedFrame] = Ahead(pool, settings.frames_decoded_ahead, lambda *_: None)
    queries = [ConceptQuery(phrase) for phrase in work["phrases"]]

    async def one() -> int:
        session = segmenter.open(queries, SessionOptions(max_objects=work["max_objects"]))
        feed = FrameFeed(session, TrackOpening())
        decoder = VideoDecoder(header)
        answered = 0
        for gop in gops:
            async with aclosing(ahead.read(decoder.decode(gop))) as frames:
                async for frame, spent_s in frames:
                    answered += len(await feed.add(frame, spent_s))
        async with aclosing(ahead.read(decoder.flush())) as frames:
            async for frame, spent_s in frames:
                answered += len(await feed.add(frame, spent_s))
        return answered + len(await feed.finish())

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        sessions = json.loads(line)["sessions"]
        cpu, began = time.process_time(), time.perf_counter()
        counts = await asyncio.gather(*(one() for _ in range(sessions)))
        run = EngineRun(
            sessions, sum(counts), time.perf_counter() - began, time.process_time() - cpu
        )
        print(json.dumps(asdict(run)), flush=True)
    await segmenter.close()
    pool.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
