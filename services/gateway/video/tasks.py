"""What a caller wants of one video, checked: what a stream works on."""

from dataclasses import dataclass

from limelight.values import MaskFormat, ObjectPrompt, Plan, ReviewMode, TimeRange


@dataclass(frozen=True, slots=True)
class TrackTask:
    """A checked config.

    Attributes:
        instruction: for the planner; None where `plan` or `objects` say what is wanted.
        plan: of explicit queries.
        objects: shown in the first frame.
        score_threshold: 0 to 1.
        max_objects: 0: the tracker's limit.
        mask_format: of the answers.
        review: whether the planner looks at the first candidates.
        range: the part of the video; None: all.
        stride: every so many frames.
        max_side: longer side of the frames, pixels; 0: as they are.
        changed_only: whether frames tell changes only.
        frame_window: frames that may be under way to the client; 0: no bound but the connection's.
        live: frames come one by one.
    """

    instruction: str | None
    plan: Plan | None
    objects: tuple[ObjectPrompt, ...]
    score_threshold: float
    max_objects: int
    mask_format: MaskFormat
    review: ReviewMode
    range: TimeRange | None
    stride: int
    max_side: int
    changed_only: bool
    frame_window: int
    live: bool
