"""Checks a request's queries before any model works for it, and turns boxes into model input."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from limelight.paths import FieldPath
from limelight.validation import check_query, check_signs
from limelight.values import Box, ConceptQuery, Exemplar
from services.errors import InvalidRequest, Reason
from services.segmenter.engines import SegmenterTraits

QUERIES = FieldPath(("queries",))
# Characters a token: a phrase longer than this many times the limit is too long however it splits.
_CHARS_A_TOKEN = 64


def check_queries(
    queries: Sequence[ConceptQuery], traits: SegmenterTraits, max_queries: int, max_exemplars: int
) -> None:
    """Everything that can be said without the image.

    Raises:
        InvalidRequest: TASK_MISSING, TOO_MANY_QUERIES, QUERY_INVALID, PHRASE_INVALID,
            PHRASE_TOO_LONG or BOX_INVALID, at the field.
    """
    if not queries:
        raise InvalidRequest(Reason.TASK_MISSING, "there are no queries", field=QUERIES)
    if len(queries) > max_queries:
        raise InvalidRequest(
            Reason.TOO_MANY_QUERIES,
            f"{len(queries)} queries; at most {max_queries} per call",
            field=QUERIES,
        )
    for index, query in enumerate(queries):
        path = QUERIES / index
        max_chars = _CHARS_A_TOKEN * traits.max_tokens
        if len(query.phrase) > max_chars:
            _refuse_long(f"{len(query.phrase)} characters", traits, path / "phrase")
        check_query(query, path, max_exemplars=max_exemplars, max_phrase_chars=max_chars)
        if query.phrase and (tokens := traits.count_tokens(query.phrase)) > traits.max_tokens:
            _refuse_long(f"{tokens} tokens", traits, path / "phrase")


def _refuse_long(size: str, traits: SegmenterTraits, path: FieldPath) -> NoReturn:
    raise InvalidRequest(
        Reason.PHRASE_TOO_LONG,
        f"the phrase has {size}; the model reads {traits.max_tokens} tokens",
        field=path,
    )


def exemplar_arrays(
    exemplars: Sequence[Exemplar], width: int, height: int, path: FieldPath
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The boxes and labels of `engines.Pair`, boxes clipped to the image of `width` x `height`.

    Raises:
        InvalidRequest: at the exemplar below `path`, BOX_INVALID for one outside the image,
            QUERY_INVALID for a negative one that is positive too once both are clipped.
    """
    clipped = []
    boxes = np.empty((len(exemplars), 4), np.float32)
    for index, exemplar in enumerate(exemplars):
        x0, x1 = max(exemplar.box.x0, 0.0), min(exemplar.box.x1, float(width))
        y0, y1 = max(exemplar.box.y0, 0.0), min(exemplar.box.y1, float(height))
        if x0 >= x1 or y0 >= y1:
            raise InvalidRequest(
                Reason.BOX_INVALID,
                f"the box lies outside the image of {width} x {height} pixels",
                field=path / "exemplars" / index / "box",
            )
        clipped.append(Exemplar(Box(x0, y0, x1, y1), exemplar.positive))
        boxes[index] = (
            (x0 + x1) / 2 / width,
            (y0 + y1) / 2 / height,
            (x1 - x0) / width,
            (y1 - y0) / height,
        )
    check_signs(clipped, path)
    return boxes, np.array([exemplar.positive for exemplar in exemplars], np.int64)
