"""A strip shows the frames that were asked for, and answers in place of the truth."""

import numpy as np

from training.evaluation.clip_sheet import strip
from training.world.clips import ClipWorld


def test_frames_side_by_side_with_their_ids() -> None:
    clip = ClipWorld().clip(3, size=(160, 120), frame_count=20)
    sheet = strip(clip, count=5, columns=3)
    assert sheet.shape[1] == 3 * 164 - 4
    assert sheet.shape[0] > 2 * 120
    nothing = strip(clip, count=5, columns=3, answers=[{} for _ in range(20)])
    assert sheet.shape == nothing.shape
    assert not np.array_equal(sheet, nothing)
