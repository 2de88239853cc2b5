"""Answers held back for some frames, which what comes later corrects before anyone sees them.

Two corrections: what turned out to be no object is taken out, and an id that was lent is given
back. Where two look-alikes are seen as one, the frame alone cannot tell whose id that one bears;
once both are seen apart again, the masks before and after can.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

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

    A detection of its own shows that one again, and before it none did for some frames. If in these
    the masks of it and of another join those before and after better with their ids exchanged, both
    ends taken together, they are.
    """
    shown: list[ShownById] = [
        {item.object_id: item for item in frame.instances} for frame in frames
    ]
    last = len(shown) - 1
    for own in list(shown[last]):
        first = last
        while first > 0 and _sighting(shown[first - 1], own) < Sighting.DETECTED:
            first -= 1
        if not 0 < first < last or _sighting(shown[last], own) < Sighting.DETECTED:
            continue
        other = _bearer(own, shown, range(first, last))
        if other is None:
            continue
        for at in range(first, last):
            shown[at] = _exchanged(shown[at], own, other)
            frames[at] = replace(frames[at], instances=tuple(shown[at].values()))


def _bearer(own: int, shown: Sequence[ShownById], gap: range) -> int | None:
    """Who bore the id `own` in the frames of `gap`, in which nothing else shows it."""
    before, first, last, after = gap[0] - 1, gap[0], gap[-1], gap[-1] + 1
    best, most = None, 0.0
    for other, item in shown[first].items():
        found = all(_sighting(shown[at], other) > Sighting.TRACKED for at in gap)
        apart = other in shown[before] or other in shown[after]
        if other == own or item.concept != shown[after][own].concept or not (found and apart):
            continue
        gain = _gain(own, other, shown[first], shown[before])
        gain += _gain(own, other, shown[last], shown[after])
        if gain > most:
            best, most = other, gain
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
