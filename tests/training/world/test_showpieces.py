"""The demo's committed pictures are what the showpieces draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.cli import demo
from training.world.showpieces import SHOWPIECES, Showpiece, draw


@pytest.mark.parametrize("piece", SHOWPIECES, ids=lambda piece: piece.name)
def test_the_committed_picture_is_the_drawn_one(piece: Showpiece, tmp_path: Path):
    draw(piece, tmp_path / "drawn.png")
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert np.array_equal(drawn, np.asarray(Image.open(demo.PICTURES / f"{piece.name}.png")))


def test_every_picture_of_the_demo_has_a_showpiece():
    assert {piece.name for piece in SHOWPIECES} == set(demo.SHOWPIECES)
