"""The demo's committed pictures are what the showpieces draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.cli import demo
from services.codecs.videos.decode import VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.selection import FrameSelection
from training.world.showpieces import CLIP_FRAMES, SHOWPIECES, Showpiece, draw, walk


@pytest.mark.parametrize("piece", SHOWPIECES, ids=lambda piece: piece.name)
def test_the_committed_picture_is_the_drawn_one(piece: Showpiece, tmp_path: Path):
    draw(piece, tmp_path / "drawn.png")
    drawn = np.asarray(Image.open(tmp_path / "drawn.png"))
    assert np.array_equal(drawn, np.asarray(Image.open(demo.PICTURES / f"{piece.name}.png")))


def test_every_picture_of_the_demo_has_a_showpiece():
    assert {piece.name for piece in SHOWPIECES} == set(demo.SHOWPIECES)


def test_the_clip_shows_an_occlusion_and_a_return():
    """Of its dogs the first is nearly all covered for a while, the other leaves and comes back."""
    with (demo.PICTURES / demo.CLIP).open("rb") as file, Demuxer(file) as demuxer:
        decoder = VideoDecoder(demuxer.header, selection=FrameSelection())
        pictures = [frame.pixels for gop in demuxer.gops() for frame in decoder.decode(gop)]
        pictures += [frame.pixels for frame in decoder.flush()]
    frames = list(walk().frames())
    assert len(pictures) == len(frames) == CLIP_FRAMES
    for drawn, decoded in zip(frames, pictures, strict=True):
        assert np.abs(drawn.image.astype(int) - decoded).mean() < 6
    seen = {number: [frame.visibility[number] for frame in frames] for number in (1, 4)}
    assert min(seen[1]) < 0.2
    assert seen[4][0] == seen[4][-1] == 1.0
    assert seen[4].count(0.0) > 10
    assert all(shares[0] == shares[-1] == 1.0 for shares in seen.values())
