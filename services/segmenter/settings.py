"""What can be set about the segmenter, read once at start from `LIMELIGHT_SEGMENTER_*`.

`app.build` makes the one `SegmenterSettings` and passes it to the replica; nothing else reads the
environment. Free of torch and ray.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.replica.engines import check_name
from services.replica.settings import MiB, ReplicaSettings
from services.segmenter.engines import ENGINES

# The tiny checkpoint of sticker world, part of this package.
SHIPPED = Path(__file__).parent / "checkpoints" / "sticker-sam3"


class SegmenterSettings(ReplicaSettings):
    """The segmenter's settings; every field can be given as `LIMELIGHT_SEGMENTER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_SEGMENTER_")

    engine: Annotated[str, AfterValidator(lambda name: check_name(name, ENGINES))] = "transformers"
    """What finds pixels: `transformers`, or `fake` (color words, no weights)."""

    model: str = str(SHIPPED)
    """The checkpoint: a folder, or a hub id such as `facebook/sam3`. Unset: the shipped one."""

    threads: int = Field(default=1, ge=1)
    """CPU threads of one model step. More than the free cores makes it many times slower."""

    max_batch_images: int = Field(default=8, ge=1)
    """Images encoded in one step."""

    max_batch_pairs: int = Field(default=32, ge=1)
    """(image, query) pairs decoded in one step."""

    max_queued_images: int = Field(default=64, ge=1)
    """Images that may wait for the encoder; more are refused with a time to come again."""

    max_queued_pairs: int = Field(default=512, ge=1)
    """Pairs that may wait for the decoder; more are refused with a time to come again."""

    image_cache_bytes: int = Field(default=256 * MiB, ge=0)
    """Bound on cached image embeddings; at full size one takes 111 MB in float32. 0: no cache."""

    text_cache_bytes: int = Field(default=16 * MiB, ge=0)
    """Bound on cached phrase embeddings. 0: no cache."""

    mask_memory_bytes: int = Field(default=256 * MiB, ge=1)
    """Bound on what one request's masks may take in memory while they are drawn."""

    mask_threshold: float = 0.0
    """A pixel belongs to a mask when its upsampled logit is above this; 0 is probability 0.5."""

    nms_threshold: float = Field(default=0.5, ge=0, le=1)
    """Of two masks of one query that overlap more than this, the lower score goes. 1: none go."""

    nms_measure: Literal["iou", "iom"] = "iom"
    """How overlap is measured: intersection over union, or over the smaller mask. The latter also
    removes parts of a found whole, and small things that lie within the mask of a large one."""

    max_instances: int = Field(default=100, ge=1)
    """Most instances a query may give."""

    max_queries: int = Field(default=32, ge=1)
    """Most queries a request may hold."""

    max_exemplars: int = Field(default=16, ge=1)
    """Most exemplar boxes a query may hold."""

    mask_threads: int = Field(default=2, ge=1)
    """Threads that draw masks; each may take `mask_memory_bytes`."""
