from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from services.segmenter.engines import EXEMPLARS_ONLY
from services.segmenter.preprocessing import normalized, to_model_input
from tests.training.segmenter.parts import BOOK, GRIDS, SAMPLER, TOKENIZER, batch_builder
from training.kit.trainer import moved
from training.segmenter.data import BatchBuilder, name_tokens
from training.world.scenes import Placement, Scene, compose
from training.world.splits import SHOWN
from training.world.vocabulary import Vocabulary

NAMES = BOOK.vocabulary.by_name


@dataclass(frozen=True)
class OneScene:
    """A source of always the same scene."""

    shown: Scene
    vocabulary: Vocabulary = BOOK.vocabulary

    def scene(self, rng, *, size=None, crowded=False) -> Scene:
        return self.shown


def scene_of(*placements: Placement) -> Scene:
    return compose(placements, np.zeros((120, 200, 3), np.uint8))


def maker(*placements: Placement, **changes) -> BatchBuilder:
    return replace(batch_builder(**changes), source=OneScene(scene_of(*placements)))


CATS = [Placement(NAMES["cat"], (x, 0.5), side) for x, side in ((0.15, 0.3), (0.45, 0.5))]
DOG = Placement(NAMES["dog"], (0.8, 0.5), 0.5)


def test_pixels_are_the_services():
    batch = maker(DOG).dense([1])
    torch.testing.assert_close(
        batch.pixels[0], normalized(to_model_input(scene_of(DOG).image.copy(), 240))
    )


def test_phrases_carry_masks_boxes_and_presence():
    pairs = batch_builder().phrases(SHOWN[:12]).pairs
    assert pairs is not None
    assert pairs.image.tolist() == [i // 2 for i in range(24)]
    assert set(pairs.presence.tolist()) <= {-1.0, 0.0, 1.0}
    assert pairs.boxes.shape[1] == 0
    assert pairs.counts.max() == pairs.target_boxes.shape[1] == pairs.target_masks.shape[1]
    for row, count in enumerate(pairs.counts.tolist()):
        assert (count > 0) == (pairs.presence[row] == 1)
        assert (pairs.target_masks[row, :count].amax((1, 2)) > 0.2).all()
        assert not pairs.target_masks[row, count:].any()
        for box, mask in zip(
            pairs.target_boxes[row, :count], pairs.target_masks[row], strict=False
        ):
            cells = mask.nonzero().float() / 80
            center, half = box[:2], box[2:] / 2
            low, high = cells.amin(0).flip(0), cells.amax(0).flip(0) + 1 / 80
            assert (low <= center - half + 1e-4).all()
            assert (high >= center + half - 1e-4).all()
            assert (high - low <= box[2:] + 2 / 80 + 1e-4).all()


def test_the_semantic_mask_holds_all_matching_stickers():
    pairs = maker(*CATS, DOG, phrases_per_image=24).phrases([5]).pairs
    assert pairs is not None
    shown = TOKENIZER(["cat", "cats"]).input_ids
    told = [
        row
        for row, ids in enumerate(pairs.input_ids.tolist())
        if any(ids[: len(form)] == form for form in shown)
    ]
    assert told, "no phrase asks for cats: choose another seed"
    for row in told:
        assert pairs.counts[row] == 2
        torch.testing.assert_close(pairs.semantic[row], pairs.target_masks[row, :2].sum(0))


def test_what_is_hidden_is_neither_there_nor_absent():
    tiny = Placement(NAMES["cat"], (0.5, 0.5), 0.06)
    pairs = maker(tiny, phrases_per_image=12).phrases([5]).pairs
    assert pairs is not None
    assert set(pairs.presence.tolist()) == {-1.0, 0.0}
    assert not pairs.counts.any()
    assert (pairs.semantic.sum((1, 2)) > 0).tolist() == (pairs.presence == -1).tolist()


def test_of_more_instances_than_queries_the_largest_are_wanted():
    pairs = maker(*CATS, max_targets=1, phrases_per_image=12).phrases([5]).pairs
    assert pairs is not None
    wanted = pairs.counts > 0
    assert wanted.any()
    assert pairs.target_boxes.shape[1] == 1
    assert (pairs.target_boxes[wanted, 0, 0] - 0.45).abs().max() < 0.02, "the larger cat"


def test_exemplars_show_something_that_is_there():
    pairs = batch_builder().exemplars(SHOWN[:12]).pairs
    assert pairs is not None
    assert (pairs.presence == 1).all()
    assert (pairs.box_labels[:, 0] == 1).all()
    # The positive box is that of one of the wanted instances.
    distance = (pairs.boxes[:, :1] - pairs.target_boxes).abs().sum(-1)
    assert (distance.amin(1) < 1e-6).all()


def test_exemplars_say_what_the_service_says_and_negatives_show_something_else():
    pairs = maker(*CATS, DOG, phrases_per_image=40).exemplars([3]).pairs
    assert pairs is not None
    visual = TOKENIZER(EXEMPLARS_ONLY).input_ids
    asked = {tuple(ids[: sum(m)]) for ids, m in zip(*tokens(pairs), strict=True)}
    assert asked == {tuple(visual), *(tuple(TOKENIZER(n).input_ids) for n in ("cat", "dog"))}
    negative = pairs.box_labels == 0
    assert negative.any()
    for row in negative.any(1).nonzero().flatten().tolist():
        boxes = pairs.boxes[row][negative[row]]
        wanted = pairs.target_boxes[row, : pairs.counts[row]]
        assert torch.cdist(boxes, wanted).min() > 0.1


def tokens(pairs) -> tuple[list[list[int]], list[list[int]]]:
    return pairs.input_ids.tolist(), pairs.attention_mask.tolist()


def test_pictures_without_an_exemplar_are_asked_for_phrases():
    hidden = Placement(NAMES["cat"], (0.5, 0.5), 0.06)
    pairs = maker(hidden).exemplars([5]).pairs
    assert pairs is not None
    assert pairs.boxes.shape[1] == 0


def test_the_same_seed_gives_the_same_example():
    first, again = (batch_builder().phrases([7]) for _ in range(2))
    assert torch.equal(first.pixels, again.pixels)
    assert first.pairs is not None
    assert again.pairs is not None
    assert torch.equal(first.pairs.input_ids, again.pairs.input_ids)


def test_a_batch_goes_to_a_device_whole():
    batch = moved(batch_builder().phrases(SHOWN[:2]), torch.device("meta"))
    assert batch.pairs is not None
    tensors = {"pixels": batch.pixels} | vars(batch.pairs) | vars(batch.dense)
    for name, value in tensors.items():
        assert value.is_meta, name


def test_a_name_that_the_model_cannot_read_whole_is_refused():
    name = " ".join(["very"] * 40)
    concepts = (replace(NAMES["cat"], index=0), replace(NAMES["dog"], index=1, name=name))
    with pytest.raises(ValueError, match="very very"):
        name_tokens(TOKENIZER, Vocabulary(concepts), longest=32)
    ids, mask = name_tokens(TOKENIZER, BOOK.vocabulary, longest=32)
    assert ids.shape[:2] == mask.shape[:2] == (2, 48)
    apples = TOKENIZER("red apples").input_ids
    assert ids[1, NAMES["red apple"].index, : len(apples)].tolist() == apples


def test_the_parts_fit():
    assert batch_builder().grids == GRIDS
    assert batch_builder().source.vocabulary is SAMPLER.book.vocabulary
