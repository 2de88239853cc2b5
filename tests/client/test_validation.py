"""The rules for values, each at the path of what breaks it."""

import math
from collections.abc import Callable

import pytest

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.validation import check_box, check_query, check_selection, check_share
from limelight.values import Box, ConceptQuery, Exemplar, SelectBy, Selection

AT = FieldPath() / "queries" / 3
GOOD = Box(0, 0, 2, 2)


def query(value: ConceptQuery) -> None:
    check_query(value, AT, max_exemplars=2, max_phrase_chars=10)


@pytest.mark.parametrize(
    "sides",
    [(0, 0, 0, 5), (5, 0, 4, 5), (0, 0, math.nan, 5), (-math.inf, 0, 1, 1), (0, 0, 0, 0)],
)
def test_a_box_without_an_area(sides: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_box(Box(*sides), AT / "box")
    assert (caught.value.reason, str(caught.value.field)) == (Reason.BOX_INVALID, "queries[3].box")


@pytest.mark.parametrize(
    ("check", "reason", "field"),
    [
        (lambda: query(ConceptQuery()), "QUERY_INVALID", "queries[3]"),
        (lambda: query(ConceptQuery(" ")), "PHRASE_INVALID", "queries[3].phrase"),
        (lambda: query(ConceptQuery("x" * 11)), "PHRASE_INVALID", "queries[3].phrase"),
        (
            lambda: query(ConceptQuery("dog", (Exemplar(GOOD),) * 3)),
            "QUERY_INVALID",
            "queries[3].exemplars",
        ),
        (
            lambda: query(ConceptQuery("dog", (Exemplar(GOOD), Exemplar(Box(2, 2, 1, 1))))),
            "BOX_INVALID",
            "queries[3].exemplars[1].box",
        ),
        (
            lambda: query(ConceptQuery(exemplars=(Exemplar(GOOD, positive=False),))),
            "QUERY_INVALID",
            "queries[3].exemplars",
        ),
        (
            lambda: query(ConceptQuery("dog", (Exemplar(GOOD), Exemplar(GOOD, positive=False)))),
            "QUERY_INVALID",
            "queries[3].exemplars[1].box",
        ),
        (
            lambda: query(
                ConceptQuery("", (Exemplar(GOOD, positive=False), Exemplar(Box(0, 0, 2, 1.9))))
            ),
            "QUERY_INVALID",
            "queries[3].exemplars[0].box",
        ),
        (
            lambda: check_selection(Selection(SelectBy.LARGEST, rank=0), AT),
            "OPTION_INVALID",
            "queries[3].rank",
        ),
        (
            lambda: check_selection(Selection(SelectBy.LARGEST, count=-1), AT),
            "OPTION_INVALID",
            "queries[3].count",
        ),
        (lambda: check_share(math.nan, "score", AT), "OPTION_INVALID", "queries[3]"),
        (lambda: check_share(1.01, "score", AT), "OPTION_INVALID", "queries[3]"),
    ],
)
def test_each_rule_names_its_field(check: Callable[[], None], reason: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check()
    assert (caught.value.reason.value, str(caught.value.field)) == (reason, field)


def test_good_values_pass() -> None:
    check_box(GOOD, AT)
    other = Box(5, 5, 9, 9)
    query(ConceptQuery("red apple", (Exemplar(GOOD), Exemplar(other, positive=False))))
    query(ConceptQuery("red apple", (Exemplar(GOOD, positive=False),)))
    query(ConceptQuery(exemplars=(Exemplar(GOOD, positive=False), Exemplar(other))))
    query(ConceptQuery("red apple", (Exemplar(GOOD), Exemplar(GOOD))))
    query(ConceptQuery(exemplars=(Exemplar(GOOD),)))
    check_selection(Selection(SelectBy.LARGEST), AT)
    check_share(0.0, "score", AT)
    check_share(1.0, "score", AT)
