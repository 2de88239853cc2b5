"""Frames and changes on their way into one session of the model, and its answers on their way out.

The model encodes a frame while it tracks the one before, so two are under way at a time; answers
keep their order. A change waits for the frame from which on it applies.
"""

import asyncio
from collections import deque

from limelight.paths import FieldPath
from limelight.values import (
    RLE,
    AddQuery,
    Box,
    DropPhrase,
    ObjectPrompt,
    PromptChange,
    RemoveObject,
    SetObject,
)
from services.codecs.videos.decode import DecodedFrame
from services.domain import FrameTracks, ObjectTrack, ResumePoint, TrackOpening
from services.errors import InvalidRequest, Reason
from services.segmenter.video.changes import Shape
from services.segmenter.video.results import MaskletFrame
from services.segmenter.video.session import TrackingSession

_AT_FRAME = FieldPath(("change", "at_frame"))
_UNDER_WAY = 2


class FrameFeed:
    """Feeds `session`, which was opened for `opening`.

    Args:
        resumed: what `opening.state` holds; None for a new session.
    """

    def __init__(
        self, session: TrackingSession, opening: TrackOpening, resumed: ResumePoint | None = None
    ) -> None:
        self._session = session
        self._most = 1 if opening.live else _UNDER_WAY
        self._under_way: deque[asyncio.Task[list[MaskletFrame]]] = deque()
        self._waiting: list[PromptChange] = []
        self._times: dict[int, float] = {}
        self._decoding_ms: dict[int, float] = {}
        # The gateway has these already.
        self._told_before = opening.next_frame
        self._last = session.last_index
        self.changes = 0
        """Changes that the stream's sessions were sent, whether or not their frame has come."""
        if resumed is None:
            for prompt in opening.objects:
                session.add_object(_shape(prompt))
        else:
            self._waiting += resumed.waiting
            self._times |= resumed.times
            self.changes = resumed.changes

    def change(self, change: PromptChange) -> None:
        """Take a change.

        Raises:
            InvalidRequest: FRAME_PASSED, its frame was tracked already.
        """
        if change.at_frame is not None and change.at_frame <= self.last_frame:
            raise InvalidRequest(
                Reason.FRAME_PASSED,
                f"frame {change.at_frame} was tracked already; the last one was {self.last_frame}",
                field=_AT_FRAME,
            )
        self._waiting.append(change)
        self.changes += 1

    async def add(self, frame: DecodedFrame, decoding_s: float) -> list[FrameTracks]:
        """Take a frame, which took `decoding_s` to decode; the answers that are ready, of earlier
        frames or of this one.

        Raises: as `TrackingSession.add_frame` and its changes do.
        """
        if self._last is not None and frame.index <= self._last:
            # A session that goes on makes its memories from the last frame that it took.
            if frame.index == self._last:
                await self._session.remember(frame.pixels)
            return []
        self._apply(frame.index)
        self._last = frame.index
        self._times[frame.index] = frame.time_s
        self._decoding_ms[frame.index] = 1000 * decoding_s
        self._under_way.append(
            asyncio.create_task(self._session.add_frame(frame.pixels, frame.index))
        )
        # The frame takes its changes when its task begins: before the next one's are applied.
        await asyncio.sleep(0)
        return await self._oldest() if len(self._under_way) >= self._most else []

    async def settle(self) -> list[FrameTracks]:
        """The answers of what is under way."""
        tracks: list[FrameTracks] = []
        while self._under_way:
            tracks += await self._oldest()
        return tracks

    @property
    def last_frame(self) -> int:
        """The last frame that was taken; -1 before the first."""
        return -1 if self._last is None else self._last

    @property
    def next_frame(self) -> int:
        """The next frame that will be answered, or an earlier one."""
        return min(self._times, default=self.last_frame + 1)

    async def resume_point(self) -> ResumePoint:
        """What a session elsewhere needs to go on; call `settle` before."""
        session = await self._session.snapshot()
        return ResumePoint(session, tuple(self._waiting), dict(self._times), self.changes)

    async def finish(self) -> list[FrameTracks]:
        """All answers that are left; takes no more frames."""
        tracks = await self.settle()
        return tracks + self._told(await self._session.finish())

    async def close(self) -> None:
        """Give up what is under way, and let go of the session."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._under_way.clear()
        await self._session.close()

    async def _oldest(self) -> list[FrameTracks]:
        return self._told(await self._under_way.popleft())

    def _apply(self, index: int) -> None:
        """Hand on the changes that apply from frame `index` on."""
        due = [item for item in self._waiting if item.at_frame is None or item.at_frame <= index]
        self._waiting = [item for item in self._waiting if item not in due]
        for item in due:
            match item.change:
                case AddQuery(query):
                    self._session.add_phrase(query)
                case DropPhrase(phrase):
                    self._session.remove_phrase(phrase)
                case SetObject(prompt) if prompt.object_id:
                    self._session.correct(prompt.object_id, _shape(prompt))
                case SetObject(prompt):
                    self._session.add_object(_shape(prompt))
                case RemoveObject(object_id):
                    self._session.remove_object(object_id)

    def _told(self, frames: list[MaskletFrame]) -> list[FrameTracks]:
        times = [self._times.pop(frame.index) for frame in frames]
        # Frames that a session before this one held back were decoded there.
        decoding_ms = [self._decoding_ms.pop(frame.index, 0.0) for frame in frames]
        return [
            FrameTracks(
                index=frame.index,
                timestamp_s=time_s,
                width=frame.width,
                height=frame.height,
                objects=tuple(
                    ObjectTrack(
                        object_id=item.object_id,
                        query=item.concept,
                        score=item.score,
                        presence=item.presence,
                        box=item.box,
                        mask=item.mask,
                        area=item.area,
                    )
                    for item in frame.instances
                ),
                removed=frame.removed,
                over_cap=frame.over_cap,
                timings_ms={"decode": took_ms, **frame.timings_ms},
            )
            for frame, time_s, took_ms in zip(frames, times, decoding_ms, strict=True)
            if frame.index >= self._told_before
        ]


def _shape(prompt: ObjectPrompt) -> Shape:
    if isinstance(prompt.shape, Box | RLE):
        return prompt.shape
    return [(point.x, point.y, point.positive) for point in prompt.shape]
