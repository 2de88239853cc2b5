"""Object pointers of small trackers, whose memory is as wide as their features.

transformers' `Sam3TrackerVideoModel` gives pointers the shape (batch, 1, channels) and drops the
middle axis only where it splits them, which it does where memory is narrower than the features.
Where both are equal (the tiny checkpoint), joining pointers and memories fails. The trainer and the
engine call `install_object_pointers` once before the first frame; facebook/sam3 is not affected.
"""

import functools
import importlib
from typing import Any

_MARK = "_limelight_flattens_pointers"


def install_object_pointers() -> None:
    """Let trackers of transformers join pointers as wide as their memory. Idempotent."""
    name = "transformers.models.sam3_tracker_video.modeling_sam3_tracker_video"
    model = importlib.import_module(name).Sam3TrackerVideoModel
    process = model._process_object_pointers
    if hasattr(process, _MARK):
        return

    @functools.wraps(process)
    def flattened(
        self: Any, temporal_offsets: Any, pointer_tokens: Any, *rest: Any, **named: Any
    ) -> Any:
        tokens = [token.reshape(-1, token.shape[-1]) for token in pointer_tokens]
        return process(self, temporal_offsets, tokens, *rest, **named)

    setattr(flattened, _MARK, True)
    model._process_object_pointers = flattened
