"""What the planner can be told from outside: environment variables `LIMELIGHT_PLANNER_*`."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

import services


class EngineName(StrEnum):
    """The engines there are (`services.planner.engines`)."""

    TRANSFORMERS = "transformers"
    FAKE = "fake"


def _shipped_checkpoint() -> str:
    """Sticker world's tiny Gemma 4, which comes with the package."""
    return str(Path(services.__path__[0]) / "stickers" / "checkpoints" / "sticker-gemma4")


class Settings(BaseSettings):
    """Read once at start and handed to whoever needs it."""

    model_config = SettingsConfigDict(
        env_prefix="LIMELIGHT_PLANNER_",
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    engine: EngineName = EngineName.TRANSFORMERS
    """What runs the model: `transformers`, or `fake` (rules, no weights)."""
    model: str = Field(default_factory=_shipped_checkpoint, min_length=1)
    """A checkpoint's folder, or a hub id such as `google/gemma-4-E2B-it`."""
    revision: str | None = None
    """The hub revision to load (branch, tag or commit). Unset: the newest."""
    device: str = "auto"
    """A torch device (`cpu`, `cuda:1`). `auto`: the first GPU, or the CPU where there is none."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The type of weights and activations. `auto`: as the checkpoint says; float32 on a CPU."""
    threads: int = Field(default=0, ge=0)
    """torch's CPU threads. 0: as torch itself decides."""
    max_new_tokens: int = Field(default=192, ge=8, le=4096)
    """Tokens an answer may have; a longer one is cut and then is no valid call."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0: always the likeliest token. Above: sampled; Gemma 4's authors use 1.0."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Sampling keeps the likeliest tokens up to this share of probability."""
    top_k: int = Field(default=64, ge=1)
    """Sampling keeps this many of the likeliest tokens."""
    max_soft_tokens: Literal[70, 140, 280, 560, 1120] | None = None
    """Tokens an image is turned into, at most. Unset: as the checkpoint's processor says."""
    feature_cache_bytes: int = Field(default=64 << 20, ge=0)
    """Memory for encoded images, which other instructions and attempts use again. 0: none."""

    max_batch: int = Field(default=8, ge=1)
    """Prompts the model answers together."""
    batch_wait_s: float = Field(default=0.005, ge=0.0, le=1.0)
    """How long a prompt waits for others to share its batch."""
    max_queue: int = Field(default=128, ge=1)
    """Prompts that may wait; more are refused as OVERLOADED."""
    decode_threads: int = Field(default=2, ge=1)
    """Threads that decode images and draw the pictures of a review."""

    plan_cache_bytes: int = Field(default=16 << 20, ge=0)
    """Memory for plans, by image, instruction and model revision. 0: none are kept."""
    plan_cache_ttl_s: float = Field(default=3600.0, gt=0.0)
    """How long a plan is kept."""

    max_instruction_chars: int = Field(default=1000, ge=1)
    """Characters an instruction may have."""
    max_candidates: int = Field(default=64, ge=1)
    """Candidates one review may have."""
    max_image_bytes: int = Field(default=32 << 20, ge=1)
    """Size of an encoded image, at most."""
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Pixels of an image, at most; read from its header before anything is decoded."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """Calls one replica works on at a time; Ray Serve keeps the rest from it."""
    replica_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for a replica."""
    replica_gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray reserves for a replica."""
    drain_s: float = Field(default=60.0, ge=0.0)
    """How long a replica that is being stopped may go on answering what it has begun."""
    fake_delay_s: float = Field(default=0.0, ge=0.0, le=60.0)
    """How long the `fake` engine takes for a batch."""
