import json
from dataclasses import replace

import pytest

from training.segmenter.recipe import FINE_TUNING, SCRATCH


def test_settings_name_every_weight_of_the_loss():
    settings = replace(SCRATCH, steps=7).settings()
    assert settings["steps"] == 7
    assert settings["weight of class"] == SCRATCH.weights.class_
    assert json.loads(json.dumps(settings)) == settings


def test_a_dense_stage_needs_dense_heads():
    with pytest.raises(ValueError, match="dense"):
        replace(SCRATCH, dense_share=0.1, dense_weight=0.0)


def test_fine_tuning_is_slow_and_slowest_for_the_encoders():
    assert FINE_TUNING.muon_learning_rate == FINE_TUNING.dense_weight == 0
    assert FINE_TUNING.learning_rate * FINE_TUNING.vision_rate == pytest.approx(2.5e-5)
    assert FINE_TUNING.learning_rate * FINE_TUNING.text_rate == pytest.approx(5e-6)
