import numpy as np

from training.evaluation.clip_sheet import strip
from training.world.clips import ClipWorld


def test_a_strip_shows_the_frames_and_their_masks() -> None:
    clip = ClipWorld().clip(3, size=(160, 120), frame_count=20)
    sheet = strip(clip, count=5, columns=3)
    # Two rows of three frames, each with a line of text above it.
    assert sheet.shape[1] == 3 * 160 + 2 * 4
    assert sheet.shape[0] > 2 * 120
    frames = list(clip.frames())
    first = frames[0]
    drawn = sheet[14:134, :160].astype(int)
    shown = np.any(list(first.masks.values()), axis=0)
    changed = np.abs(drawn - first.image).sum(-1) > 0
    assert changed[shown].mean() > 0.9
    none = strip(clip, count=5, columns=3, answers=[{} for _ in frames])
    np.testing.assert_array_equal(none[14:134, :160], first.image)
