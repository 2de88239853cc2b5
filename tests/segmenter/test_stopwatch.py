"""A request's times."""

import pytest

from services.replica.metrics import RecordedMetrics
from services.replica.stopwatch import Stopwatch


def test_stages_are_timed_for_the_answer_and_the_metrics(metrics: RecordedMetrics) -> None:
    watch = Stopwatch(metrics)
    with watch.stage("encode"):
        assert watch.current == "encode"
    watch.spent("detect", 0.25)
    assert list(watch.timings_ms) == ["encode", "detect"]
    assert watch.timings_ms["detect"] == 250
    assert metrics.seconds["stage", "detect"] == [0.25]
    assert metrics.seconds["stage", "encode"][0] * 1000 == watch.timings_ms["encode"]


def test_a_stage_that_fails_is_remembered_and_not_counted(metrics: RecordedMetrics) -> None:
    watch = Stopwatch(metrics)
    with pytest.raises(ValueError, match="broken"), watch.stage("masks"):
        raise ValueError("broken")
    assert watch.current == "masks"
    assert watch.timings_ms == {}
    assert metrics.seconds["stage", "masks"] == []
