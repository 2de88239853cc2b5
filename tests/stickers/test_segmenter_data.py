import numpy as np
import pytest
import torch
from torch.nn import functional

from services.stickers.phrases import PhraseBook
from services.stickers.scenes import Placement, compose
from services.stickers.segmenter.checkpoint import new_tokenizer
from services.stickers.segmenter.data import MAX_INSTANCES, BatchMaker, preprocess
from services.stickers.segmenter.sampling import UNKNOWN, PhraseSampler
from services.stickers.splits import SHOWN
from services.stickers.vocabulary import Vocabulary

NAMES = Vocabulary.load().by_name
BOOK = PhraseBook(Vocabulary.load())


@pytest.fixture(scope="module")
def batches() -> BatchMaker:
    return BatchMaker(
        PhraseSampler(BOOK), new_tokenizer(BOOK), image_side=240, token_grid=20, mask_grid=40
    )


def test_preprocessing_is_the_services():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(preprocess([image], 32), resized.float() / 127.5 - 1)


def test_phrases_carry_masks_boxes_and_presence(batches: BatchMaker):
    pairs = batches.phrases(SHOWN[:12]).pairs
    assert pairs is not None
    assert pairs.image.tolist() == [i // 3 for i in range(36)]
    assert set(pairs.presence.tolist()) <= {-1.0, 0.0, 1.0}
    assert pairs.boxes.shape[1] == 0
    for row, count in enumerate(pairs.counts.tolist()):
        assert (count > 0) == (pairs.presence[row] == 1)
        assert (pairs.target_masks[row, :count].amax((1, 2)) > 0.2).all()
        assert not pairs.target_masks[row, count:].any()
        for box, mask in zip(
            pairs.target_boxes[row, :count], pairs.target_masks[row], strict=False
        ):
            cells = mask.nonzero().float() / 40
            centre, half = box[:2], box[2:] / 2
            low, high = cells.amin(0).flip(0), cells.amax(0).flip(0) + 1 / 40
            assert (low <= centre - half + 1e-4).all()
            assert (high >= centre + half - 1e-4).all()
            assert (high - low <= box[2:] + 2 / 40 + 1e-4).all()


def test_coverage_shares_every_token_out(batches: BatchMaker):
    coverage = batches.dense(SHOWN[:4]).coverage
    assert coverage.shape == (4, 20, 20, 49)
    torch.testing.assert_close(coverage.sum(-1), torch.ones(4, 20, 20), atol=1e-4, rtol=0)


def test_mask_coverage_keeps_the_area(batches: BatchMaker):
    background = np.zeros((90, 130, 3), np.uint8)
    scene = compose([Placement(NAMES["house"], (0.4, 0.6), 0.5)], background)
    (mask,) = batches._masks(scene)
    assert mask.mean().item() == pytest.approx(scene.instances[0].area / (90 * 130), rel=1e-4)


def test_exemplars_show_something_that_is_there(batches: BatchMaker):
    pairs = batches.exemplars(SHOWN[:12]).pairs
    assert pairs is not None
    assert (pairs.presence == 1).all()
    assert (pairs.box_labels[:, 0] == 1).all()
    # The positive box is that of one of the wanted instances.
    distance = (pairs.boxes[:, :1] - pairs.target_boxes).abs().sum(-1)
    assert (distance.amin(1) < 1e-6).all()


def test_the_same_seed_gives_the_same_example(batches: BatchMaker):
    first, again = (batches.phrases([7]) for _ in range(2))
    assert torch.equal(first.pixels, again.pixels)
    assert first.pairs is not None
    assert again.pairs is not None
    assert torch.equal(first.pairs.input_ids, again.pairs.input_ids)


def test_a_third_of_the_phrases_is_absent(batches: BatchMaker):
    pairs = batches.phrases(SHOWN[:60]).pairs
    assert pairs is not None
    assert 0.2 < (pairs.presence == 0).float().mean() < 0.45
    assert int(pairs.counts.max()) <= MAX_INSTANCES


def test_unknown_words_match_nothing():
    assert not [word for word in UNKNOWN if BOOK.matching_concepts(word)]
