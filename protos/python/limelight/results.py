"""What the service answered, as frozen values of Python: the last step of a call.

Masks stay as they came over the wire until they are looked at. Coordinates are pixels of the image
as a viewer shows it, origin top left, boxes half-open.
"""

from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limelight import png
from limelight.convert.answers import model_from_proto, outcome_from_proto, timings_from_proto
from limelight.convert.enums import IMAGE_FORMAT, RENDER_KIND, VERDICT
from limelight.convert.media import box_from_proto, rle_from_proto
from limelight.convert.plans import plan_from_proto
from limelight.masks import decode_rle, encode_rle
from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, media_pb2
from limelight.values import (
    RLE,
    Box,
    ConceptQuery,
    ModelInfo,
    Plan,
    PlanOutcome,
    QueryOutcome,
    VerdictKind,
)

_RENDERINGS = FieldPath(("result", "renderings"))


@dataclass(frozen=True, kw_only=True)
class MaskedArea:
    """What has a box and a mask in a picture or a frame.

    Attributes:
        box: the tight box of the mask.
        area: pixels in the mask.
        size: (height, width) of the picture.
    """

    box: Box
    area: int
    size: tuple[int, int]
    _mask: media_pb2.Mask = field(repr=False, compare=False)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The exact pixels: bool ``[h, w]`` of the whole image, read-only, decoded once.

        Raises:
            ValueError: the request asked for no masks.
        """
        match self._mask.WhichOneof("kind"):
            case "rle":
                mask = decode_rle(rle_from_proto(self._mask.rle))
            case "png":
                mask = png.decode_mask(self._mask.png)
            case "polygons":
                mask = _filled(self._mask.polygons, self.size)
            case _:
                raise ValueError("the request asked for no masks")
        mask.setflags(write=False)
        return mask

    @property
    def has_mask(self) -> bool:
        """Whether the answer holds the mask."""
        return self._mask.WhichOneof("kind") is not None

    @property
    def polygons(self) -> list[NDArray[np.float32]]:
        """The boundaries, each ``[n, 2]`` of x, y; only if the request asked for polygons."""
        return [
            np.asarray(polygon.coordinates, np.float32).reshape(-1, 2)
            for polygon in self._mask.polygons.polygons
        ]

    @property
    def rle(self) -> RLE:
        """The mask as COCO compressed run lengths, whatever format it came in."""
        if self._mask.WhichOneof("kind") == "rle":
            return rle_from_proto(self._mask.rle)
        return encode_rle(self.mask)

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The instance cut out of its image (``[h, w, 3]``): RGBA of its box's size.

        Raises:
            ValueError: the image has another size than the answer, or no colors.
        """
        if image.ndim != 3 or image.shape[:2] != self.size or image.shape[2] < 3:
            raise ValueError(
                f"the image must be [{self.size[0]}, {self.size[1]}, 3] as the answer's, "
                f"not {list(image.shape)}"
            )
        x0, y0, x1, y1 = (
            int(side) for side in (self.box.x0, self.box.y0, self.box.x1, self.box.y1)
        )
        alpha = np.where(self.mask[y0:y1, x0:x1], 255, 0).astype(np.uint8)
        return np.dstack((image[y0:y1, x0:x1, :3], alpha))

    def save_mask(self, path: str | PathLike[str]) -> Path:
        """Write the mask as a black and white PNG of the image's size.

        Raises:
            ValueError: the path ends in another format's suffix.
        """
        path = Path(path)
        if path.suffix.lower() not in ("", ".png"):
            raise ValueError(f"a mask is saved as .png, not {path.suffix}")
        path.write_bytes(png.encode_mask(self.mask))
        return path

    def mask_dict(self) -> dict[str, Any]:
        """`{"mask": …}` as pycocotools reads it, for JSON; nothing without a mask."""
        if not self.has_mask:
            return {}
        rle = self.rle
        return {"mask": {"size": list(rle.size), "counts": rle.counts.decode("ascii")}}


@dataclass(frozen=True, kw_only=True)
class Instance(MaskedArea):
    """One thing that was found.

    Attributes:
        id: its number in this answer, from 1.
        label: what to call it: the phrase it was found by, or "exemplar".
        phrase: the phrase of its query; empty for one found by exemplars alone.
        score: 0 to 1, presence counted in.
        presence: 0 to 1, how sure the segmenter is that the concept is in the image at all.
        query: index of its query in the plan, `include` first.
        verdict: what the review said, with `verdict_reason`.
    """

    id: int
    label: str
    phrase: str
    score: float
    presence: float
    query: int
    verdict: VerdictKind
    verdict_reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the mask as pycocotools reads it."""
        values: dict[str, Any] = {
            "id": self.id,
            "label": self.label,
            "phrase": self.phrase,
            "score": round(self.score, 6),
            "presence": round(self.presence, 6),
            "box": box_list(self.box),
            "area": self.area,
        }
        if self.verdict is not VerdictKind.UNREVIEWED:
            values["verdict"] = {"kind": self.verdict.value, "reason": self.verdict_reason}
        return {**values, **self.mask_dict()}


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture made from the answer: the bytes of a file of `format` (png, jpeg or webp)."""

    kind: str
    format: str
    content: bytes = field(repr=False)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the file as it is; its suffix is not looked at."""
        Path(path).write_bytes(self.content)
        return Path(path)


@dataclass(frozen=True)
class Segmentation:
    """The whole answer for one image.

    Attributes:
        request_id: finds the call in the service's logs.
        width, height: of the image as a viewer shows it, pixels.
        plan: what was done.
        instances: what was found, in the plan's order, or else best scores first.
        queries: what became of each query, `include` first.
        summary: one sentence for a person.
        renderings: the pictures that were asked for, in that order.
        timings_ms: milliseconds of each stage.
        models: the models that took part.
        warnings: what is not as it should be about the answer, a sentence each: an image that lost
            pixels and was taken, a label drawn by the numbers of its characters.
    """

    request_id: str
    width: int
    height: int
    plan: Plan
    instances: tuple[Instance, ...]
    queries: tuple[QueryOutcome, ...]
    summary: str
    renderings: tuple[Rendering, ...]
    timings_ms: dict[str, float]
    models: tuple[ModelInfo, ...]
    warnings: tuple[str, ...] = ()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of all instances together: bool ``[h, w]``, read-only."""
        mask = np.zeros((self.height, self.width), np.bool_)
        for instance in self.instances:
            mask |= instance.mask
        mask.setflags(write=False)
        return mask

    def rendering(self, kind: str) -> Rendering:
        """The first rendering of that kind; `KeyError` if none was asked for."""
        for rendering in self.renderings:
            if rendering.kind == kind:
                return rendering
        raise KeyError(f"the answer holds no {kind}")

    def save_masks(self, folder: str | PathLike[str]) -> tuple[Path, ...]:
        """Write each mask as `<id>-<label>.png` into a folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return tuple(
            instance.save_mask(Path(folder) / f"{instance.id:03d}-{_file_word(instance.label)}.png")
            for instance in self.instances
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a result line of `limelight batch` without its own `id`."""
        return {
            "width": self.width,
            "height": self.height,
            "plan": plan_dict(self.plan),
            "instances": [instance.to_dict() for instance in self.instances],
            "queries": [
                {
                    "phrase": query.phrase,
                    "presence": round(query.presence, 6),
                    "found": query.found,
                }
                for query in self.queries
            ],
            "summary": self.summary,
            "warnings": list(self.warnings),
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
            "models": [model_dict(model) for model in self.models],
            "request_id": self.request_id,
        }


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The plan, as soon as it is made."""

    request_id: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class CandidatesFound:
    """What the segmenter found, before exclusion, selection and review."""

    instances: tuple[Instance, ...]
    queries: tuple[QueryOutcome, ...]


@dataclass(frozen=True, slots=True)
class CandidateVerdict:
    """The planner's word on the candidate `id`."""

    id: int
    verdict: VerdictKind
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer, the same as `segment` gives; always the last event."""

    segmentation: Segmentation


Event: TypeAlias = PlanMade | CandidatesFound | CandidateVerdict | Done


def segmentation_from_proto(result: limelight_pb2.SegmentResult) -> Segmentation:
    """The answer of a call."""
    return Segmentation(
        request_id=result.request_id,
        width=result.width,
        height=result.height,
        plan=plan_from_proto(result.plan),
        instances=_instances(result.instances, (result.height, result.width)),
        queries=_outcomes(result.queries),
        summary=result.summary,
        renderings=tuple(
            Rendering(
                RENDER_KIND.from_proto(rendering.kind, _RENDERINGS / index / "kind"),
                IMAGE_FORMAT.from_proto(rendering.format, _RENDERINGS / index / "format"),
                rendering.content,
            )
            for index, rendering in enumerate(result.renderings)
        ),
        timings_ms=timings_from_proto(result.timings),
        models=tuple(model_from_proto(model) for model in result.models),
        warnings=tuple(result.warnings),
    )


def event_from_proto(response: limelight_pb2.SegmentStreamResponse) -> Event | None:
    """The event of a stream's message; None for a kind that this client does not know yet."""
    match response.WhichOneof("event"):
        case "plan":
            return PlanMade(response.plan.request_id, plan_from_proto(response.plan.plan))
        case "candidates":
            found = response.candidates
            return CandidatesFound(_instances(found.instances, None), _outcomes(found.queries))
        case "verdict":
            verdict = response.verdict
            kind = VERDICT.from_newer(verdict.verdict, VerdictKind.UNREVIEWED)
            return CandidateVerdict(verdict.id, kind, verdict.reason)
        case "done":
            return Done(segmentation_from_proto(response.done))
    return None


def _instances(instances: Any, size: tuple[int, int] | None) -> tuple[Instance, ...]:
    return tuple(
        Instance(
            id=item.id,
            label=item.label,
            phrase=item.phrase,
            score=item.score,
            presence=item.presence,
            box=box_from_proto(item.box),
            area=item.area,
            query=item.provenance.query,
            verdict=VERDICT.from_newer(item.provenance.verdict, VerdictKind.UNREVIEWED),
            verdict_reason=item.provenance.verdict_reason,
            size=size or (item.mask.rle.height, item.mask.rle.width),
            _mask=item.mask,
        )
        for item in instances
    )


def _outcomes(outcomes: Any) -> tuple[QueryOutcome, ...]:
    return tuple(map(outcome_from_proto, outcomes))


def _filled(polygons: media_pb2.Polygons, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask inside pixel-corner polygons by the even-odd rule.

    Every vertical edge at x flips all pixels of its rows from column x on; a running parity along
    each row is then the mask.
    """
    flips = np.zeros((size[0], size[1] + 1), np.bool_)
    for polygon in polygons.polygons:
        points = np.asarray(polygon.coordinates, np.int64).reshape(-1, 2)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if x0 == x1:
                flips[min(y0, y1) : max(y0, y1), x0] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :-1].copy()


def plan_dict(plan: Plan) -> dict[str, Any]:
    """Plain values for JSON."""
    values: dict[str, Any] = {
        "include": [_query_dict(query) for query in plan.include],
        "exclude": [_query_dict(query) for query in plan.exclude],
        "select": None,
        "review": plan.review,
        "reason": plan.reason,
        "outcome": plan.outcome.value,
        "degraded": plan.outcome is PlanOutcome.DEGRADED,
    }
    if plan.select is not None:
        select = plan.select
        values["select"] = {"by": select.by.value, "rank": select.rank, "count": select.count}
    return values


def model_dict(model: ModelInfo) -> dict[str, str]:
    """Plain values for JSON."""
    return {
        "role": model.role,
        "name": model.name,
        "revision": model.revision,
        "engine": model.engine,
    }


def _query_dict(query: ConceptQuery) -> dict[str, Any]:
    values: dict[str, Any] = {"phrase": query.phrase}
    if query.exemplars:
        values["exemplars"] = [
            {"box": box_list(item.box), "positive": item.positive} for item in query.exemplars
        ]
    return values


def box_list(box: Box) -> list[float]:
    """x0, y0, x1, y1 for JSON."""
    return [round(side, 3) for side in (box.x0, box.y0, box.x1, box.y1)]


def _file_word(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label)[:40] or "instance"
