"""What the gateway accepts: the limits of its settings, applied to values.

All that can be refused without decoding a pixel or asking a model is refused here. Every check
raises `InvalidRequest`, `InvalidMedia` or `TooLarge` at the path it is given.
"""

import re
from dataclasses import replace
from typing import Protocol

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.text import text_fault
from limelight.validation import check_query, check_selection, check_share
from limelight.values import ConceptQuery, ImageFormat, Plan, PlanOutcome, RenderKind, Selection
from services.codecs.images import ImageHeader
from services.gateway.settings import Settings
from services.gateway.tasks import RenderSpec

MAX_RENDERS = 4
MAX_PHRASE_CHARS = 200
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


class HeaderReader(Protocol):
    """Reads headers off the event loop (`services.gateway.pixels`)."""

    async def header(self, content: bytes, field: FieldPath, *, damaged: bool) -> ImageHeader:
        """Raises `InvalidMedia` or `TooLarge` at `field`."""


class TaskRules:
    """The rules for one image's task, by the limits of `settings`."""

    def __init__(self, settings: Settings, headers: HeaderReader) -> None:
        self._settings = settings
        self._headers = headers

    async def header(self, image: bytes, path: FieldPath, *, damaged: bool) -> ImageHeader:
        """The header of an image that can be decoded within the limits; with `damaged`, in part."""
        return await self._headers.header(image, path, damaged=damaged)

    def instruction(self, text: str, path: FieldPath) -> str:
        """The instruction without white space around it: INSTRUCTION_INVALID otherwise."""
        fault = text_fault(text, self._settings.max_instruction_chars)
        if fault is not None:
            raise InvalidRequest(Reason.INSTRUCTION_INVALID, f"the instruction {fault}", field=path)
        return text.strip()

    def explicit_plan(
        self,
        include: tuple[ConceptQuery, ...],
        exclude: tuple[ConceptQuery, ...],
        select: Selection | None,
        path: FieldPath,
    ) -> Plan:
        """The plan of a request that gives its queries itself."""
        if not include:
            raise InvalidRequest(
                Reason.TASK_MISSING, "at least one query is required", field=path / "include"
            )
        self.query_count(len(include) + len(exclude), path)
        for name, queries in (("include", include), ("exclude", exclude)):
            for index, query in enumerate(queries):
                check_query(
                    query,
                    path / name / index,
                    max_exemplars=self._settings.max_exemplars,
                    max_phrase_chars=MAX_PHRASE_CHARS,
                )
        if select is not None:
            check_selection(select, path / "select")
        return Plan(include, exclude, select, outcome=PlanOutcome.EXPLICIT)

    def query_count(self, count: int, path: FieldPath) -> None:
        """At most `Settings.max_queries`, `exclude` counted in: TOO_MANY_QUERIES otherwise."""
        if count > self._settings.max_queries:
            raise InvalidRequest(
                Reason.TOO_MANY_QUERIES,
                f"{count} queries; at most {self._settings.max_queries} per call",
                field=path,
            )

    def score_threshold(self, value: float | None, path: FieldPath) -> float:
        """The threshold, or the default for None."""
        if value is None:
            return self._settings.score_threshold
        check_share(value, "score_threshold", path)
        return value

    def max_instances(self, value: int, path: FieldPath) -> int:
        """The most instances to answer with; 0 means the server's limit."""
        limit = self._settings.max_instances
        if not 0 <= value <= limit:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"max_instances must be from 1 to {limit}, not {value}",
                field=path,
            )
        return value or limit

    def render_count(self, count: int, path: FieldPath) -> None:
        """At most `MAX_RENDERS` pictures per call."""
        if count > MAX_RENDERS:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"{count} renders; at most {MAX_RENDERS} per call",
                field=path,
            )

    async def render(self, spec: RenderSpec, path: FieldPath) -> RenderSpec:
        """A picture that can be drawn and encoded as it is asked for, its background's header
        read.
        """
        if spec.kind is RenderKind.CUTOUT and spec.format is ImageFormat.JPEG:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                "JPEG has no transparency; ask for a cut-out as PNG or WebP",
                field=path / "format",
            )
        if isinstance(spec.background, bytes):
            header = await self.header(
                spec.background,
                path / "background_image" / "content",
                damaged=spec.accept_damaged,
            )
            return replace(spec, header=header)
        if not _COLOR.fullmatch(spec.background):
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                "a color is written #rrggbb",
                field=path / "background_color",
            )
        return spec
