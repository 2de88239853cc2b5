"""What became of each object over a whole video, and how fast it goes."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from limelight.values import Plan, PlanOutcome
from services.gateway.video.choice import ToldObject

# Over which the speed is measured.
_SPEED_S = 5.0


@dataclass(slots=True)
class MaskletTally:
    """One object so far: its first and last frame, and the sums over its frames."""

    number: int
    label: str
    first_frame: int
    last_frame: int
    frames: int = 0
    pixels: int = 0


class TrackTally:
    """Counts over the frames of one stream.

    Args:
        masklets: the objects so far.
    """

    def __init__(self, masklets: Sequence[MaskletTally] = ()) -> None:
        self.frames = 0
        self.first = self.last = -1
        """Of the frames answered; -1: none."""
        self.timings_ms: dict[str, float] = {}
        """Of the sessions' stages, over all frames."""
        self._masklets = {masklet.number: masklet for masklet in masklets}
        self._recent: deque[float] = deque()

    @property
    def masklets(self) -> list[MaskletTally]:
        """By the objects' numbers."""
        return [self._masklets[number] for number in sorted(self._masklets)]

    def add(self, index: int, told: Sequence[ToldObject]) -> None:
        """The frame `index` was answered with these."""
        self.frames += 1
        if self.first < 0:
            self.first = index
        self.last = index
        self._recent.append(time.monotonic())
        self._forget_old()
        for item in told:
            masklet = self._masklets.setdefault(
                item.number, MaskletTally(item.number, item.label, index, index)
            )
            masklet.last_frame = index
            masklet.frames += 1
            masklet.pixels += item.track.area

    def left_out(self, given: int | None, stride: int) -> int:
        """Frames that were to be tracked and were not answered: they could not be decoded.

        Args:
            given: frames from the first to the last that was given; None: only those between two
                that were answered can be known.
            stride: every so many was to be tracked.
        """
        first, last = (self.first, self.last) if given is None else (0, given - 1)
        return max(0, last // stride - -(-first // stride) + 1 - self.frames)

    def spent(self, stage: str, milliseconds: float) -> None:
        """A stage of a session took so long once more."""
        self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + milliseconds

    @property
    def frames_per_s(self) -> float:
        """Of the last seconds."""
        self._forget_old()
        if len(self._recent) < 2:
            return 0.0
        spent = time.monotonic() - self._recent[0]
        return len(self._recent) / spent if spent > 0 else 0.0

    def _forget_old(self) -> None:
        horizon = time.monotonic() - _SPEED_S
        while self._recent and self._recent[0] < horizon:
            self._recent.popleft()


def summarize_track(plan: Plan, tally: TrackTally) -> str:
    """One sentence for a person; says plainly when nothing was found, and why."""
    masklets = tally.masklets
    if masklets:
        counts = Counter(masklet.label for masklet in masklets)
        parts = ", ".join(f"{count} x {label}" for label, count in counts.items())
        text = f"Tracked {len(masklets)} through {tally.frames} frames: {parts}."
    elif plan.outcome is PlanOutcome.REFUSED:
        return "Nothing to look for" + (f": {plan.reason}" if plan.reason else ".")
    else:
        names = ", ".join(f'"{query.phrase or "exemplar"}"' for query in plan.include)
        text = f"Nothing was found for {names or 'the objects'} in {tally.frames} frames."
    if plan.outcome is PlanOutcome.DEGRADED:
        text += " The planner gave no valid plan; the instruction was taken as one phrase."
    return text
