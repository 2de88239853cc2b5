"""A request's times."""

import threading
import time

import pytest

from services.stages import StageTimer, with_cpu


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


def test_a_timer_without_an_end_tells_each_time_as_it_comes() -> None:
    told: list[tuple[str, float]] = []
    with StageTimer(None, trace=lambda name, seconds: told.append((name, seconds))) as timer:
        timer.add("select", 0.5)
        timer.add("select", 0.25)
        assert told == [("select", 0.5), ("select", 0.25)]
    assert timer.timings_ms == {"select": 750.0}
    assert len(told) == 2


def test_waiting_costs_no_cpu_and_working_does() -> None:
    waited = threading.Event()
    threading.Timer(0.3, waited.set).start()
    came, cpu_s = with_cpu(waited.wait, timeout=60)
    assert came
    assert cpu_s < 0.2

    def burn(until_s: float) -> str:
        while time.thread_time() < until_s:
            pass
        return "done"

    result, cpu_s = with_cpu(burn, time.thread_time() + 0.05)
    assert result == "done"
    assert cpu_s >= 0.05 - 1e-3
