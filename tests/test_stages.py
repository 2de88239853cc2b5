"""A request's times."""

import pytest

from services.stages import StageTimer


def test_a_stage_that_runs_twice_adds_up_and_is_observed_once() -> None:
    observed: list[tuple[str, float]] = []
    with StageTimer(lambda name, seconds: observed.append((name, seconds))) as timer:
        with timer.stage("select"):
            assert timer.current == "select"
        timer.add("detect", 0.25)
        timer.add("select", 0.5)
        assert observed == []
    assert list(timer.timings_ms) == ["select", "detect"]
    assert timer.timings_ms["detect"] == 250
    assert timer.timings_ms["select"] >= 500
    assert observed == [(name, ms / 1000) for name, ms in timer.timings_ms.items()]


def test_time_spent_in_a_stage_that_fails_counts() -> None:
    observed: list[str] = []
    timer = StageTimer(lambda name, seconds: observed.append(name), first="decode")
    assert timer.current == "decode"
    with pytest.raises(ValueError, match="broken"), timer, timer.stage("masks"):
        raise ValueError("broken")
    assert timer.current == "masks"
    assert observed == ["masks"]
    assert timer.timings_ms["masks"] >= 0
