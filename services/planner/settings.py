"""What the planner can be told from outside: environment variables `LIMELIGHT_PLANNER_*`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.planner.engines import ENGINES
from services.replica.engines import check_name
from services.replica.settings import MiB, ReplicaSettings

# The tiny checkpoint of sticker world, part of this package.
SHIPPED = Path(__file__).parent / "checkpoints" / "sticker-gemma4"


class PlannerSettings(ReplicaSettings):
    """The planner's settings; every field can be given as `LIMELIGHT_PLANNER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_PLANNER_")

    engine: Annotated[str, AfterValidator(lambda name: check_name(name, ENGINES))] = "transformers"
    """What runs the model: `transformers`, or `fake` (rules, no weights)."""
    model: str = Field(str(SHIPPED), min_length=1)
    """A checkpoint's folder, or a hub id such as `google/gemma-4-E2B-it`."""
    threads: int = Field(default=0, ge=0)
    """torch's CPU threads. 0: as torch itself decides."""
    max_new_tokens: int = Field(default=192, ge=8, le=4096)
    """Tokens an answer may have; a longer one is cut, and then is not a valid call."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0: always the likeliest token. Above: sampled; Gemma 4's authors use 1.0."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Sampling keeps the likeliest tokens up to this share of probability."""
    top_k: int = Field(default=64, ge=1)
    """Sampling keeps this many of the likeliest tokens."""
    max_soft_tokens: Literal[70, 140, 280, 560, 1120] | None = None
    """Tokens an image is turned into, at most. Unset: as the checkpoint's processor says."""
    feature_cache_bytes: int = Field(default=64 * MiB, ge=0)
    """Bound on cached image features, which other instructions and attempts use again. 0: none."""

    max_batch_prompts: int = Field(default=8, ge=1)
    """Prompts the model answers together."""
    max_queued_prompts: int = Field(default=128, ge=1)
    """Prompts that may wait; more are refused with a time to come again."""

    plan_cache_bytes: int = Field(default=16 * MiB, ge=0)
    """Bound on cached plans, by image, instruction and model revision. 0: no cache."""
    plan_cache_ttl_s: float = Field(default=3600.0, gt=0.0)
    """How long a plan is kept."""

    max_instruction_chars: int = Field(default=1000, ge=1)
    """Characters an instruction may have."""
    max_candidates: int = Field(default=64, ge=1)
    """Candidates one review may have."""
