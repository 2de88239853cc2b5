"""What a load takes, by hand and by the function."""

import pytest

from loadtest.capacity import Costs, Need, Traffic, need

COSTS = Costs(segmenter_s=0.03, planner_s=0.06, gateway_s=0.004, proxy_s=0.002)


def test_each_part_is_busy_for_its_share_of_the_time() -> None:
    found = need(Traffic(1000, instructions=0.5, known_plans=0.2), COSTS, 0.75, cell_gpus=16)
    assert found == Need(
        segmenters=40,  # 1000 * 0.03 / 0.75
        planners=32,  # 400 plans a second * 0.06 / 0.75
        gateway_cores=6,  # 1000 * 0.004 / 0.75 = 5.3
        cells=3,
        busiest_proxy=pytest.approx(1000 / 40 * 0.002),
    )
    assert found.saturates_first == "segmenter"


def test_without_instructions_there_is_no_planner() -> None:
    found = need(Traffic(1, instructions=0.0), COSTS, 0.7, cell_gpus=64)
    assert (found.segmenters, found.planners, found.cells) == (1, 0, 1)


def test_plans_that_nobody_has_asked_for_make_the_planner_the_first() -> None:
    found = need(Traffic(1000), COSTS, 0.7, cell_gpus=64)
    assert found.planners > found.segmenters
    assert found.saturates_first == "planner"
