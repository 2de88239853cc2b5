"""What can be set about the segmenter, read once at start from `LIMELIGHT_SEGMENTER_*`.

`app.build` makes the one `Settings` and passes it to the replica; nothing else reads the
environment. Free of torch and ray.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# The tiny checkpoint of sticker world, part of this package.
SHIPPED = Path(__file__).parent.parent / "stickers" / "checkpoints" / "sticker-sam3"

MiB = 1024 * 1024


class Settings(BaseSettings):
    """The segmenter's settings; every field can be given as `LIMELIGHT_SEGMENTER_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="LIMELIGHT_SEGMENTER_",
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    engine: Literal["transformers", "fake"] = "transformers"
    """Which engine finds pixels. `fake` answers colour words without a model, for tests."""

    model: str = str(SHIPPED)
    """The checkpoint: a folder, or a hub id such as `facebook/sam3`. Unset: the shipped one."""

    revision: str | None = None
    """Commit, tag or branch of a hub id. Unset: its main branch. Ignored for a folder."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs. `auto` takes CUDA if there is one."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weights' type. `auto`: bfloat16 on CUDA, float32 on a CPU."""

    threads: int = Field(default=1, ge=1)
    """CPU threads of one model step. More than the free cores makes it many times slower."""

    max_encode_batch: int = Field(default=8, ge=1)
    """Images encoded in one step."""

    max_pair_batch: int = Field(default=32, ge=1)
    """(image, query) pairs decoded in one step."""

    batch_wait_ms: float = Field(default=5.0, ge=0)
    """How long a step waits for company while requests arrive together; never when idle."""

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

    max_image_bytes: int = Field(default=32 * MiB, ge=1)
    """Largest encoded image."""

    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Largest decoded image, pixels; checked from its header before it is decoded."""

    decode_workers: int = Field(default=2, ge=1)
    """Threads that decode images."""

    mask_workers: int = Field(default=2, ge=1)
    """Threads that draw masks; each may take `mask_memory_bytes`."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """Requests a replica holds at once; Serve queues the rest."""

    max_queued_requests: int = Field(default=512, ge=-1)
    """Requests Serve may queue before a replica has room; loose, since each of its routers counts
    for itself, and refuses more than it should when exact. -1: no bound."""

    replica_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for a replica."""

    replica_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for a replica."""

    fake_delay_ms: float = Field(default=0.0, ge=0)
    """How long each step of the `fake` engine takes, for tests of queues."""
