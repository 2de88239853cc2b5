"""One way to map enums: every member has a number, and unknown numbers are handled as asked."""

from enum import StrEnum

import pytest

from limelight.convert import enums
from limelight.convert.enums import EnumCodec
from limelight.faults import InvalidRequest
from limelight.paths import FieldPath
from limelight.v1 import plan_pb2
from limelight.values import MaskFormat, PlanOutcome, SelectBy

CODECS = [value for value in vars(enums).values() if isinstance(value, EnumCodec)]


def test_every_codec_is_a_bijection_but_for_zero() -> None:
    assert len(CODECS) == 8
    for codec in CODECS:
        for member in codec._number:
            assert codec.from_proto(codec.to_proto(member), FieldPath()) is member


def test_zero_is_the_default_or_refused() -> None:
    assert enums.MASK_FORMAT.from_proto(0, FieldPath()) is MaskFormat.RLE
    with pytest.raises(InvalidRequest) as caught:
        enums.SELECT_BY.from_proto(0, FieldPath(("by",)))
    assert str(caught.value.field) == "by"


def test_a_number_of_a_newer_server() -> None:
    assert enums.PLAN_OUTCOME.from_newer(99, PlanOutcome.OK) is PlanOutcome.OK
    assert enums.SELECT_BY.from_newer(1, SelectBy.LARGEST) is SelectBy.LEFTMOST


def test_enums_that_differ_are_noticed_at_import() -> None:
    class Fewer(StrEnum):
        LEFTMOST = "leftmost"

    class More(StrEnum):
        OK = "ok"
        LOST = "lost"

    with pytest.raises(ValueError, match="Fewer and SelectBy differ"):
        EnumCodec(Fewer, plan_pb2.SelectBy)
    with pytest.raises(ValueError, match="More and PlanOutcome differ"):
        EnumCodec(More, plan_pb2.PlanOutcome)
