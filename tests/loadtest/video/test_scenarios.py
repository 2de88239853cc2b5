import pytest

from loadtest.metrics import Counts
from loadtest.usage import CLIENT, GATEWAY, TRACKER
from loadtest.video.scenarios import (
    ClipFigures,
    CrowdFigures,
    EnduranceFigures,
    SessionSample,
    StageCost,
    stage_costs,
)

GATEWAY_COUNTS: Counts = {
    ("limelight_cpu_seconds_total", "", "demux"): 0.2,
    ("limelight_cpu_seconds_total", "", "picture"): 0.0,
    ("limelight_stage_seconds_sum", "", "demux"): 9.0,
}
REPLICA_COUNTS: Counts = {
    ("limelight_cpu_seconds_total", "tracker", "encode"): 6.0,
    ("limelight_cpu_seconds_total", "tracker", "decode"): 1.0,
    # The segmenter is another service.
    ("limelight_cpu_seconds_total", "segmenter", "encode"): 50.0,
}


def test_each_stage_costs_what_its_threads_took_and_the_rest_is_network() -> None:
    costs = stage_costs(
        GATEWAY_COUNTS,
        REPLICA_COUNTS,
        {TRACKER: 7.5, GATEWAY: 0.5, CLIENT: 0.1},
        {TRACKER: 0.1, CLIENT: 0.7},
        100,
    )
    found = {(cost.name, cost.place): (cost.cpu_ms, cost.model) for cost in costs}
    assert found == {
        ("demux", GATEWAY): (2.0, False),
        ("encode", TRACKER): (60.0, True),
        ("decode", TRACKER): (10.0, False),
        ("network", TRACKER): (pytest.approx(4.0), False),
        ("network", GATEWAY): (pytest.approx(3.0), False),
        ("network", CLIENT): (0.0, False),
    }


def test_a_stage_that_took_more_than_its_process_leaves_nothing() -> None:
    """A process's clock is coarser than its threads'."""
    costs = stage_costs({}, REPLICA_COUNTS, {TRACKER: 6.99}, {}, 100)
    assert [cost.cpu_ms for cost in costs if cost.name == "network"] == [0.0]


def test_shares_are_of_all_processes() -> None:
    stages = (StageCost("encode", TRACKER, 60.0, True), StageCost("network", GATEWAY, 20.0))
    clip = ClipFigures(1920, 1080, 10, 1.0, 2.0, stages, 0.1, {})
    assert clip.cpu_ms == 80.0
    assert [clip.share(stage) for stage in stages] == [0.75, 0.25]


def sample(frames: int, seconds: float, replica_bytes: float) -> SessionSample:
    return SessionSample(frames, seconds, seconds / 2, replica_bytes, 1.0)


def test_a_session_that_slows_down_and_grows_is_seen() -> None:
    samples = [sample(n, n / 10, 1e9) for n in range(20, 501, 20)]
    samples += [sample(n, 50 + (n - 500) / 5, 1e9 + (n - 500) * 1e5) for n in range(520, 1001, 20)]
    long = EnduranceFigures(tuple(samples))
    first, last = long.rates()
    assert (first, last) == (pytest.approx(10.0), pytest.approx(5.0))
    assert long.cpu_ms() == (pytest.approx(50.0), pytest.approx(100.0))
    assert long.growth_bytes() == pytest.approx(5e7)
    assert long.bytes_a_thousand_frames() > 4e7


def test_a_session_that_stays_as_it_is_is_flat_whatever_its_first_frames_take() -> None:
    samples = [sample(n, n / 10, 5e8 + min(n, 200) * 1e6) for n in range(20, 1001, 20)]
    long = EnduranceFigures(tuple(samples))
    first, last = long.rates()
    assert first == pytest.approx(last)
    assert long.growth_bytes() == 0
    assert long.bytes_a_thousand_frames() == 0


def test_a_crowd_is_held_against_the_engine_over_all_rounds() -> None:
    crowd = CrowdFigures((8.0, 10.0), (10.0, 10.0), 4.0, 5.0, "OVERLOADED", 1.0)
    assert crowd.ratio == 0.9


def test_answers_that_were_held_back_to_the_end_make_nothing_faster() -> None:
    samples = [sample(n, n / 10, 1e9) for n in range(20, 981, 20)] + [sample(1000, 98.0, 1e9)]
    assert EnduranceFigures(tuple(samples)).rates() == (pytest.approx(10.0), pytest.approx(10.0))
