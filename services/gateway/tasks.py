"""What a caller wants of one image, checked: what the pipeline works on."""

from dataclasses import dataclass

from limelight.values import ImageFormat, MaskFormat, Plan, RenderKind, ReviewMode
from services.codecs.images import ImageHeader


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """One picture to draw; `background` is a color "#rrggbb" or an encoded image."""

    kind: RenderKind
    format: ImageFormat
    background: str | bytes = "#ffffff"


@dataclass(frozen=True, slots=True)
class ImageTask:
    """A checked request. Exactly one of `instruction` and `plan` is set."""

    image: bytes
    header: ImageHeader
    instruction: str | None
    plan: Plan | None
    score_threshold: float
    max_instances: int
    mask_format: MaskFormat
    review: ReviewMode
    renders: tuple[RenderSpec, ...]
