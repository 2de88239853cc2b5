"""One frame of one session: changes, detect and track at once, associate, remember.

The order of `step` is that of `Sam3VideoModel`: objects are found again before detections tell
which are new; what overlaps gives way before it is remembered; new objects are remembered last.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import TypeVar

import numpy as np

from services.codecs.images import Rgb
from services.deadline import Deadline
from services.errors import InvalidRequest
from services.segmenter.engines import EXEMPLARS_ONLY, Embedding
from services.segmenter.queries import QUERIES, exemplar_arrays
from services.segmenter.video.association import (
    Association,
    FrameTracking,
    associate,
)
from services.segmenter.video.changes import (
    ObjectRemoved,
    ObjectShown,
    PhraseAdded,
    PhraseRemoved,
    SessionChange,
    shown_by,
)
from services.segmenter.video.detecting import FoundConcept, QueuedConcept
from services.segmenter.video.engine import (
    Clicks,
    Logits,
    ObjectMask,
    ObjectRecall,
    ObjectStart,
    Observation,
    TrackingPolicy,
)
from services.segmenter.video.matching import FrameDetections, TrackRecord
from services.segmenter.video.memory import MemoryBank, MemoryReach
from services.segmenter.video.results import Sighting, VisibleObject
from services.segmenter.video.stages import VideoStages
from services.segmenter.video.state import TrackedConcept, TrackedObject, TrackingState
from services.stages import StageTimer

Result = TypeVar("Result")
First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, slots=True)
class TrackingRules:
    """How a session associates: the model's policy as its options bend it."""

    policy: TrackingPolicy
    max_objects: int
    patience: int
    live: bool


@dataclass(frozen=True, slots=True, eq=False)
class SteppedFrame:
    """What a frame gave: the state after it, what it shows, what was removed and left out.

    `recalled`: of `removed`, those that held frames must not show either.
    """

    state: TrackingState
    visible: tuple[VisibleObject, ...]
    removed: frozenset[int]
    recalled: frozenset[int]
    over_cap: int


def changed(
    state: TrackingState, changes: Sequence[SessionChange]
) -> tuple[TrackingState, tuple[ObjectShown, ...]]:
    """`state` after `changes`, and the objects that its next frame shows."""
    shown: list[ObjectShown] = []
    for change in changes:
        match change:
            case PhraseAdded(key, query):
                concepts = (*state.concepts, TrackedConcept(key, query))
                state = replace(state, concepts=concepts)
            case PhraseRemoved(phrase):
                gone = {c.key for c in state.concepts if c.query.phrase == phrase}
                kept = tuple(c for c in state.concepts if c.key not in gone)
                ids = (i.record.object_id for i in state.objects if i.record.concept in gone)
                state = replace(state.without(frozenset(ids)), concepts=kept)
            case ObjectShown():
                # The last correction of an object counts; new objects are each their own.
                shown = [s for s in shown if not s.object_id or s.object_id != change.object_id]
                shown.append(change)
            case ObjectRemoved(object_id):
                shown = [s for s in shown if s.object_id != object_id]
                state = state.without(frozenset([object_id]))
    return state, tuple(shown)


def fits(change: SessionChange, size: tuple[int, int]) -> bool:
    """Whether what `change` shows lies in a frame of `size`, (height, width) pixels."""
    height, width = size
    try:
        if isinstance(change, ObjectShown):
            shown_by(change.shape, height, width)
        elif isinstance(change, PhraseAdded):
            exemplar_arrays(change.query.exemplars, width, height, QUERIES / change.key)
    except InvalidRequest:
        return False
    return True


class FrameStepper:
    """Takes one frame of one session through the stages. Holds no state between frames."""

    def __init__(self, stages: VideoStages, rules: TrackingRules) -> None:
        self._stages = stages
        self._rules = rules
        traits = stages.traits
        self.reach = MemoryReach(
            traits.recent_memories, traits.conditioning_memories, traits.pointers
        )

    async def step(
        self,
        before: TrackingState,
        changes: Sequence[SessionChange],
        frame: Embedding,
        small: Rgb | None,
        size: tuple[int, int],
        timer: StageTimer,
        deadline: Deadline,
    ) -> SteppedFrame:
        """The frame `frame`, of `size` (height, width) pixels, after `before` and `changes`.

        `small` is a `small_frame` of it; None unless motion is followed.

        Raises:
            InvalidRequest: a change does not fit the frame.
            And as the stages do. `before` is as it was in any case.
        """
        state, shown = changed(before, changes)
        known = {item.record.object_id for item in state.objects}
        shown = tuple(s for s in shown if not s.object_id or s.object_id in known)
        hints = [shown_by(s.shape, *size) for s in shown]
        clicks = {s.object_id: hint[1] for s, hint in zip(shown, hints, strict=True) if s.object_id}
        recalls = [
            self._recall(state.place, item, frame, clicks.get(item.record.object_id))
            for item in state.objects
        ]
        questions = [self._question(concept, frame, size) for concept in state.concepts]
        found, tracked = await _both(
            self._timed("detect", self._stages.detect(questions, deadline), timer),
            self._timed("track", self._stages.track(recalls, deadline), timer),
        )
        begun = [i for i, s in enumerate(shown) if not s.object_id or hints[i][0] is not None]
        with timer.stage("track"):
            answers = await self._stages.prompt(
                [ObjectStart(frame, *hints[i]) for i in begun], deadline
            )
        prompted = dict(zip(begun, answers, strict=True))
        corrected = {s.object_id for s in shown if s.object_id}
        replaced = {shown[i].object_id: mask for i, mask in prompted.items() if shown[i].object_id}
        masks = [
            replaced.get(item.record.object_id, mask)
            for item, mask in zip(state.objects, tracked, strict=True)
        ]
        begun = [i for i in begun if not shown[i].object_id]
        with timer.stage("associate"):
            plan = await self._stages.compute(
                "associate", _associated, state, found, masks, small, self._rules, len(begun)
            )
        detected = found_masks(found)
        taken = [(detected[new.detection] >= 0.5).astype(np.float32) for new in plan.new]
        with timer.stage("track"):
            answers = await self._stages.prompt([ObjectStart(frame, m) for m in taken], deadline)
        draft = _FrameOutcome(state, frame, found, plan, masks, corrected)
        draft.take_up(taken, answers)
        draft.begin([(shown[i].key, hints[i][0], prompted[i]) for i in begun])
        with timer.stage("memorize"):
            memories = await self._stages.memorize(draft.observations, deadline)
        return draft.finished(memories, self.reach)

    async def remember(
        self, state: TrackingState, frame: Embedding, deadline: Deadline
    ) -> TrackingState:
        """`state`, as read from a snapshot, with memories of its objects' masks in `frame`.

        An object that was hidden keeps what came along; one without any memory is dropped.
        """
        place = state.place - 1
        seen = [item for item in state.objects if (item.mask > 0).any()]
        masks = [(item.mask > 0).astype(np.float32) for item in seen]
        begun = await self._stages.prompt([ObjectStart(frame, mask) for mask in masks], deadline)
        memories = await self._stages.memorize(
            [Observation(frame, _as_logits(mask), True, hard=True) for mask in masks], deadline
        )
        banks = {}
        for item, answer, memory in zip(seen, begun, memories, strict=True):
            bank = item.bank.copy()
            bank.add(place, memory, answer.pointer, conditioning=True)
            banks[item.record.object_id] = bank
        objects = [
            replace(item, bank=banks.get(item.record.object_id, item.bank))
            for item in state.objects
        ]
        return replace(state, objects=tuple(item for item in objects if not item.bank.empty))

    def _recall(
        self, place: int, item: TrackedObject, frame: Embedding, clicks: Clicks | None
    ) -> ObjectRecall:
        memories, pointers = item.bank.recall(place)
        horizon = self.reach.pointers
        if self._rules.live:
            # `Sam3VideoModel` knows no more frames of a stream than it was given so far.
            horizon = min(place + 1, horizon)
        return ObjectRecall(frame, memories, pointers, horizon, clicks)

    def _question(
        self, concept: TrackedConcept, frame: Embedding, size: tuple[int, int]
    ) -> QueuedConcept:
        height, width = size
        exemplars = () if concept.prompt else concept.query.exemplars
        boxes, labels = exemplar_arrays(exemplars, width, height, QUERIES / concept.key)
        policy = self._rules.policy
        return QueuedConcept(
            frame=frame,
            phrase=concept.query.phrase.strip() or EXEMPLARS_ONLY,
            prompt=concept.prompt,
            boxes=boxes,
            labels=labels,
            score_threshold=policy.score_threshold,
            nms_threshold=policy.nms_threshold,
        )

    async def _timed(
        self, stage: str, work: Coroutine[None, None, Result], timer: StageTimer
    ) -> Result:
        begin = time.perf_counter()
        try:
            return await work
        finally:
            timer.add(stage, time.perf_counter() - begin)


def found_masks(found: Sequence[FoundConcept]) -> Logits:
    """The masks of all concepts' detections, (d, h, w), in the order of `FrameDetections`."""
    masks = [concept.masks for concept in found if len(concept.masks)]
    return np.concatenate(masks) if masks else np.zeros((0, 1, 1), np.float32)


def _associated(
    state: TrackingState,
    found: Sequence[FoundConcept],
    masks: Sequence[ObjectMask],
    small: Rgb | None,
    rules: TrackingRules,
    begun: int,
) -> Association:
    """`associate` with a session's state; `begun` objects of the caller's own take their room."""
    keys = [concept.key for concept in state.concepts]
    detections = FrameDetections(
        masks=found_masks(found),
        scores=np.concatenate([np.zeros(0, np.float32), *(f.scores for f in found)]),
        concepts=np.repeat(np.array(keys, np.int64), [len(f.scores) for f in found]),
    )
    shape = detections.masks.shape[1:]
    tracking = FrameTracking(
        masks=np.stack([m.logits for m in masks]) if masks else np.zeros((0, *shape), np.float32),
        scores=np.array([m.score for m in masks], np.float32),
    )
    return associate(
        state.place,
        [item.record for item in state.objects],
        detections,
        tracking,
        rules.policy,
        frame=small,
        max_objects=rules.max_objects - begun,
        patience=rules.patience,
        removal=not rules.live,
    )


class _FrameOutcome:
    """The state after a frame, as it is put together: first what is to be memorized, then all."""

    def __init__(
        self,
        state: TrackingState,
        frame: Embedding,
        found: Sequence[FoundConcept],
        plan: Association,
        masks: Sequence[ObjectMask],
        corrected: set[int],
    ) -> None:
        self._state = state
        self._frame = frame
        self._found = found
        self._plan = plan
        self._phrases = {c.key: c.query.phrase for c in state.concepts}
        self._presence = {c.key: f.presence for c, f in zip(state.concepts, found, strict=True)}
        self._next_id = state.next_id
        self._objects: list[tuple[TrackRecord, MemoryBank | None, Logits, Embedding, bool]] = []
        self._visible: list[VisibleObject] = []
        self.observations: list[Observation] = []
        for index, (item, mask) in enumerate(zip(state.objects, masks, strict=True)):
            self._go_on(index, item, mask, item.record.object_id in corrected)

    def take_up(self, taken: Sequence[Logits], answers: Sequence[ObjectMask]) -> None:
        """The new objects of the plan, by the masks `taken` of their detections."""
        place = self._state.place
        alive = self._plan.keep_alive_initial
        for new, mask, answer in zip(self._plan.new, taken, answers, strict=True):
            record = TrackRecord(
                self._next_id,
                new.concept,
                new.score,
                place,
                place,
                alive,
                motion=new.motion,
                look=new.look,
            )
            self._next_id += 1
            self._show(record, new.mask, new.score)
            self._remember(record, None, new.mask, answer, _as_logits(mask), True, hard=True)

    def begin(self, prompted: Sequence[tuple[int, Logits | None, ObjectMask]]) -> None:
        """The objects that the caller shows: concept, mask if by one, and the model's answer."""
        place = self._state.place
        for key, mask, answer in prompted:
            record = TrackRecord(self._next_id, key, 1.0, place, place, 0)
            self._next_id += 1
            # A mask that is given is shown as it is, at the frame's own resolution.
            given = answer.logits if mask is None else _as_logits(mask)
            self._show(record, given, _sigmoid(answer.score))
            self._remember(record, None, answer.logits, answer, given, True, hard=True)

    def finished(self, memories: Sequence[Embedding], reach: MemoryReach) -> SteppedFrame:
        """The frame, its `observations` memorized."""
        objects = []
        for (record, bank, mask, pointer, conditioning), memory in zip(
            self._objects, memories, strict=True
        ):
            after = bank.copy() if bank else MemoryBank(reach)
            after.add(self._state.place, memory, pointer, conditioning=conditioning)
            objects.append(TrackedObject(record, after, mask))
        concepts = tuple(
            replace(concept, prompt=found.prompt)
            for concept, found in zip(self._state.concepts, self._found, strict=True)
        )
        state = TrackingState(self._state.place + 1, self._next_id, concepts, tuple(objects))
        plan = self._plan
        return SteppedFrame(state, tuple(self._visible), plan.removed, plan.recalled, plan.over_cap)

    def _go_on(self, index: int, item: TrackedObject, answer: ObjectMask, corrected: bool) -> None:
        plan = self._plan
        record = plan.records[index]
        if record.object_id in plan.removed:
            return
        confirmed = bool(plan.confirmed[index])
        if not plan.hidden[index]:
            found = record.seen == self._state.place
            sighting = Sighting.DETECTED if found else Sighting.TRACKED
            sighting = Sighting.SHARED if plan.shared[index] else sighting
            self._show(record, plan.masks[index], _sigmoid(answer.score), sighting)
        if corrected or (plan.new and not confirmed):
            # With new objects beside them, `Sam3VideoModel` memorizes all by their outlines, as the
            # tracker gave them.
            logits, visible, hard = answer.logits, answer.score > 0, True
        else:
            logits = plan.memory_masks[index]
            visible, hard = bool((logits > 0).any()), False
        self._remember(
            record,
            item.bank,
            plan.masks[index],
            answer,
            logits,
            visible,
            hard=hard,
            conditioning=confirmed or corrected,
        )

    def _show(
        self,
        record: TrackRecord,
        mask: Logits,
        visibility: float,
        sighting: Sighting = Sighting.DETECTED,
    ) -> None:
        self._visible.append(
            VisibleObject(
                object_id=record.object_id,
                concept=record.concept,
                phrase=self._phrases.get(record.concept, ""),
                score=record.score,
                visibility=visibility,
                presence=self._presence.get(record.concept, 1.0),
                sighting=sighting,
                mask=mask,
            )
        )

    def _remember(
        self,
        record: TrackRecord,
        bank: MemoryBank | None,
        mask: Logits,
        answer: ObjectMask,
        logits: Logits,
        visible: bool,
        *,
        hard: bool,
        conditioning: bool = True,
    ) -> None:
        self._objects.append((record, bank, mask, answer.pointer, conditioning))
        self.observations.append(Observation(self._frame, logits, visible, hard))


def _as_logits(mask: Logits) -> Logits:
    """A mask of 0 to 1 as logits that are sure, as SAM takes a given mask."""
    logits: Logits = mask * np.float32(20) - np.float32(10)
    return logits


def _sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-max(-60.0, logit)))


async def _both(
    first: Coroutine[None, None, First], second: Coroutine[None, None, Second]
) -> tuple[First, Second]:
    """Both results; if one fails, the other is cancelled."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
