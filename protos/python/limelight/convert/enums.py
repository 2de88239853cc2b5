"""One way from a `StrEnum` to an enum of the contract and back."""

import re
from enum import StrEnum
from typing import Any, Generic, TypeVar

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, media_pb2, plan_pb2, review_pb2, video_pb2
from limelight.values import (
    ImageFormat,
    MaskFormat,
    PlanCause,
    PlanOutcome,
    RenderKind,
    ReviewMode,
    SelectBy,
    VerdictKind,
)

E = TypeVar("E", bound=StrEnum)


class EnumCodec(Generic[E]):
    """Maps the members of `kind` to the values of `proto` with the same names.

    Args:
        kind: the StrEnum.
        proto: the generated enum, whose values are `<ENUM_NAME>_<MEMBER>`.
        unspecified: the member that the value 0 stands for; None where 0 is refused.

    Raises:
        ValueError: the two do not have the same members.
    """

    def __init__(self, kind: type[E], proto: Any, *, unspecified: E | None = None) -> None:
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", proto.DESCRIPTOR.name).upper()
        self._number = {
            member: proto.Value(f"{words}_{member.name}")
            for member in kind
            if f"{words}_{member.name}" in proto.keys()  # noqa: SIM118 (a wrapper, not a dict)
        }
        self._member: dict[int, E] = {number: member for member, number in self._number.items()}
        if unspecified is not None:
            self._number.setdefault(unspecified, 0)
            self._member[0] = unspecified
        known = {number for number in proto.values() if number or unspecified is not None}
        if set(self._number) != set(kind) or set(self._member) != known:
            raise ValueError(f"{kind.__name__} and {proto.DESCRIPTOR.name} differ")

    def to_proto(self, member: E) -> Any:
        """The number of `member`."""
        return self._number[member]

    def from_proto(self, number: int, path: FieldPath) -> E:
        """The member of `number`; `InvalidRequest` (OPTION_INVALID) at `path` if there is none."""
        if number not in self._member:
            raise InvalidRequest(Reason.OPTION_INVALID, f"unknown value {number}", field=path)
        return self._member[number]

    def from_newer(self, number: int, default: E) -> E:
        """The member of `number`, or `default` for one that only a newer server knows."""
        return self._member.get(number, default)


IMAGE_FORMAT = EnumCodec(ImageFormat, limelight_pb2.ImageFormat, unspecified=ImageFormat.PNG)
MASK_FORMAT = EnumCodec(MaskFormat, media_pb2.MaskFormat, unspecified=MaskFormat.RLE)
PLAN_CAUSE = EnumCodec(PlanCause, video_pb2.PlanCause)
PLAN_OUTCOME = EnumCodec(PlanOutcome, plan_pb2.PlanOutcome)
RENDER_KIND = EnumCodec(RenderKind, limelight_pb2.RenderKind)
REVIEW_MODE = EnumCodec(ReviewMode, review_pb2.ReviewMode, unspecified=ReviewMode.PLAN)
SELECT_BY = EnumCodec(SelectBy, plan_pb2.SelectBy)
VERDICT = EnumCodec(VerdictKind, review_pb2.Verdict, unspecified=VerdictKind.UNREVIEWED)
