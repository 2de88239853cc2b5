"""What a caller wants of one image, checked: what the pipeline works on."""

from dataclasses import dataclass

from limelight.values import ImageFormat, MaskFormat, Plan, RenderKind, ReviewMode
from services.codecs.images import ImageHeader


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """One picture to draw; `background` is a color "#rrggbb" or an encoded image, which may have
    lost pixels if `accept_damaged`.
    """

    kind: RenderKind
    format: ImageFormat
    background: str | bytes = "#ffffff"
    accept_damaged: bool = False
    header: ImageHeader | None = None
    """Of the image behind, once it has been read."""


@dataclass(frozen=True, slots=True)
class ImageTask:
    """A checked request. Exactly one of `instruction` and `plan` is set.

    `image` may have lost pixels if `accept_damaged`.
    """

    image: bytes
    header: ImageHeader
    instruction: str | None
    plan: Plan | None
    score_threshold: float
    max_instances: int
    mask_format: MaskFormat
    review: ReviewMode
    renders: tuple[RenderSpec, ...]
    accept_damaged: bool = False

    @property
    def accepts_damage(self) -> bool:
        """Whether any of its images may have lost pixels."""
        return self.accept_damaged or any(spec.accept_damaged for spec in self.renders)
