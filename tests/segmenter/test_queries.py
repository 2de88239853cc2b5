"""Wrong queries are refused by name, before any model works."""

import math

import numpy as np
import pytest

from limelight.paths import FieldPath
from limelight.values import Box, ConceptQuery, Exemplar
from services.errors import InvalidRequest, Reason
from services.segmenter.engines import create
from services.segmenter.queries import check_queries, exemplar_arrays
from services.segmenter.settings import SegmenterSettings

SOUND = ConceptQuery("cat")


def boxed(*sides: float) -> ConceptQuery:
    return ConceptQuery("cat", (Exemplar(Box(0, 0, 1, 1)), Exemplar(Box(*sides))))


@pytest.mark.parametrize(
    ("queries", "reason", "field"),
    [
        ([], Reason.TASK_MISSING, "queries"),
        ([SOUND] * 5, Reason.TOO_MANY_QUERIES, "queries"),
        ([SOUND, ConceptQuery()], Reason.QUERY_INVALID, "queries[1]"),
        (
            [ConceptQuery("", (Exemplar(Box(0, 0, 1, 1)),) * 4)],
            Reason.QUERY_INVALID,
            "queries[0].exemplars",
        ),
        (
            [SOUND, ConceptQuery("", (Exemplar(Box(0, 0, 1, 1), positive=False),))],
            Reason.QUERY_INVALID,
            "queries[1].exemplars",
        ),
        ([SOUND, ConceptQuery("  ")], Reason.PHRASE_INVALID, "queries[1].phrase"),
        ([ConceptQuery("cat\x00")], Reason.PHRASE_INVALID, "queries[0].phrase"),
        ([ConceptQuery("\ud800")], Reason.PHRASE_INVALID, "queries[0].phrase"),
        ([SOUND, ConceptQuery("cat " * 31)], Reason.PHRASE_TOO_LONG, "queries[1].phrase"),
        ([ConceptQuery("c" * 10**6)], Reason.PHRASE_TOO_LONG, "queries[0].phrase"),
        ([boxed(20, 0, 10, 5)], Reason.BOX_INVALID, "queries[0].exemplars[1].box"),
        ([boxed(1, 1, 1, 5)], Reason.BOX_INVALID, "queries[0].exemplars[1].box"),
        ([boxed(math.nan, 0, 1, 1)], Reason.BOX_INVALID, "queries[0].exemplars[1].box"),
        ([boxed(0, 0, math.inf, 1)], Reason.BOX_INVALID, "queries[0].exemplars[1].box"),
    ],
)
def test_refused(queries: list[ConceptQuery], reason: Reason, field: str) -> None:
    traits = create(SegmenterSettings(engine="fake")).describe()
    with pytest.raises(InvalidRequest) as caught:
        check_queries(queries, traits, max_queries=4, max_exemplars=3)
    assert caught.value.reason is reason
    assert str(caught.value.field) == field


def test_sound_queries_pass() -> None:
    traits = create(SegmenterSettings(engine="fake")).describe()
    longest = ConceptQuery("cat " * 30)
    check_queries([SOUND, longest, boxed(-5, -5, 1e9, 3)], traits, 4, 3)


def test_boxes_become_clipped_shares_of_the_image() -> None:
    exemplars = [Exemplar(Box(10, 20, 30, 60)), Exemplar(Box(-50, 40, 100, 1000), positive=False)]
    boxes, labels = exemplar_arrays(exemplars, 200, 80, FieldPath())
    np.testing.assert_allclose(boxes, [[0.1, 0.5, 0.1, 0.5], [0.25, 0.75, 0.5, 0.5]])
    assert labels.tolist() == [1, 0]
    none, _ = exemplar_arrays([], 200, 80, FieldPath())
    assert none.shape == (0, 4)


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        exemplar_arrays([Exemplar(Box(200, 0, 210, 10))], 200, 80, FieldPath() / "queries" / 3)
    assert caught.value.reason is Reason.BOX_INVALID
    assert str(caught.value.field) == "queries[3].exemplars[0].box"


def test_boxes_that_are_the_same_within_the_image_are_not_both_signs() -> None:
    exemplars = [Exemplar(Box(-90, 0, 20, 20)), Exemplar(Box(0, 0, 20, 20), positive=False)]
    with pytest.raises(InvalidRequest) as caught:
        exemplar_arrays(exemplars, 200, 80, FieldPath() / "queries" / 3)
    assert caught.value.reason is Reason.QUERY_INVALID
    assert str(caught.value.field) == "queries[3].exemplars[1].box"
