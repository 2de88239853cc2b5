"""The tracker itself: sessions let in, fed, answered and ended. `app` puts it behind gRPC.

One session, top to bottom, is `Tracker.track`: its frames are decoded in threads (`media`,
`ahead`), followed by the model (`feeding`, `services.segmenter.video`, which batches the steps of
all sessions), and answered as they come. What a session holds is freed when its handler ends,
however it ends.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager

from limelight.values import ModelInfo, PromptChange
from services.codecs.videos.decode import DecodedFrame
from services.domain import (
    FrameTracks,
    MediaEnd,
    PacketGroup,
    SessionState,
    TrackEvent,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import Idle, Overloaded
from services.replica.decoding import ImageDecoder
from services.replica.requests import RequestGate
from services.rpc.convert.tracker import resume_point_from_bytes, resume_point_to_bytes
from services.segmenter.video.session import SessionOptions
from services.segmenter.video.tracking import VideoSegmenter, open_video_segmenter
from services.tracker.ahead import Ahead
from services.tracker.feeding import FrameFeed
from services.tracker.media import Media
from services.tracker.metrics import SessionEnd, TrackerMetrics
from services.tracker.scaling import SessionLoad
from services.tracker.settings import TrackerSettings
from services.tracker.watch import IdleWatch


class Tracker:
    """Hosts tracking sessions. Lives in one event loop; `segmenter` is closed with it."""

    def __init__(
        self, settings: TrackerSettings, segmenter: VideoSegmenter, metrics: TrackerMetrics
    ) -> None:
        self._settings = settings
        self._segmenter = segmenter
        self._metrics = metrics
        self._gate = RequestGate(metrics)
        self._decode_pool = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._image_decoder = ImageDecoder(settings)
        self._ahead: Ahead[DecodedFrame] = Ahead(
            self._decode_pool,
            settings.frames_decoded_ahead,
            self._decoded,
        )
        self.load = SessionLoad()
        """For the scaling policy."""

    @property
    def model(self) -> ModelInfo:
        """The model that answers."""
        return self._segmenter.model

    async def track(
        self, opening: TrackOpening, steps: AsyncIterator[TrackStep]
    ) -> AsyncGenerator[TrackEvent | None, None]:
        """One session: what it tells, in order. None answers a step that had nothing to tell.

        Closing the iterator ends the session at once.

        Args:
            opening: what is tracked.
            steps: media and changes, each taken when those before it have been answered.

        Raises:
            InvalidRequest: a prompt, an option or the order of the steps is wrong;
                `InvalidMedia`: a frame is.
            TooLarge: the media are over a limit.
            Overloaded: there are as many sessions as the replica takes.
            Idle: nothing came, or nothing was taken, for too long.
            Unavailable: the replica is closing.
        """
        with self._gate.enter(lambda: "track"), self._counted():
            feed = self._opened(opening)
            watch = IdleWatch(self._settings.idle_timeout_s, feed.close)
            try:
                first = max(0, feed.last_frame)
                media = Media(opening, self._settings, self._image_decoder, first)
                with watch.answer():
                    yield TrackOpened(self.model)
                async for step in watch.steps(_ended(steps)):
                    told = False
                    async with aclosing(self._answers(step, media, feed)) as events:
                        async for event in events:
                            told = True
                            with watch.answer():
                                yield event
                    if isinstance(step, MediaEnd):
                        return
                    if not told:
                        with watch.answer():
                            yield None
            finally:
                await feed.close()

    def check(self) -> None:
        """Raise `Unavailable` if the tracker cannot work any more."""
        self._segmenter.check()

    async def close(self) -> None:
        """Let the sessions end, take no more, let go of the model."""
        await self._gate.close()
        self._decode_pool.shutdown()
        self._image_decoder.close()
        await self._segmenter.close()

    def _opened(self, opening: TrackOpening) -> FrameFeed:
        options = SessionOptions(
            score_threshold=opening.score_threshold,
            max_objects=opening.max_objects,
            live=opening.live,
        )
        resumed = resume_point_from_bytes(opening.state) if opening.state else None
        state = b"" if resumed is None else resumed.session
        try:
            session = self._segmenter.open(opening.queries, options, state)
        except Overloaded:
            self.load.refuse()
            raise
        return FrameFeed(session, opening, resumed)

    async def _answers(
        self, step: TrackStep, media: Media, feed: FrameFeed
    ) -> AsyncGenerator[TrackEvent, None]:
        """What a session tells of one step."""
        if isinstance(step, PromptChange):
            feed.change(step)
            return
        came = time.monotonic()
        if not isinstance(step, MediaEnd):
            self._metrics.media(len(step.content))
        async with aclosing(self._ahead.read(media.frames(step))) as frames:
            async for frame, decoding_s in frames:
                for tracks in await feed.add(frame, decoding_s):
                    yield self._told(tracks, came)
        ending = isinstance(step, MediaEnd)
        for tracks in await (feed.finish() if ending else feed.settle()):
            yield self._told(tracks, came)
        if not ending and self._state_due(step, feed):
            begin = time.perf_counter()
            content = resume_point_to_bytes(await feed.resume_point())
            self._metrics.stage("state", time.perf_counter() - begin)
            group = media.resume_at(max(0, feed.last_frame))
            yield SessionState(feed.next_frame, group, content, feed.changes)

    def _state_due(self, step: TrackStep, feed: FrameFeed) -> bool:
        """Whether the gateway is to be told how to go on after `step`."""
        if isinstance(step, PacketGroup):
            every = self._settings.state_every_groups
            return bool(every) and (step.index + 1) % every == 0
        every = self._settings.state_every_frames
        return bool(every) and (feed.last_frame + 1) % every == 0

    def _told(self, tracks: FrameTracks, came: float) -> FrameTracks:
        self._metrics.answered(len(tracks.objects), time.monotonic() - came)
        return tracks

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a session, and why it ended."""
        self._count(1)
        why = SessionEnd.FAILED
        try:
            yield
            why = SessionEnd.FINISHED
        except Overloaded:
            why = SessionEnd.REFUSED
            raise
        except Idle:
            why = SessionEnd.IDLE
            raise
        except (asyncio.CancelledError, GeneratorExit):
            why = SessionEnd.CANCELLED
            raise
        finally:
            self._count(-1)
            self._metrics.ended(why)

    def _decoded(self, seconds: float, cpu_s: float) -> None:
        self._metrics.stage("decode", seconds)
        self._metrics.worked("decode", cpu_s)

    def _count(self, more: int) -> None:
        self.load.live += more
        self._metrics.sessions(self.load.live)


async def _ended(steps: AsyncIterator[TrackStep]) -> AsyncIterator[TrackStep]:
    """The steps; their end is the end of the media as well."""
    async for step in steps:
        yield step
    yield MediaEnd()


def open_tracker(settings: TrackerSettings, metrics: TrackerMetrics) -> Tracker:
    """The tracker of `settings`, its model loaded and warmed up. Blocking.

    Raises:
        Whatever the engine raises for a checkpoint that it cannot load, or that does not answer.
    """
    return Tracker(settings, open_video_segmenter(settings, metrics), metrics)
