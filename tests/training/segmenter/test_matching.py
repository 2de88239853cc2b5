import dataclasses

import pytest
import torch

from tests.training.segmenter.answers import QUERIES, perfect, two_stickers
from training.segmenter.matching import match


@pytest.mark.parametrize("queries", [(3, 1), (0, 4), (4, 0)])
def test_each_target_gets_the_query_that_answers_it(queries: tuple[int, int]):
    pairs = two_stickers()
    matched, real = match(perfect(pairs, queries), pairs)
    assert matched.shape == (2, 1, 2), "layers, shown pairs, most targets of a shown pair"
    assert matched.tolist() == [[list(queries)], [list(queries)]]
    assert real.tolist() == [[True, True]]


def test_every_layer_is_matched_by_itself():
    pairs = two_stickers()
    one, other = perfect(pairs, (3, 1)), perfect(pairs, (1, 3))
    mixed = dataclasses.replace(
        one,
        logits=torch.stack([one.logits[0], other.logits[0]]),
        boxes=torch.stack([one.boxes[0], other.boxes[0]]),
        queries=torch.stack([one.queries[0], other.queries[0]]),
    )
    matched, _ = match(mixed, pairs)
    assert matched[:, 0].tolist() == [[3, 1], [1, 3]]


@pytest.mark.parametrize("left", ["boxes", "queries"])
def test_boxes_alone_or_masks_alone_suffice(left: str):
    pairs = two_stickers()
    right = perfect(pairs, (3, 1))
    others = {"boxes", "queries", "logits"} - {left}
    blank = {name: torch.zeros_like(getattr(right, name)) for name in others}
    matched, _ = match(dataclasses.replace(right, **blank), pairs)
    assert matched[-1, 0].tolist() == [3, 1]


def test_a_missing_target_takes_a_query_that_no_other_has():
    pairs = two_stickers()
    both = perfect(pairs, (3, 1))
    # The second pair is shown too, of which nothing is wanted.
    shown = dataclasses.replace(
        both,
        shown=torch.tensor([0, 1]),
        queries=both.queries.repeat(1, 2, 1, 1),
        pixels=both.pixels.repeat(2, 1, 1, 1),
    )
    matched, real = match(shown, pairs)
    assert real.tolist() == [[True, True], [False, False]]
    for layer in matched.tolist():
        for row in layer:
            assert len(set(row)) == 2
            assert set(row) <= set(range(QUERIES))
