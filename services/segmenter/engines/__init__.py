"""The seam to the model: what an engine is, and the registry that finds one by its setting.

`detecting` drives an engine from the batchers' worker threads: images become embeddings, phrases
become embeddings, pairs of the two become raw detections. What comes before (`preprocessing`) and
after (`postprocessing`) is the same for all engines. Only the engines' own modules import a
framework, and only when chosen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limelight.values import ModelInfo
from services.replica.engines import open_engine

if TYPE_CHECKING:
    from services.segmenter.settings import SegmenterSettings

# What makes each engine, by the name that the setting `engine` takes.
ENGINES = {
    "transformers": "services.segmenter.engines.transformers:TransformersSegmenterEngine",
    "fake": "services.segmenter.engines.fake:FakeSegmenterEngine",
}

# What SAM 3 is told when exemplars are all it gets, as in Meta's code and its Hugging Face port.
EXEMPLARS_ONLY = "visual"


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """An encoded image or phrase. `data` is the engine's own; `nbytes` is what it holds."""

    data: Any
    nbytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One image and one query for the decoder.

    `boxes` are exemplars, float32 (n, 4), center x, center y, width, height as shares of the image;
    `labels` int64 (n,), 1 for "like this", 0 for "not like this".
    """

    image: Embedding
    text: Embedding
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RawDetections:
    """What the model says of one pair: Q object queries, none filtered.

    Arrays are numpy's or torch's, of any float type, on any device.

    Attributes:
        logits: (Q,), how well each object matches.
        presence: (), the logit that the concept is in the image at all.
        boxes: (Q, 4), x0 y0 x1 y1 as shares of the image.
        masks: (Q, h, w), logits at the model's own resolution; the image stretched onto h x w.
    """

    logits: Any
    presence: Any
    boxes: Any
    masks: Any


@dataclass(frozen=True, slots=True)
class SegmenterTraits:
    """What there is to know of a loaded model.

    Attributes:
        model: its name and revision.
        image_size: side of the square it sees, pixels; None if it takes images as they are.
        max_tokens: tokens of text it reads, those that open and close the text counted.
        count_tokens: tokens that a phrase takes, opening and closing ones counted; safe to call
            from any thread.
    """

    model: ModelInfo
    image_size: int | None
    max_tokens: int
    count_tokens: Callable[[str], int]


class SegmenterEngine(Protocol):
    """A SAM 3. `encode_images` runs in one worker thread, `encode_texts` and `detect` in another;
    both may run at once.
    """

    def load(self) -> None:
        """Read the weights. Called once, before anything else."""

    def close(self) -> None:
        """Let go of them."""

    def describe(self) -> SegmenterTraits:
        """What was loaded."""

    def encode_images(self, images: Sequence[Any]) -> list[Embedding]:
        """One embedding an image; each is a uint8 tensor (3, S, S) from `preprocessing`."""

    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        """One embedding a phrase, each of at most `max_tokens` tokens."""

    def detect(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        """The raw detections of each pair; pairs may share images and phrases."""


def create(settings: "SegmenterSettings") -> SegmenterEngine:
    """The engine that `settings.engine` names, not loaded yet."""
    engine: SegmenterEngine = open_engine(settings.engine, ENGINES, settings)
    return engine
