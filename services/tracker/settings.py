"""What can be set about the tracker, read once at start from `LIMELIGHT_TRACKER_*`.

Free of torch and ray.
"""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.codecs.videos.limits import DEFAULT_VIDEO_LIMITS
from services.segmenter.video.settings import VideoSettings


class TrackerSettings(VideoSettings):
    """The tracker's settings; every field can be given as `LIMELIGHT_TRACKER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_TRACKER_")

    drain_s: float = Field(default=3600.0, ge=0)
    """How long a replica that is being stopped may go on with the sessions that it has. Shorter
    than the longest: what is left goes on at another replica."""

    frames_decoded_ahead: int = Field(default=4, ge=1)
    """Frames of a session that are decoded before they are tracked."""

    state_every_groups: int = Field(default=1, ge=0)
    """Groups of pictures after which the gateway is told what a session elsewhere would need to go
    on. 0: never, so that a stream does not outlive its replica."""

    state_every_frames: int = Field(default=10, ge=0)
    """The same for live frames. 0: never."""

    max_video_pixels: int = Field(default=DEFAULT_VIDEO_LIMITS.max_pixels, ge=1)
    """Largest frame of a video, pixels."""

    max_video_side: int = Field(default=DEFAULT_VIDEO_LIMITS.max_side, ge=1)
    """Longest side of a video's frames, pixels."""

    max_video_frames: int = Field(default=DEFAULT_VIDEO_LIMITS.max_frames, ge=1)
    """Most frames of a video."""

    max_video_seconds: float = Field(default=DEFAULT_VIDEO_LIMITS.max_seconds, gt=0)
    """Longest video."""
