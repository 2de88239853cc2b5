"""Where a request has what: the paths that refusals name."""

from limelight.paths import FieldPath

TASK = FieldPath(("task",))
IMAGE = TASK / "image" / "content"
INSTRUCTION = TASK / "instruction"
QUERIES = TASK / "queries"
RENDERS = TASK / "renders"
MASK_FORMAT = TASK / "mask_format"


def background(index: int) -> FieldPath:
    """The image behind what the render `index` shows."""
    return RENDERS / index / "background_image" / "content"
