import json
import sys

import numpy as np
import pytest
import torch

from services.segmenter.settings import SHIPPED
from tests.training.segmenter.parts import SAMPLER
from training.datasets.sources import WorldScenes
from training.segmenter import evaluate as module
from training.segmenter.evaluate import evaluate, main
from training.segmenter.models import open_checkpoint
from training.world.scenes import Scene
from training.world.splits import SHOWN


@pytest.fixture(scope="module")
def shipped():
    model, tokenizer = open_checkpoint(str(SHIPPED))
    return model.eval(), tokenizer


def test_the_shipped_model_finds_most_of_what_is_there(shipped):
    figures = evaluate(*shipped, SAMPLER, WorldScenes(size=(320, 288)), SHOWN[:6])
    assert figures["f1"] > 0.7
    assert figures["mean_iou"] > 0.7
    assert figures["presence"] > 0.8


def test_right_answers_score_one_and_wrong_ones_nothing(shipped, monkeypatch: pytest.MonkeyPatch):
    """Answers made up of the truth; which scene is asked about is told by the source."""
    shown: list[Scene] = []

    class Watched(WorldScenes):
        def scene(self, rng, **wishes):
            shown.append(super().scene(rng, **wishes))
            return shown[-1]

    def truth(model, tokenizer, vision, size, phrase):
        meant = SAMPLER.book.matching_concepts(phrase)
        instances = [x for x in shown[-1].instances if x.concept.index in meant]
        masks = [x.mask for x in instances]
        present = any(not x.dont_care for x in instances)
        return np.array(masks).reshape(-1, *size[::-1]).astype(bool), present

    source = Watched(size=(320, 288))
    monkeypatch.setattr(module, "predict", truth)
    right = evaluate(*shipped, SAMPLER, source, SHOWN[:6])
    assert right.pop("false_per_absent") == 0.0
    assert set(right.values()) == {1.0}

    def wrong(model, tokenizer, vision, size, phrase):
        masks, present = truth(model, tokenizer, vision, size, phrase)
        return np.zeros((1, *masks.shape[1:]), bool), not present

    monkeypatch.setattr(module, "predict", wrong)
    figures = evaluate(*shipped, SAMPLER, source, SHOWN[:6])
    assert figures["false_per_absent"] == 1.0
    assert figures["f1"] == figures["presence"] == 0.0
    assert evaluate(*shipped, SAMPLER, source, []) == {}


def test_the_command_prints_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["evaluate", str(SHIPPED), "--scenes", "2"])
    threads = torch.get_num_threads()
    main()
    torch.set_num_threads(threads)
    told = json.loads(capsys.readouterr().out)
    assert told["scenes"] == 2
    assert 0 <= told["f1"] <= 1
