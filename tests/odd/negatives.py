"""Negative exemplars: "not like this" beside a phrase or a positive box, an error alone.

A picture of three red squares and a blue one, asked through the segmenter with the engine that
finds colors: what a negative box shows must be gone by what the segmenter does, for any engine.
"""

import asyncio
from functools import partial
from pathlib import Path

import numpy as np

from limelight.values import Box, ConceptQuery, Exemplar
from services.codecs.images import encode
from services.deadline import Deadline
from services.errors import InvalidRequest
from services.replica.metrics import RecordedMetrics
from services.segmenter.engines import create
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings
from tests.odd.case import Case

LEFT, MIDDLE, RIGHT = Box(10, 10, 50, 50), Box(60, 10, 100, 50), Box(110, 10, 150, 50)
BLUE = Box(10, 70, 50, 110)
_NAMES = {10: "left", 60: "middle", 110: "right"}


def not_like(*boxes: Box) -> tuple[Exemplar, ...]:
    """Negative exemplars."""
    return tuple(Exemplar(box, positive=False) for box in boxes)


def moved(box: Box, by: float) -> Box:
    """The box drawn `by` pixels to the right and down."""
    return Box(box.x0 + by, box.y0 + by, box.x1 + by, box.y1 + by)


def grown(box: Box, by: float) -> Box:
    """The box drawn `by` pixels too large on each side."""
    return Box(box.x0 - by, box.y0 - by, box.x1 + by, box.y1 + by)


def cases() -> list[Case]:
    """The area's cases."""
    red, shown = "red", (Exemplar(LEFT),)
    queries = {
        "a phrase": (ConceptQuery(red), "left, middle, right"),
        "a phrase without the middle one": (ConceptQuery(red, not_like(MIDDLE)), "left, right"),
        "a phrase without two": (ConceptQuery(red, not_like(LEFT, MIDDLE)), "right"),
        "a phrase without any": (ConceptQuery(red, not_like(LEFT, MIDDLE, RIGHT)), "nothing"),
        "a phrase without one, its box drawn six pixels off": (
            ConceptQuery(red, not_like(moved(MIDDLE, 6))),
            "left, right",
        ),
        "a phrase without one, its box too large by nine pixels": (
            ConceptQuery(red, not_like(grown(MIDDLE, 9))),
            "left, right",
        ),
        "a phrase without one, its box too small by five pixels": (
            ConceptQuery(red, not_like(grown(MIDDLE, -5))),
            "left, right",
        ),
        "a phrase without what it does not mean": (
            ConceptQuery(red, not_like(BLUE)),
            "left, middle, right",
        ),
        "a phrase and a negative box on nothing": (
            ConceptQuery(red, not_like(Box(60, 70, 100, 110))),
            "left, middle, right",
        ),
        "a positive box": (ConceptQuery(exemplars=shown), "left, middle, right"),
        "a positive box without the right one": (
            ConceptQuery(exemplars=(*shown, *not_like(RIGHT))),
            "left, middle",
        ),
        "a phrase and a positive box without one": (
            ConceptQuery(red, (*shown, *not_like(MIDDLE))),
            "left, right",
        ),
        "negative boxes before a positive one": (
            ConceptQuery(exemplars=(*not_like(RIGHT, MIDDLE), *shown)),
            "left",
        ),
        "a negative box alone": (
            ConceptQuery(exemplars=not_like(LEFT)),
            "refused: QUERY_INVALID at queries[0].exemplars",
        ),
        "two negative boxes alone": (
            ConceptQuery(exemplars=not_like(LEFT, RIGHT)),
            "refused: QUERY_INVALID at queries[0].exemplars",
        ),
        "a blank phrase and a negative box": (
            ConceptQuery("  ", not_like(LEFT)),
            "refused: PHRASE_INVALID at queries[0].phrase",
        ),
        "a box that is positive and negative": (
            ConceptQuery(exemplars=(*shown, *not_like(LEFT))),
            "refused: QUERY_INVALID at queries[0].exemplars[1].box",
        ),
        "a phrase with a box that is positive and negative": (
            ConceptQuery(red, (*not_like(LEFT), *shown)),
            "refused: QUERY_INVALID at queries[0].exemplars[0].box",
        ),
        "a box that is positive and, half a pixel off, negative": (
            ConceptQuery(red, (*shown, *not_like(moved(LEFT, 0.5)))),
            "refused: QUERY_INVALID at queries[0].exemplars[1].box",
        ),
        "a box that reaches out of the picture, and within it the same one negative": (
            ConceptQuery(red, (Exemplar(Box(-70, 10, 50, 50)), *not_like(Box(0, 10, 50, 50)))),
            "refused: QUERY_INVALID at queries[0].exemplars[1].box",
        ),
    }
    return [
        Case(name, right, partial(see_answer, query)) for name, (query, right) in queries.items()
    ]


def see_answer(query: ConceptQuery, folder: Path) -> str:
    """Which of the red squares are answered, or how the query is refused."""
    pixels = np.full((120, 160, 3), 255, np.uint8)
    for box, color in ((LEFT, (255, 0, 0)), (MIDDLE, (255, 0, 0)), (RIGHT, (255, 0, 0)),
                       (BLUE, (0, 0, 255))):  # fmt: skip
        pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = color
    try:
        lefts = asyncio.run(_answered(encode(pixels), query))
    except InvalidRequest as error:
        return f"refused: {error.reason} at {error.field}"
    return ", ".join(_NAMES[left] for left in sorted(lefts)) or "nothing"


async def _answered(image: bytes, query: ConceptQuery) -> list[int]:
    settings = SegmenterSettings(engine="fake")
    segmenter = Segmenter(settings, create(settings), RecordedMetrics())
    try:
        answer = await segmenter.segment(image, [query], 0.5, 0, Deadline())
    finally:
        await segmenter.close()
    return [int(detection.box.x0) for detection in answer.results[0].detections]
