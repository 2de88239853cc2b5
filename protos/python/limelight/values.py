"""The values that both sides of the wire share: boxes, masks, queries, plans, verdicts.

Frozen, without protobuf: `limelight.convert` turns them into messages and back, and
`limelight.validation` has their rules. Coordinates are pixels of the image as a viewer shows it
(EXIF orientation applied), origin top left, boxes `x0 y0 x1 y1` half-open.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open pixel box: columns `x0 <= x < x1`, rows `y0 <= y < y1`."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    def iou(self, other: "Box") -> float:
        """Intersection over union, 0 to 1; both have an area."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        shared = max(0.0, width) * max(0.0, height)
        return shared / (self.width * self.height + other.width * other.height - shared)


@dataclass(frozen=True, slots=True)
class RLE:
    """A binary mask as COCO compressed run lengths (column-major, pycocotools' `counts` bytes).

    `size` is (height, width) in pixels, as COCO writes it.
    """

    size: tuple[int, int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A box that shows the segmenter one thing that is wanted (or, if not `positive`, is not).

    Negative ones refine the phrase or the positive ones of their query: the thing that such a box
    shows is not among what the query finds. Alone they ask for nothing and are refused.
    """

    box: Box
    positive: bool = True


@dataclass(frozen=True, slots=True)
class ConceptQuery:
    """One concept for the segmenter: a noun phrase, exemplar boxes of this image, or both."""

    phrase: str = ""
    exemplars: tuple[Exemplar, ...] = ()


class SelectBy(StrEnum):
    """The order by which a plan's `select` ranks instances; position is the mask's centroid."""

    LEFTMOST = "leftmost"
    RIGHTMOST = "rightmost"
    TOPMOST = "topmost"
    BOTTOMMOST = "bottommost"
    LARGEST = "largest"
    SMALLEST = "smallest"
    NEAREST_CENTER = "nearest_center"
    HIGHEST_SCORE = "highest_score"


@dataclass(frozen=True, slots=True)
class Selection:
    """Keep `count` instances, from the `rank`-th (1-based) in the order of `by`."""

    by: SelectBy
    rank: int = 1
    count: int = 1


class PlanOutcome(StrEnum):
    """How a plan came about; also a label of the planner's metrics."""

    OK = "ok"  # the planner's first answer was a valid plan
    RETRIED = "retried"  # its second was, after it was shown what was wrong with the first
    DEGRADED = "degraded"  # neither was: the instruction itself became the one phrase
    REFUSED = "refused"  # a valid plan with nothing to include: the reason says why
    EXPLICIT = "explicit"  # the client gave the queries; no planner was asked


@dataclass(frozen=True, slots=True)
class Plan:
    """What to segment, in a closed language the gateway executes without a model.

    The answer is the union of `include`, less the instances of `exclude`, reviewed where asked,
    then `select`: a rank counts only what passed the review. `reason` is one sentence for a person.
    """

    include: tuple[ConceptQuery, ...] = ()
    exclude: tuple[ConceptQuery, ...] = ()
    select: Selection | None = None
    review: bool = False
    reason: str = ""
    outcome: PlanOutcome = PlanOutcome.OK

    @property
    def queries(self) -> tuple[ConceptQuery, ...]:
        """Every query the segmenter must answer: `include`, then `exclude`."""
        return self.include + self.exclude


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model answered: its name (path's last part or hub id) and a revision of its weights."""

    role: str
    name: str
    revision: str
    engine: str


class VerdictKind(StrEnum):
    """What became of a candidate in review."""

    UNREVIEWED = "unreviewed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The planner's word on the candidate `id`; unreviewed when it gave no valid one."""

    id: int
    kind: VerdictKind
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """What became of one query: `found` instances before exclusion, selection and review."""

    phrase: str
    presence: float
    found: int


class MaskFormat(StrEnum):
    """How an answer's masks are written."""

    RLE = "rle"
    PNG = "png"
    POLYGONS = "polygons"
    NONE = "none"


class ReviewMode(StrEnum):
    """Whether candidates are reviewed: as the plan says, always, or never."""

    PLAN = "plan"
    ALWAYS = "always"
    NEVER = "never"


class RenderKind(StrEnum):
    """A picture made from an answer."""

    OVERLAY = "overlay"
    SPOTLIGHT = "spotlight"
    CUTOUT = "cutout"
    BACKGROUND = "background"


class ImageFormat(StrEnum):
    """How a picture is encoded."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


@dataclass(frozen=True, slots=True)
class Point:
    """A click at column `x` and row `y`, pixels, on what is meant (or, if not `positive`, not)."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class ObjectPrompt:
    """One thing of a video, shown in one of its frames by a box, points or its mask.

    `object_id` is that of the object that is corrected, 0 for a new one, which is called `label`.
    """

    shape: Box | tuple[Point, ...] | RLE
    label: str = "object"
    object_id: int = 0


@dataclass(frozen=True, slots=True)
class AddQuery:
    """Track one concept more."""

    query: ConceptQuery


@dataclass(frozen=True, slots=True)
class DropPhrase:
    """Track one phrase less, and forget all that was found by it."""

    phrase: str


@dataclass(frozen=True, slots=True)
class SetObject:
    """Track one object more, or correct one."""

    prompt: ObjectPrompt


@dataclass(frozen=True, slots=True)
class RemoveObject:
    """Forget one object for good."""

    object_id: int


@dataclass(frozen=True, slots=True)
class PromptChange:
    """A change of what is tracked, from the frame `at_frame` on; None: the next that is tracked."""

    change: AddQuery | DropPhrase | SetObject | RemoveObject
    at_frame: int | None = None


class PlanCause(StrEnum):
    """Why a plan of a video was made."""

    START = "start"
    SCENE_CUT = "scene_cut"
    ALL_LOST = "all_lost"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A part of a video: seconds from its start, `end_s` exclusive; None: to its end."""

    start_s: float = 0.0
    end_s: float | None = None
