"""What a video session answers: masklets, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from limelight.masks import encode_rle
from limelight.values import RLE, Box
from services.segmenter.postprocessing import upsample_onto
from services.segmenter.video.engine import Logits

# float32 rows held at a time while a mask is drawn.
_BAND_BYTES = 1 << 20


class Sighting(IntEnum):
    """How an object was found in a frame."""

    TRACKED = 0  # by its tracker alone
    SHARED = 1  # by a detection of two, of which its mask is a part
    DETECTED = 2  # by a detection of its own, or its caller


@dataclass(frozen=True, slots=True, eq=False)
class MaskletInstance:
    """One object in one frame.

    Attributes:
        object_id: its id in the session, from 1.
        concept: index of its phrase among all that the session was given; for a prompted object
            -1 minus its index among those.
        phrase: the phrase; empty for a prompted object and for exemplars without a phrase.
        score: 0 to 1, of the detection that matched it last; 1 for a prompted object.
        visibility: 0 to 1, how sure the tracker is that it is in the frame.
        presence: 0 to 1, how sure the detector is that the concept is; 1 for a prompted object.
        sighting: how it was found in the frame.
        box: the tight box of `mask`, which has `area` pixels.
    """

    object_id: int
    concept: int
    phrase: str
    score: float
    visibility: float
    presence: float
    sighting: Sighting
    box: Box
    mask: RLE
    area: int


@dataclass(frozen=True, slots=True, eq=False)
class MaskletFrame:
    """One frame's answer.

    Attributes:
        index: the caller's index of the frame.
        width: its width, pixels.
        height: its height, pixels.
        instances: the visible objects, by id.
        over_cap: new things found for which there was no room.
        removed: ids that will not come again, from this frame on.
        timings_ms: the time of each stage.
    """

    index: int
    width: int
    height: int
    instances: tuple[MaskletInstance, ...] = ()
    over_cap: int = 0
    removed: tuple[int, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class VisibleObject:
    """An object to be drawn; see `MaskletInstance` for what they share. `mask`: its logits."""

    object_id: int
    concept: int
    phrase: str
    score: float
    visibility: float
    presence: float
    sighting: Sighting
    mask: Logits


def draw_instances(
    objects: Sequence[VisibleObject], height: int, width: int, threshold: float
) -> tuple[MaskletInstance, ...]:
    """`objects` in a frame of `height` x `width` pixels, by id; those without a pixel are left out.

    A pixel that several objects of one concept claim goes to the one surest to be visible, as in
    SAM 3's own post-processing. Blocking; runs in the mask pool.
    """
    drawn = []
    claimed: dict[int, NDArray[np.bool_]] = {}
    canvas = np.zeros((height, width), np.bool_)
    crowd = {o.concept for o in objects if sum(p.concept == o.concept for p in objects) > 1}
    for item in sorted(objects, key=lambda o: (-o.visibility, o.object_id)):
        window = upsample_onto(canvas, item.mask, threshold, _BAND_BYTES)
        mine = canvas[window]
        if item.concept in crowd:
            taken = claimed.setdefault(item.concept, np.zeros((height, width), np.bool_))[window]
            mine &= ~taken
            taken |= mine
        rows, columns = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
        if len(rows):
            top, left = window[0].start, window[1].start
            box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
            drawn.append(
                MaskletInstance(
                    object_id=item.object_id,
                    concept=item.concept,
                    phrase=item.phrase,
                    score=item.score,
                    visibility=item.visibility,
                    presence=item.presence,
                    sighting=item.sighting,
                    box=Box(*map(float, box)),
                    mask=encode_rle(canvas),
                    area=int(np.count_nonzero(mine)),
                )
            )
        canvas[window] = False
    return tuple(sorted(drawn, key=lambda instance: instance.object_id))
