"""A caller's request, checked and turned into a `Task`: the first step of the pipeline.

All that can be refused without decoding a pixel or asking a model is refused here.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar

from limelight.v1 import limelight_pb2, media_pb2
from services.codecs.images import ImageHeader, ImageLimits, probe
from services.domain import ConceptQuery, Plan, PlanOutcome
from services.errors import InvalidRequest, Reason
from services.gateway.settings import Settings
from services.rpc.convert import queries_from_proto, selection_from_proto

MAX_RENDERS = 4
MAX_PHRASE_CHARS = 200
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class MaskFormat(StrEnum):
    """How an answer's masks are written."""

    RLE = "rle"
    PNG = "png"
    POLYGONS = "polygons"
    NONE = "none"


class ReviewMode(StrEnum):
    """Whether candidates are reviewed: as the plan says, always, or never."""

    PLAN = "plan"
    ALWAYS = "always"
    NEVER = "never"


class RenderKind(StrEnum):
    """A picture made from an answer."""

    OVERLAY = "overlay"
    SPOTLIGHT = "spotlight"
    CUTOUT = "cutout"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """One picture: `format` is png, jpeg or webp; `background` a "#rrggbb" or an encoded image."""

    kind: RenderKind
    format: Literal["png", "jpeg", "webp"]
    background: str | bytes = "#ffffff"


@dataclass(frozen=True, slots=True)
class Task:
    """A checked request. Exactly one of `instruction` and `plan` is set."""

    image: bytes
    header: ImageHeader
    instruction: str | None
    plan: Plan | None
    score_threshold: float
    max_instances: int
    mask_format: MaskFormat
    review: ReviewMode
    renders: tuple[RenderSpec, ...]

    @property
    def size_bytes(self) -> int:
        """Image bytes the request holds for as long as it lives."""
        backgrounds = (r.background for r in self.renders if isinstance(r.background, bytes))
        return len(self.image) + sum(map(len, backgrounds))


class TaskReader:
    """Turns `SegmentTask` messages into tasks, by the limits of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.image_limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )

    def read(self, task: limelight_pb2.SegmentTask) -> Task:
        """Check everything that can be checked now.

        Raises `InvalidRequest`, `InvalidMedia` or `TooLarge`, each naming its field.
        """
        instruction, plan = self._want(task)
        return Task(
            image=task.image.content,
            header=probe(task.image.content, self.image_limits, field="task.image.content"),
            instruction=instruction,
            plan=plan,
            score_threshold=self._score_threshold(task),
            max_instances=self._max_instances(task),
            mask_format=_enum(
                MaskFormat,
                media_pb2.MaskFormat,
                task.mask_format,
                "task.mask_format",
                MaskFormat.RLE,
            ),
            review=_enum(
                ReviewMode, limelight_pb2.ReviewMode, task.review, "task.review", ReviewMode.PLAN
            ),
            renders=self._renders(task),
        )

    def _want(self, task: limelight_pb2.SegmentTask) -> tuple[str | None, Plan | None]:
        match task.WhichOneof("want"):
            case "instruction":
                return self._instruction(task.instruction), None
            case "queries":
                return None, self._explicit_plan(task.queries)
        raise InvalidRequest(
            Reason.TASK_MISSING, "say what is wanted: an instruction or queries", field="task.want"
        )

    def _instruction(self, text: str) -> str:
        limit = self._settings.max_instruction_chars
        fault = _text_fault(text, limit)
        if fault is not None:
            raise InvalidRequest(
                Reason.INSTRUCTION_INVALID, f"the instruction {fault}", field="task.instruction"
            )
        return text.strip()

    def _explicit_plan(self, queries: limelight_pb2.ConceptQueries) -> Plan:
        total = len(queries.include) + len(queries.exclude)
        if not queries.include:
            raise InvalidRequest(
                Reason.TASK_MISSING, "queries need at least one", field="task.queries.include"
            )
        if total > self._settings.max_queries:
            raise InvalidRequest(
                Reason.TOO_MANY_QUERIES,
                f"{total} queries; one call may ask {self._settings.max_queries}",
                field="task.queries",
            )
        include = queries_from_proto(queries.include, "task.queries.include")
        exclude = queries_from_proto(queries.exclude, "task.queries.exclude")
        for name, group in (("include", include), ("exclude", exclude)):
            for i, query in enumerate(group):
                self._check_query(query, f"task.queries.{name}[{i}]")
        select = None
        if queries.HasField("select"):
            select = selection_from_proto(queries.select, "task.queries.select")
        return Plan(include, exclude, select, outcome=PlanOutcome.EXPLICIT)

    def _check_query(self, query: ConceptQuery, field: str) -> None:
        if not query.phrase and not query.exemplars:
            raise InvalidRequest(
                Reason.QUERY_INVALID, "a query needs a phrase or an exemplar", field=field
            )
        if query.phrase:
            fault = _text_fault(query.phrase, MAX_PHRASE_CHARS)
            if fault is not None:
                raise InvalidRequest(
                    Reason.PHRASE_INVALID, f"the phrase {fault}", field=f"{field}.phrase"
                )
        if len(query.exemplars) > self._settings.max_exemplars:
            raise InvalidRequest(
                Reason.QUERY_INVALID,
                f"{len(query.exemplars)} exemplars; a query may have "
                f"{self._settings.max_exemplars}",
                field=f"{field}.exemplars",
            )

    def _score_threshold(self, task: limelight_pb2.SegmentTask) -> float:
        if not task.HasField("score_threshold"):
            return self._settings.score_threshold
        value = task.score_threshold
        if math.isnan(value) or not 0 <= value <= 1:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"score_threshold must be from 0 to 1, not {value:g}",
                field="task.score_threshold",
            )
        return value

    def _max_instances(self, task: limelight_pb2.SegmentTask) -> int:
        limit = self._settings.max_instances
        if not 0 <= task.max_instances <= limit:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"max_instances must be from 1 to {limit}, not {task.max_instances}",
                field="task.max_instances",
            )
        return task.max_instances or limit

    def _renders(self, task: limelight_pb2.SegmentTask) -> tuple[RenderSpec, ...]:
        if len(task.renders) > MAX_RENDERS:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"{len(task.renders)} renders; a call may ask {MAX_RENDERS}",
                field="task.renders",
            )
        return tuple(
            self._render(spec, f"task.renders[{i}]") for i, spec in enumerate(task.renders)
        )

    def _render(self, spec: limelight_pb2.RenderSpec, field: str) -> RenderSpec:
        kind = _enum(RenderKind, limelight_pb2.RenderKind, spec.kind, f"{field}.kind", None)
        image_format: Literal["png", "jpeg", "webp"]
        match spec.format:
            case limelight_pb2.IMAGE_FORMAT_UNSPECIFIED | limelight_pb2.IMAGE_FORMAT_PNG:
                image_format = "png"
            case limelight_pb2.IMAGE_FORMAT_JPEG:
                image_format = "jpeg"
            case limelight_pb2.IMAGE_FORMAT_WEBP:
                image_format = "webp"
            case unknown:
                raise InvalidRequest(
                    Reason.OPTION_INVALID, f"unknown format {unknown}", field=f"{field}.format"
                )
        if kind is RenderKind.CUTOUT and image_format == "jpeg":
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                "JPEG has no transparency; ask a cut-out as PNG or WebP",
                field=f"{field}.format",
            )
        background: str | bytes = "#ffffff"
        match spec.WhichOneof("background"):
            case "background_color":
                background = spec.background_color
                if not _COLOR.fullmatch(background):
                    raise InvalidRequest(
                        Reason.OPTION_INVALID,
                        "a colour is written #rrggbb",
                        field=f"{field}.background_color",
                    )
            case "background_image":
                background = spec.background_image.content
                probe(background, self.image_limits, field=f"{field}.background_image.content")
        return RenderSpec(kind, image_format, background)


E = TypeVar("E", bound=StrEnum)


def _enum(kind: type[E], enum_type: Any, number: int, field: str, unset: E | None) -> E:
    """The member of the StrEnum `kind` for a proto enum's number; 0 gives `unset`."""
    if number == 0 and unset is not None:
        return unset
    if number in enum_type.values():
        name = enum_type.Name(number).removeprefix(_prefix(enum_type.DESCRIPTOR.name))
        if name in kind.__members__:
            return kind[name]
    raise InvalidRequest(Reason.OPTION_INVALID, f"unknown value {number}", field=field)


def _prefix(enum_name: str) -> str:
    """`MASK_FORMAT_` for `MaskFormat`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum_name).upper() + "_"


def _text_fault(text: str, limit: int) -> str | None:
    """What is wrong with a caller's text, as the end of a sentence; None if nothing is."""
    if not text.strip():
        return "is empty"
    if len(text) > limit:
        return f"has {len(text)} characters; the limit is {limit}"
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn") and char not in "\n\t":
            return f"holds the character U+{ord(char):04X}, which is no text"
    return None
