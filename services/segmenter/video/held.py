"""Answers held back for some frames, which what comes later corrects before anyone sees them.

Two corrections: what turned out to be no object is taken out, and an id that was lent is given
back. Where two look-alikes are seen as one, the frame alone cannot tell whose id that one bears;
once both are seen apart again, the masks before and after can.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from limelight.masks import rle_iou
from services.segmenter.video.results import MaskletFrame, MaskletInstance, Sighting

ShownById = Mapping[int, MaskletInstance]


class HeldAnswers:
    """The latest answers of a session, oldest first.

    Args:
        frames: that are held to begin with.
        delay: of how many frames the oldest is let go; 0: at once.
        lending: whether ids that were lent are given back; `Sam3VideoModel` has no such thing.
    """

    def __init__(self, frames: Iterable[MaskletFrame], delay: int, *, lending: bool) -> None:
        self._frames: deque[MaskletFrame] = deque(frames)
        self._delay = delay
        self._lending = lending

    def __iter__(self) -> Iterator[MaskletFrame]:
        return iter(self._frames)

    def add(self, frame: MaskletFrame, recalled: frozenset[int]) -> list[MaskletFrame]:
        """Hold `frame`; the answers that are let go for it.

        Args:
            frame: that follows the last one.
            recalled: ids that never were objects.
        """
        self._frames.append(frame)
        if recalled:
            self._frames = deque(_without(frame, recalled) for frame in self._frames)
        if self._lending:
            give_back(self._frames)
        ready = []
        while self._frames and len(self._frames) >= self._delay:
            ready.append(self._frames.popleft())
        return ready

    def clear(self) -> list[MaskletFrame]:
        """All that are held; from now on none are."""
        left = list(self._frames)
        self._frames.clear()
        return left


def give_back(frames: "deque[MaskletFrame]") -> None:
    """Exchange ids in frames in which another object bore that of one that the last frame shows.

    A detection of its own shows that one again, and before it none did for some frames. If in some
    of these, from the first on or up to the last, the masks of it and of another join those before
    and after better with their ids exchanged, both ends taken together, they are.
    """
    shown: list[ShownById] = [
        {item.object_id: item for item in frame.instances} for frame in frames
    ]
    for own in list(shown[-1]):
        while borne := _borne(own, shown):
            for at in borne.frames:
                shown[at] = _exchanged(shown[at], own, borne.other)
                frames[at] = replace(frames[at], instances=tuple(shown[at].values()))


@dataclass(frozen=True, slots=True)
class _Borne:
    """Who bore an object's id, and in which frames."""

    other: int
    frames: range


def _borne(own: int, shown: Sequence[ShownById]) -> _Borne | None:
    """Who bore the id `own`, and where, in the last frames in which no detection of its own shows
    it, if the very last does.
    """
    end = len(shown) - 1
    start = end
    while start > 0 and _sighting(shown[start - 1], own) < Sighting.DETECTED:
        start -= 1
    if not 0 < start < end or _sighting(shown[end], own) < Sighting.DETECTED:
        return None
    gap, concept = range(start, end), shown[end][own].concept
    others = {i for at in gap for i, o in shown[at].items() if o.concept == concept} - {own}
    runs = {range(start, stop + 1) for stop in gap} | {range(at, end) for at in gap}
    best, most = None, 0.0
    for other in sorted(others):
        for run in sorted(runs, key=lambda run: (run.start, run.stop)):
            before, after = shown[run.start - 1], shown[run.stop]
            found = all(_sighting(shown[at], other) > Sighting.TRACKED for at in run)
            if found and (other in before or other in after):
                gain = _gain(own, other, shown[run.start], before)
                gain += _gain(own, other, shown[run.stop - 1], after)
                if gain > most:
                    best, most = _Borne(other, run), gain
    return best


def _gain(own: int, other: int, frame: ShownById, beside: ShownById) -> float:
    """By how much the masks of two join those of the frame beside better with ids exchanged."""
    pairs = ((own, other, 1), (other, own, 1), (own, own, -1), (other, other, -1))
    return sum(
        sign * rle_iou(frame[a].mask, beside[b].mask)
        for a, b, sign in pairs
        if a in frame and b in beside
    )


def _exchanged(shown: ShownById, first: int, second: int) -> ShownById:
    """`shown` with two ids exchanged."""
    ids = {first: second, second: first}
    renamed = (replace(i, object_id=ids.get(i.object_id, i.object_id)) for i in shown.values())
    return {item.object_id: item for item in sorted(renamed, key=lambda item: item.object_id)}


def _sighting(shown: ShownById, object_id: int) -> Sighting | int:
    """How an object was found in a frame; less than any where it was not."""
    return shown[object_id].sighting if object_id in shown else -1


def _without(frame: MaskletFrame, ids: frozenset[int]) -> MaskletFrame:
    kept = tuple(item for item in frame.instances if item.object_id not in ids)
    return replace(frame, instances=kept)
