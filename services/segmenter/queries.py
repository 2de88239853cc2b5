"""Judges a request's queries before any model works for it, and turns boxes into model input."""

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.domain import Box, ConceptQuery, Exemplar
from services.errors import InvalidRequest, Reason
from services.segmenter.engines import Engine


def check_queries(
    queries: Sequence[ConceptQuery], engine: Engine, max_queries: int, max_exemplars: int
) -> None:
    """Everything that can be said without the image.

    Raises:
        InvalidRequest: TASK_MISSING, TOO_MANY_QUERIES, QUERY_INVALID, PHRASE_INVALID,
            PHRASE_TOO_LONG or BOX_INVALID, at the field.
    """
    if not queries:
        raise InvalidRequest(Reason.TASK_MISSING, "there are no queries", field="queries")
    if len(queries) > max_queries:
        raise InvalidRequest(
            Reason.TOO_MANY_QUERIES,
            f"{len(queries)} queries; at most {max_queries} are allowed",
            field="queries",
        )
    for index, query in enumerate(queries):
        field = f"queries[{index}]"
        if not query.phrase and not query.exemplars:
            raise InvalidRequest(
                Reason.QUERY_INVALID, "a query needs a phrase or an exemplar", field=field
            )
        if len(query.exemplars) > max_exemplars:
            raise InvalidRequest(
                Reason.QUERY_INVALID,
                f"{len(query.exemplars)} exemplars; at most {max_exemplars} are allowed",
                field=f"{field}.exemplars",
            )
        if query.phrase:
            _check_phrase(query.phrase, engine, f"{field}.phrase")
        for number, exemplar in enumerate(query.exemplars):
            _check_box(exemplar.box, f"{field}.exemplars[{number}].box")


def _check_phrase(phrase: str, engine: Engine, field: str) -> None:
    if not phrase.strip():
        raise InvalidRequest(Reason.PHRASE_INVALID, "the phrase is blank", field=field)
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in phrase):
        raise InvalidRequest(
            Reason.PHRASE_INVALID, "the phrase holds control characters", field=field
        )
    # Tokens are words or parts of words: a phrase of this length is too long however it is split.
    too_long = len(phrase) > 64 * engine.max_tokens
    tokens = 0 if too_long else engine.tokens(phrase)
    if too_long or tokens > engine.max_tokens:
        count = f"{len(phrase)} characters" if too_long else f"{tokens} tokens"
        raise InvalidRequest(
            Reason.PHRASE_TOO_LONG,
            f"the phrase has {count}; the model reads {engine.max_tokens} tokens",
            field=field,
        )


def _check_box(box: Box, field: str) -> None:
    if not all(math.isfinite(side) for side in (box.x0, box.y0, box.x1, box.y1)):
        raise InvalidRequest(Reason.BOX_INVALID, "a side is not a finite number", field=field)
    if box.width <= 0 or box.height <= 0:
        raise InvalidRequest(Reason.BOX_INVALID, "the box has no area", field=field)


def exemplar_arrays(
    exemplars: Sequence[Exemplar], width: int, height: int, field: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The boxes and labels of `engines.Pair`, boxes clipped to the image of `width` x `height`.

    Raises:
        InvalidRequest: BOX_INVALID at `{field}.exemplars[i].box`, for one outside the image.
    """
    boxes = np.empty((len(exemplars), 4), np.float32)
    for index, exemplar in enumerate(exemplars):
        x0, x1 = max(exemplar.box.x0, 0.0), min(exemplar.box.x1, float(width))
        y0, y1 = max(exemplar.box.y0, 0.0), min(exemplar.box.y1, float(height))
        if x0 >= x1 or y0 >= y1:
            raise InvalidRequest(
                Reason.BOX_INVALID,
                f"the box lies outside the image of {width} x {height} pixels",
                field=f"{field}.exemplars[{index}].box",
            )
        boxes[index] = (
            (x0 + x1) / 2 / width,
            (y0 + y1) / 2 / height,
            (x1 - x0) / width,
            (y1 - y0) / height,
        )
    return boxes, np.array([exemplar.positive for exemplar in exemplars], np.int64)
