"""The order of a plan's `select`: one definition, for execution and for the truths it is held to.

Positions are centroids in pixels (`limelight.masks.centroid`): the center of pixel (0, 0) is at
(0.5, 0.5), so the center of an image is at (width / 2, height / 2).
"""

import math

from limelight.values import SelectBy


def rank_key(
    by: SelectBy,
    *,
    position: tuple[float, float],
    area: int,
    score: float,
    width: int,
    height: int,
) -> float:
    """What instances are sorted by, least first, in an image of `width` x `height` pixels.

    Args:
        by: the order.
        position: (x, y) of the mask's centroid, pixels.
        area: of the mask, pixels.
        score: 0 to 1.
        width, height: of the image, pixels.
    """
    x, y = position
    match by:
        case SelectBy.LEFTMOST:
            return x
        case SelectBy.RIGHTMOST:
            return -x
        case SelectBy.TOPMOST:
            return y
        case SelectBy.BOTTOMMOST:
            return -y
        case SelectBy.LARGEST:
            return -area
        case SelectBy.SMALLEST:
            return area
        case SelectBy.NEAREST_CENTER:
            return math.dist(position, (width / 2, height / 2))
        case SelectBy.HIGHEST_SCORE:
            return -score
