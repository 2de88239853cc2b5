"""`services.codecs.videos.selection`: what is asked for must make sense."""

import pytest

from limelight.paths import FieldPath
from services.codecs.videos.selection import EVERY_FRAME, FrameSelection
from services.errors import InvalidRequest, Reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start_s", -0.1),
        ("start_s", float("nan")),
        ("start_s", float("inf")),
        ("end_s", 0.0),
        ("end_s", float("nan")),
        ("stride", 0),
        ("stride", 10_001),
        ("max_side", 15),
        ("max_side", -1),
        ("max_side", 8193),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        FrameSelection(**{name: value}).check(FieldPath(("config",)))
    assert caught.value.reason is Reason.OPTION_INVALID
    assert str(caught.value.field) == f"config.{name}"


def test_sound_selections_pass() -> None:
    for selection in (EVERY_FRAME, FrameSelection(1.0, 2.0, 3, 640)):
        selection.check(FieldPath())


def test_the_end_is_left_out_and_the_stride_counts_from_frame_0() -> None:
    selection = FrameSelection(1.0, 2.0, 3)
    assert [i for i in range(30) if selection.has(i, i / 10)] == [12, 15, 18]
    assert [selection.is_past(s) for s in (1.9, 2.0, 2.1)] == [False, True, True]
    assert not EVERY_FRAME.is_past(1e9)
