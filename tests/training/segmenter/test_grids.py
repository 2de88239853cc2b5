import numpy as np
import pytest
from transformers import Sam3Config

from tests.training.segmenter.parts import GRIDS, tiny_model
from training.segmenter.grids import Grids, coverage, normalized_box
from training.world.scenes import Placement, compose
from training.world.vocabulary import Vocabulary

NAMES = Vocabulary.load().by_name


def test_grids_of_the_tiny_and_of_the_real_architecture():
    assert Grids.of(tiny_model().config) == GRIDS
    assert Grids.of(Sam3Config()) == Grids(image=1008, tokens=72, masks=288)


@pytest.mark.parametrize("grid", [7, 40])
def test_coverage_keeps_the_area_and_lies_in_the_box(grid: int):
    background = np.zeros((90, 130, 3), np.uint8)
    scene = compose([Placement(NAMES["house"], (0.4, 0.6), 0.5)], background)
    (house,) = scene.instances
    cells = coverage(house, grid)
    assert cells.mean().item() == pytest.approx(house.area / (90 * 130), rel=1e-4)
    assert cells.max() <= 1 + 1e-5
    cx, cy, width, height = normalized_box(house)
    rows, columns = cells.nonzero().T
    for along, center, side in ((columns, cx, width), (rows, cy, height)):
        assert int(along.min()) == int((center - side / 2) * grid)
        assert int(along.max()) <= (center + side / 2) * grid
