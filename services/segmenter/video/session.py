"""One video session: frames go in, answers come out in order, each exactly once.

The next frame is encoded while one is tracked. A frame either changes the session whole or, if its
caller leaves, its time runs out or a stage fails, not at all; then the frames behind it that are
under way fail as well, and the caller may send them again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from limelight.paths import FieldPath
from limelight.values import ConceptQuery
from services.codecs.images import Rgb
from services.deadline import Deadline
from services.errors import InvalidRequest, Overloaded, Reason, Unavailable
from services.replica.metrics import ReplicaMetrics
from services.replica.waiting import within
from services.segmenter.postprocessing import check_room
from services.segmenter.queries import QUERIES, check_queries
from services.segmenter.video.changes import (
    OBJECT_ID,
    ObjectRemoved,
    ObjectShown,
    PhraseAdded,
    PhraseRemoved,
    SessionChange,
    Shape,
    check_shape,
)
from services.segmenter.video.held import HeldAnswers
from services.segmenter.video.results import MaskletFrame, draw_instances
from services.segmenter.video.settings import VideoSettings
from services.segmenter.video.snapshot import SessionSnapshot, dump_snapshot
from services.segmenter.video.stages import VideoStages
from services.segmenter.video.state import TrackingState
from services.segmenter.video.stepping import FrameStepper, SteppedFrame, TrackingRules, fits
from services.stages import StageTimer

FRAME_INDEX = FieldPath(("frame", "index"))
FRAME = FieldPath(("frame",))


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is asked for.

    Attributes:
        score_threshold: 0 to 1; things below it are not taken up. None: the model's own.
        max_objects: tracked at once; 0 or more than the server's limit: that.
        live: answer each frame at once. Otherwise answers are held back for as many frames as it
            takes to tell which new objects are duplicates or errors, and these never show.
    """

    score_threshold: float | None = None
    max_objects: int = 0
    live: bool = False


@dataclass(slots=True, eq=False)
class _FrameUnderWay:
    """One frame between `add_frame` and its answer."""

    index: int
    changes: list[SessionChange]
    stepped: asyncio.Future[None] = field(repr=False)
    drawn: asyncio.Future[None] = field(repr=False)


class TrackingSession:
    """See the module. Made by `VideoSegmenter.open`; lives in its event loop.

    Frames' indices are the caller's and rise; what lies between two of them is not a gap to the
    model. Changes take effect with the next frame that is added.
    """

    def __init__(
        self,
        stages: VideoStages,
        settings: VideoSettings,
        rules: TrackingRules,
        metrics: ReplicaMetrics,
        on_close: Callable[["TrackingSession"], None],
        snapshot: SessionSnapshot | None = None,
    ) -> None:
        self._stages = stages
        self._settings = settings
        self._rules = rules
        self._metrics = metrics
        self._on_close = on_close
        self._stepper = FrameStepper(stages, rules)
        snapshot = snapshot or SessionSnapshot(TrackingState(), (), 0, 0, None, ())
        self._state = snapshot.state
        self._changes = list(snapshot.changes)
        self._phrases = snapshot.phrases
        self._prompted = snapshot.prompted
        self._last_index = snapshot.last_index
        self._remembers = not snapshot.state.objects
        self._under_way: deque[_FrameUnderWay] = deque()
        delay = 0 if rules.live else rules.policy.hotstart_delay
        self._held = HeldAnswers(snapshot.held, delay, lending=rules.policy.follow_motion)
        self._ready: deque[MaskletFrame] = deque()
        self._drawing: set[asyncio.Task[None]] = set()
        self._ended = ""
        self.last_used = time.monotonic()
        """When a frame was last added or answered, in seconds of `time.monotonic()`."""

    @property
    def busy(self) -> bool:
        """Whether a frame is under way."""
        return bool(self._under_way or self._drawing)

    @property
    def closed(self) -> bool:
        """Whether it takes no more frames."""
        return bool(self._ended)

    @property
    def nbytes(self) -> int:
        """Bytes held between frames: memories, last masks, exemplars, answers held back."""
        held = (frame for frames in (self._held, self._ready) for frame in frames)
        masks = sum(len(item.mask.counts) for frame in held for item in frame.instances)
        return self._state.nbytes + masks

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The ids that are tracked."""
        return tuple(item.record.object_id for item in self._state.objects)

    @property
    def last_index(self) -> int | None:
        """The caller's index of the last frame that was taken; None before the first."""
        return self._last_index

    def add_phrase(self, query: ConceptQuery) -> int:
        """Track one concept more, from the next frame on, whose pixels its exemplars are of.

        Returns:
            The concept's index: how many the session was given before it.

        Raises:
            InvalidRequest: as for `Segmenter.segment`; `TOO_MANY_QUERIES` also over all changes.
        """
        self._check_open()
        settings = self._settings
        check_queries([query], self._stages.traits, 1, settings.max_exemplars)
        if self._phrases + self._prompted >= settings.max_prompts:
            raise _too_many(settings.max_prompts)
        live = sum(self._concepts_to_be().values())
        if live >= settings.max_queries:
            raise InvalidRequest(
                Reason.TOO_MANY_QUERIES,
                f"a session tracks at most {settings.max_queries} phrases at once",
                field=QUERIES,
            )
        self._phrases += 1
        self._changes.append(PhraseAdded(self._phrases - 1, query))
        return self._phrases - 1

    def remove_phrase(self, phrase: str) -> None:
        """Track one phrase less, and none of its objects.

        Raises:
            InvalidRequest: QUERY_INVALID, the session does not track it.
        """
        self._check_open()
        if not self._concepts_to_be().get(phrase):
            raise InvalidRequest(
                Reason.QUERY_INVALID, f"{phrase!r} is not tracked", field=FieldPath(("phrase",))
            )
        self._changes.append(PhraseRemoved(phrase))

    def add_object(self, shape: Shape) -> int:
        """Track one object more, shown by a box, points or a mask in the next frame's pixels.

        Returns:
            What `MaskletInstance.concept` will be: -1 minus the number of objects added before.

        Raises:
            InvalidRequest: the shape is unsound, or there are too many prompts.
        """
        self._check_open()
        check_shape(shape, self._settings.max_clicks)
        if self._phrases + self._prompted >= self._settings.max_prompts:
            raise _too_many(self._settings.max_prompts)
        shown = [c for c in self._changes if isinstance(c, ObjectShown) and not c.object_id]
        prompted = [item for item in self._state.objects if item.record.concept < 0]
        if len(prompted) + len(shown) >= self._rules.max_objects:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"the session tracks at most {self._rules.max_objects} objects",
                field=FieldPath(("shape",)),
            )
        self._prompted += 1
        self._changes.append(ObjectShown(0, -self._prompted, shape))
        return -self._prompted

    def correct(self, object_id: int, shape: Shape) -> None:
        """Show an object again, in the next frame's pixels.

        Raises:
            InvalidRequest: the shape is unsound, or there is no such object.
        """
        self._check_object(object_id)
        check_shape(shape, self._settings.max_clicks)
        self._changes.append(ObjectShown(object_id, 0, shape))

    def remove_object(self, object_id: int) -> None:
        """Forget one object. It may be found anew by its phrase, under another id.

        Raises:
            InvalidRequest: there is no such object.
        """
        self._check_object(object_id)
        self._changes.append(ObjectRemoved(object_id))

    async def add_frame(
        self, pixels: Rgb, index: int, deadline: Deadline | None = None
    ) -> list[MaskletFrame]:
        """The answers that this frame completes, in order; none while answers are held back.

        Args:
            pixels: uint8 (H, W, 3).
            index: above that of the frame before.
            deadline: until when the caller waits.

        Raises:
            InvalidRequest: index, pixels or a change are wrong. A change that does not fit the
                frame is dropped; the frame may be sent again.
            TooLarge: a mask of the frame is over the limit.
            Overloaded: too many frames are under way, or a stage's queue is full.
            DeadlinePassed: the time ran out.
            Unavailable: the session has ended, or an earlier frame failed.
        """
        deadline = deadline or Deadline()
        job = self._take(pixels, index)
        behind = self._under_way[-1] if self._under_way else None
        self._under_way.append(job)
        timer = StageTimer(self._metrics.stage, first="encode")
        size = (pixels.shape[0], pixels.shape[1])
        try:
            with timer:
                async with within(deadline):
                    with timer.stage("encode"):
                        frame, small = await self._stages.encode(pixels, deadline)
                    if behind is not None:
                        await asyncio.shield(behind.stepped)
                    if not self._remembers:
                        self._state = await self._stepper.remember(self._state, frame, deadline)
                        self._remembers = True
                    stepped = await self._stepper.step(
                        self._state, job.changes, frame, small, size, timer, deadline
                    )
        except BaseException as error:
            self._give_up(job, error, size)
            raise
        # From here on the frame is taken, whether or not its caller waits for the answer.
        before, self._state = self._state, stepped.state
        self._last_index = index
        gone = {item.record.object_id for item in before.objects}
        gone -= {item.record.object_id for item in stepped.state.objects}
        self._under_way.remove(job)
        job.stepped.set_result(None)
        drawing = asyncio.create_task(self._answer(job, behind, stepped, gone, size, timer))
        self._drawing.add(drawing)
        drawing.add_done_callback(self._drawing.discard)
        await asyncio.shield(drawing)
        return self._answers()

    async def remember(self, pixels: Rgb, deadline: Deadline | None = None) -> None:
        """Make the memories of a session that goes on, from the pixels of frame `last_index`.

        Without this call the first frame that is added takes that frame's place, to which the last
        masks fit less well.

        Raises:
            As `add_frame` does.
        """
        deadline = deadline or Deadline()
        self._check_open()
        _check_pixels(pixels)
        self.last_used = time.monotonic()
        if not self._remembers:
            async with within(deadline):
                frame, _ = await self._stages.encode(pixels, deadline)
                self._state = await self._stepper.remember(self._state, frame, deadline)
            self._remembers = True

    async def snapshot(self) -> bytes:
        """What another session needs to go on after the frames that were taken so far.

        Answers held back are in it, and so are changes that wait. To be taken between two calls of
        `add_frame`: frames under way are not in it.
        """
        self._check_open()
        while self._drawing:
            await asyncio.wait(list(self._drawing))
        waiting = [change for job in self._under_way for change in job.changes]
        snapshot = SessionSnapshot(
            state=self._state,
            changes=(*waiting, *self._changes),
            phrases=self._phrases,
            prompted=self._prompted,
            last_index=self._last_index,
            held=(*self._ready, *self._held),
        )
        return await self._stages.compute("state", dump_snapshot, snapshot, self._stages.engine)

    async def finish(self) -> list[MaskletFrame]:
        """All answers that are left, once the frames under way are done; takes no more frames."""
        self._check_open()
        self._ended = "the session was finished"
        while self._under_way or self._drawing:
            waiting = [job.stepped for job in self._under_way] + list(self._drawing)
            await asyncio.wait(waiting)
        self._ready.extend(self._held.clear())
        self._on_close(self)
        return self._answers()

    async def close(self, why: str = "the session was closed") -> None:
        """Let go of everything; frames under way fail with `why`."""
        self._ended = self._ended or why
        for drawing in self._drawing:
            drawing.cancel()
        self._state = TrackingState()
        self._held.clear()
        self._ready.clear()
        self._changes.clear()
        self._on_close(self)

    def _take(self, pixels: Rgb, index: int) -> _FrameUnderWay:
        self._check_open()
        _check_pixels(pixels)
        check_room(pixels.shape[0], pixels.shape[1], self._settings.mask_memory_bytes)
        last = self._under_way[-1].index if self._under_way else self._last_index
        if last is not None and index <= last:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"frame {index} comes after frame {last}, which is taken",
                field=FRAME_INDEX,
            )
        if len(self._under_way) >= self._settings.max_frames_ahead:
            raise Overloaded(
                Reason.OVERLOADED,
                f"{len(self._under_way)} frames of this session are under way",
                retry_after_s=0.1,
            )
        self.last_used = time.monotonic()
        loop = asyncio.get_running_loop()
        job = _FrameUnderWay(index, self._changes, loop.create_future(), loop.create_future())
        self._changes = []
        return job

    def _give_up(self, job: _FrameUnderWay, error: BaseException, size: tuple[int, int]) -> None:
        """Take `job` back and all frames behind it; their changes wait for the next frame again."""
        if job not in self._under_way:
            return
        failed = list(self._under_way)[self._under_way.index(job) :]
        if isinstance(error, InvalidRequest):
            job.changes[:] = [change for change in job.changes if fits(change, size)]
        changes = [change for one in failed for change in one.changes]
        self._changes = changes + self._changes
        for one in failed:
            self._under_way.remove(one)
            if not one.stepped.done():
                one.stepped.set_exception(
                    Unavailable(
                        Reason.SEGMENTER_UNAVAILABLE, f"frame {job.index} before it was not taken"
                    )
                )
            # Nobody need be waiting for it.
            one.stepped.exception()

    async def _answer(
        self,
        job: _FrameUnderWay,
        behind: _FrameUnderWay | None,
        stepped: SteppedFrame,
        gone: set[int],
        size: tuple[int, int],
        timer: StageTimer,
    ) -> None:
        """Draw the frame's masks and put its answer in line."""
        begin = time.perf_counter()
        try:
            instances = await self._stages.compute(
                "masks", draw_instances, stepped.visible, *size, self._settings.mask_threshold
            )
            seconds = time.perf_counter() - begin
            timer.add("masks", seconds)
            self._metrics.stage("masks", seconds)
            if behind is not None:
                await behind.drawn
        finally:
            if not job.drawn.done():
                job.drawn.set_result(None)
        height, width = size
        frame = MaskletFrame(
            index=job.index,
            width=width,
            height=height,
            instances=instances,
            over_cap=stepped.over_cap,
            removed=tuple(sorted(gone)),
            timings_ms=timer.timings_ms,
        )
        self._ready.extend(self._held.add(frame, stepped.recalled))
        self.last_used = time.monotonic()

    def _answers(self) -> list[MaskletFrame]:
        answers = list(self._ready)
        self._ready.clear()
        return answers

    def _check_open(self) -> None:
        if self._ended:
            raise Unavailable(Reason.SEGMENTER_UNAVAILABLE, self._ended)

    def _check_object(self, object_id: int) -> None:
        self._check_open()
        if object_id not in self.object_ids:
            raise InvalidRequest(
                Reason.OPTION_INVALID, f"there is no object {object_id}", field=OBJECT_ID
            )

    def _concepts_to_be(self) -> dict[str, int]:
        """How many concepts the next frame will look for, by phrase."""
        counts: dict[str, int] = {}
        for concept in self._state.concepts:
            counts[concept.query.phrase] = counts.get(concept.query.phrase, 0) + 1
        pending = [change for job in self._under_way for change in job.changes]
        for change in (*pending, *self._changes):
            if isinstance(change, PhraseAdded):
                phrase = change.query.phrase
                counts[phrase] = counts.get(phrase, 0) + 1
            elif isinstance(change, PhraseRemoved):
                counts.pop(change.phrase, None)
        return counts


def _check_pixels(pixels: Rgb) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InvalidRequest(
            Reason.IMAGE_BAD_SHAPE,
            f"a frame is uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}",
            field=FRAME,
        )


def _too_many(most: int) -> InvalidRequest:
    return InvalidRequest(
        Reason.TOO_MANY_QUERIES,
        f"a session takes at most {most} phrases and objects in all",
        field=QUERIES,
    )
