"""A clip as a strip of frames with the ids of its objects, for a person to look at."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limelight.masks import Mask
from services.codecs.render import overlay
from training.world.clips import AnyClip, ClipFrame

_GAP = 4  # pixels between the frames
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def strip(
    clip: AnyClip,
    count: int = 12,
    columns: int = 6,
    answers: Sequence[Mapping[int, Mask]] | None = None,
) -> NDArray[np.uint8]:
    """Evenly spaced frames of a clip side by side, each object in the color of its id.

    Args:
        clip: of either renderer.
        count: how many frames at most; the first and the last are among them.
        columns: frames in a row.
        answers: masks by id, one mapping a frame of the clip, to draw in place of the truth.

    Returns:
        uint8 ``[h, w, 3]``, RGB.
    """
    chosen = np.unique(np.linspace(0, clip.frame_count - 1, count).round().astype(int)).tolist()
    pictures = [
        _picture(frame, frame.masks if answers is None else answers[frame.index], clip.cuts)
        for frame in clip.frames(chosen)
    ]
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    extent = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
    sheet = Image.new("RGB", extent, _PAPER)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet.paste(Image.fromarray(picture), (column * (width + _GAP), row * (height + _GAP)))
    return np.asarray(sheet)


def stacked(sheets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Sheets one below the other, each from the left edge on; uint8 ``[h, w, 3]``, RGB."""
    width = max(sheet.shape[1] for sheet in sheets)
    padded = [
        np.pad(
            sheet,
            ((0, _GAP), (0, width - sheet.shape[1]), (0, 0)),
            constant_values=_PAPER[0],
        )
        for sheet in sheets
    ]
    return np.concatenate(padded)


def _picture(frame: ClipFrame, masks: Mapping[int, Mask], cuts: Sequence[int]) -> NDArray[np.uint8]:
    """One frame with its masks and ids; its index and time above it, and the shot where it is not
    the first; an id in brackets is of a "don't care" object."""
    numbers = list(masks)
    labels = [f"({id})" if id in frame.dont_care else str(id) for id in numbers]
    drawn = overlay(frame.image, [masks[id] for id in numbers], labels, ids=numbers)
    size = max(10, frame.size[1] // 18)
    picture = Image.new("RGB", (frame.size[0], frame.size[1] + size + 4), _PAPER)
    picture.paste(Image.fromarray(drawn), (0, size + 4))
    shot = sum(cut <= frame.index for cut in cuts)
    text = f"{frame.index}  {frame.time_s:.2f} s" + (f"  shot {shot + 1}" if shot else "")
    ImageDraw.Draw(picture).text((2, 1), text, fill=_INK, font=ImageFont.load_default(size))
    return np.asarray(picture)
