"""What can be set about video sessions, read once at start from `LIMELIGHT_VIDEO_*`.

Free of torch and ray.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.replica.engines import check_name
from services.replica.settings import MiB
from services.segmenter.settings import SegmenterSettings
from services.segmenter.video.engine import VIDEO_ENGINES

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "sticker-sam3-video"
"""The tiny checkpoint, which tracks sticker world."""


class VideoSettings(SegmenterSettings):
    """The settings of video sessions; every field can be given as `LIMELIGHT_VIDEO_<FIELD>`.

    Those of `SegmenterSettings` mean the same here: images are frames, instances are objects.
    """

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_VIDEO_")

    engine: Annotated[str, AfterValidator(lambda name: check_name(name, VIDEO_ENGINES))] = (
        "transformers"
    )
    """What tracks: `transformers`, or `fake` (color words, no weights)."""

    model: str = str(SHIPPED)
    """The checkpoint of a `Sam3VideoModel`: a folder, or a hub id such as `facebook/sam3`."""

    follow_motion: bool | None = None
    """Whether ids go by how objects move and look as well as by their masks, so that look-alikes
    keep theirs when they cross; `Sam3VideoModel` goes by masks alone. By default as `follow_motion`
    in the checkpoint's config.json says, and where it says nothing, not."""

    max_sessions: int = Field(default=8, ge=1)
    """Sessions a replica holds at once; one more is refused with a time to come again."""

    session_memory_bytes: int = Field(default=2048 * MiB, ge=1)
    """Bound on what all sessions may come to hold; a session whose most would not fit is refused
    with a time to come again, or for good if it would not fit alone."""

    max_objects: int = Field(default=64, ge=1)
    """Most objects a session tracks at once; the best are kept and the others told."""

    lost_frames: int = Field(default=150, ge=0)
    """Where a session is full, an object that no detection matched for more frames than this makes
    room for a new one."""

    max_prompts: int = Field(default=256, ge=1)
    """Most phrases and prompted objects that a session may be given in all."""

    max_clicks: int = Field(default=32, ge=1)
    """Most points that a prompted object may have."""

    idle_timeout_s: float = Field(default=30.0, gt=0)
    """A session that is sent no frame for so long is closed and its place is free."""

    max_frames_ahead: int = Field(default=4, ge=1)
    """Frames of one session that may be under way; the next is encoded while one is tracked."""

    max_batch_objects: int = Field(default=32, ge=1)
    """Objects tracked in one step, of one session or of several."""

    max_queued_objects: int = Field(default=1024, ge=1)
    """Objects that may wait for the tracker; more are refused with a time to come again."""
