"""The floors of the regression gate, which `tests/e2e/test_shipped_serve.py` runs."""

import dataclasses

import pytest

from training.evaluation.figures import count
from training.evaluation.floors import FLOORS, Bounds
from training.evaluation.worlds import World


@pytest.mark.parametrize("world", World)
def test_every_figure_of_each_world_has_a_floor_that_can_be_missed(world: World) -> None:
    floors = FLOORS[world]
    assert None not in dataclasses.astuple(floors)
    # EvaluationFigures of nothing are all 0: below every floor, and without a false instance.
    nothing = count([], [], [], [])
    assert len(floors.broken(nothing)) == len(dataclasses.fields(Bounds)) - 1
    false = dataclasses.replace(
        nothing, phrases=dataclasses.replace(nothing.phrases, false_per_absent=1.0)
    )
    assert len(floors.broken(false)) == len(dataclasses.fields(Bounds))
