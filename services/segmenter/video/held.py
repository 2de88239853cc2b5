"""Answers held back for some frames, which what comes later corrects before anyone sees them.

Two corrections: what turned out to be no object is taken out, and an id that was lent is given
back. Where two look-alikes are seen as one, the frame alone cannot tell whose id that one bears;
once both are seen apart again, the masks before and after can.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from limelight.masks import rle_iou
from limelight.values import RLE
from services.segmenter.video.results import MaskletFrame, MaskletInstance


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
    """Relabel the frames in which another bore the id of an object that the last frame shows again.

    That is where the other was shown all the time, and its mask joins that of the object better
    than its own, before the first of these frames and after the last, both taken together.
    """
    shown = [{item.object_id: item for item in frame.instances} for frame in frames]
    last = len(shown) - 1
    for item in frames[last].instances:
        before = next((at for at in range(last - 1, -1, -1) if item.object_id in shown[at]), last)
        gap = range(before + 1, last)
        lent = _lent(item, shown, gap) if gap else None
        if lent is None:
            continue
        for at in gap:
            shown[at][item.object_id] = replace(shown[at].pop(lent), object_id=item.object_id)
            instances = sorted(shown[at].values(), key=lambda instance: instance.object_id)
            frames[at] = replace(frames[at], instances=tuple(instances))


def _lent(
    item: MaskletInstance, shown: Sequence[dict[int, MaskletInstance]], gap: range
) -> int | None:
    """The id under which the object of `item` was shown in the frames of `gap`, if it was."""
    before, first, last, after = gap[0] - 1, gap[0], gap[-1], gap[-1] + 1
    best, most = None, 0.0
    for other, bearer in shown[first].items():
        always = all(other in shown[at] for at in gap)
        apart = other in shown[before] or other in shown[after]
        if bearer.concept != item.concept or not always or not apart:
            continue
        joins = 0.0
        for inner, outer in ((first, before), (last, after)):
            mask = shown[inner][other].mask
            joins += _iou(mask, shown[outer].get(item.object_id))
            joins -= _iou(mask, shown[outer].get(other))
        if joins > most:
            best, most = other, joins
    return best


def _iou(mask: RLE, other: MaskletInstance | None) -> float:
    return rle_iou(mask, other.mask) if other is not None else 0.0


def _without(frame: MaskletFrame, ids: frozenset[int]) -> MaskletFrame:
    kept = tuple(item for item in frame.instances if item.object_id not in ids)
    return replace(frame, instances=kept)
