"""Which frames of a video are wanted, and how large."""

from dataclasses import dataclass

from limelight.paths import FieldPath
from services.errors import InvalidRequest, Reason


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """The frames from `start_s` on and before `end_s`, every `stride`-th, no larger than asked.

    Frames keep the number and the time that they have in the whole video; the stride counts from
    frame 0.
    """

    start_s: float = 0.0
    end_s: float | None = None
    """None: to the end."""
    stride: int = 1
    max_side: int = 0
    """The longer side of what comes out, in pixels, at most; 0 keeps the video's size."""

    def check(self, field: FieldPath) -> None:
        """Raises `InvalidRequest` (OPTION_INVALID) below `field` unless every value is in range."""
        faults = {
            "start_s": not 0.0 <= self.start_s < float("inf"),
            "end_s": self.end_s is not None and not self.start_s < self.end_s < float("inf"),
            "stride": not 1 <= self.stride <= 10_000,
            "max_side": not (self.max_side == 0 or 16 <= self.max_side <= 8192),
        }
        rules = {
            "start_s": "is a number of seconds from 0",
            "end_s": "is a number of seconds after start_s",
            "stride": "is 1 to 10000",
            "max_side": "is 16 to 8192, or 0 for the video's own size",
        }
        for name, wrong in faults.items():
            if wrong:
                raise InvalidRequest(
                    Reason.OPTION_INVALID, f"{name} {rules[name]}", field=field / name
                )

    def has(self, index: int, time_s: float) -> bool:
        """Whether frame `index`, shown at `time_s`, is wanted."""
        return (
            index % self.stride == 0
            and time_s >= self.start_s
            and (self.end_s is None or time_s < self.end_s)
        )

    def is_past(self, time_s: float) -> bool:
        """Whether no frame shown at `time_s` or later is wanted."""
        return self.end_s is not None and time_s >= self.end_s


EVERY_FRAME = FrameSelection()
