import json
import math

import pytest

from services.stickers.segmenter.plan import Plan, fine_tuning


def test_progress_follows_steps_or_minutes_whichever_is_further():
    plan = Plan(steps=100, minutes=10)
    assert plan.progress(50, 2) == 0.5
    assert plan.progress(10, 7) == 0.7
    assert plan.progress(200, 0) == 1.0
    assert Plan(steps=100).progress(0, 1e9) == 0.0


def test_the_rate_warms_up_twice_and_falls_over_the_pairs_stage():
    plan = Plan(dense_share=0.2, warm_up=10)
    assert plan.rate(0.0, 0) == pytest.approx(0.1)
    assert plan.rate(0.1, 50) == plan.rate(0.2, 50) == pytest.approx(1.0)
    assert plan.rate(0.2, 4) == pytest.approx(0.5), "again when the pairs begin"
    falling = [plan.rate(share / 10, 50) for share in range(2, 11)]
    assert falling == sorted(falling, reverse=True)
    assert falling[4] == pytest.approx(0.51)
    assert falling[-1] == pytest.approx(0.02)


def test_the_settings_are_all_of_the_plan_and_json():
    settings = Plan(steps=7).settings()
    assert settings["steps"] == 7
    assert settings["weight of class"] == Plan().weights.class_
    assert "minutes" not in settings, "an endless run has none"
    assert Plan(minutes=5).settings()["minutes"] == 5
    assert math.inf not in json.loads(json.dumps(settings)).values()


def test_a_dense_stage_needs_dense_heads():
    with pytest.raises(ValueError, match="dense"):
        Plan(dense_share=0.1, dense_weight=0.0)


def test_fine_tuning_is_slow_and_slowest_for_the_encoders():
    plan = fine_tuning()
    assert plan.matrix_rate is None
    assert not plan.dense
    assert plan.learning_rate * plan.vision_rate == pytest.approx(2.5e-5)
    assert plan.learning_rate * plan.text_rate == pytest.approx(5e-6)
