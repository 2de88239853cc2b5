import numpy as np
import pytest

from services.segmenter.settings import SHIPPED
from services.stickers.scenes import Placement, compose
from services.stickers.segmenter.checkpoint import open_checkpoint
from services.stickers.segmenter.validation import Figures, tally, validate
from services.stickers.sources import WorldScenes
from services.stickers.splits import SHOWN
from services.stickers.vocabulary import Vocabulary
from tests.stickers.segmenter_parts import SAMPLER

NAMES = Vocabulary.load().by_name
SCENE = compose(
    [Placement(NAMES["cat"], (0.2, 0.5), 0.4), Placement(NAMES["cat"], (0.75, 0.5), 0.5)],
    np.zeros((120, 200, 3), np.uint8),
)
CATS = [cat.mask for cat in SCENE.instances]


def figures(masks: list[np.ndarray], present: bool, targets) -> dict[str, float]:
    stacked = np.array(masks) if masks else np.zeros((0, 120, 200), bool)
    return Figures(*tally(stacked, present, targets)).as_dict()


def test_right_masks_in_any_order_score_one():
    scores = figures(CATS[::-1], True, SCENE.instances)
    assert scores["f1"] == scores["f1_75"] == scores["presence"] == 1.0
    assert scores["mean_iou"] == pytest.approx(1.0)


def test_a_second_mask_on_the_same_sticker_is_false():
    scores = figures([CATS[0], CATS[0]], True, SCENE.instances)
    assert (scores["precision"], scores["recall"]) == (0.5, 0.5)


def test_masks_on_dont_care_stickers_do_not_count():
    tiny = compose([Placement(NAMES["cat"], (0.2, 0.5), 0.06)], np.zeros((120, 200, 3), np.uint8))
    assert tiny.instances[0].dont_care
    scores = Figures(*tally(np.array([tiny.instances[0].mask]), True, tiny.instances))
    assert (scores.predicted, scores.wanted, scores.presence_pairs) == (0, 0, 0)


def test_masks_for_absent_phrases_are_false_instances():
    scores = figures(CATS, True, [])
    assert scores["false_per_absent"] == 2.0
    assert scores["presence"] == 0.0
    assert figures([], False, [])["presence"] == 1.0


def test_a_mask_elsewhere_misses():
    scores = figures([np.roll(CATS[0], 60, axis=1)], True, SCENE.instances)
    assert scores["f1"] == 0.0


def test_the_shipped_model_finds_most_of_what_is_there():
    model, tokenizer = open_checkpoint(str(SHIPPED))
    found = validate(model.eval(), tokenizer, SAMPLER, WorldScenes(size=(320, 288)), SHOWN[:6])
    scores = found.as_dict()
    assert found.pairs == 24
    assert scores["f1"] > 0.7
    assert scores["mean_iou"] > 0.7
    assert scores["presence"] > 0.8
