"""`services.codecs.render`: what a picture shows, and what it leaves alone."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image

from limelight.values import Box
from services.codecs import render
from tests.hostile import picture


def disc(size: tuple[int, int], center: tuple[float, float], radius: float) -> np.ndarray:
    """A mask of (height, width) `size` with a disc around (x, y) `center`."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (x + 0.5 - center[0]) ** 2 + (y + 0.5 - center[1]) ** 2 < radius**2


SIZE = (300, 400)
RGB = np.asarray(picture(400, 300))
DISC = disc(SIZE, (200, 150), 80)
INNER, OUTSIDE = disc(SIZE, (200, 150), 70), ~disc(SIZE, (200, 150), 90)
NOTHING = np.zeros(SIZE, np.bool_)


def test_colors_are_fixed_and_apart() -> None:
    colors = [render.instance_color(id) for id in range(1, 13)]
    assert colors == [render.instance_color(id) for id in range(1, 13)]
    for a, b in itertools.combinations(colors, 2):
        assert math.dist(a, b) > 40
    assert all(0 <= channel <= 255 for id in range(1, 400) for channel in render.instance_color(id))


def test_overlay_tints_the_mask_and_nothing_else() -> None:
    shown = render.overlay(RGB, [DISC], fill=0.3)
    assert shown.shape == RGB.shape
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[OUTSIDE], RGB[OUTSIDE])
    color = np.asarray(render.instance_color(1))
    expected = 0.7 * RGB[INNER] + 0.3 * color
    assert np.abs(shown[INNER] - expected).max() <= 2


def test_overlay_draws_an_outline_in_the_instance_s_color() -> None:
    shown = render.overlay(RGB, [DISC], ids=[5], fill=0.0)
    color = np.asarray(render.instance_color(5))
    near = np.abs(shown.astype(int) - color).sum(axis=2) < 100
    y, x = np.nonzero(near & ~OUTSIDE & ~INNER)
    angles = np.arctan2(y - 150, x - 200)
    assert len(np.unique((angles * 18 / np.pi).round())) >= 36  # all the way round
    assert np.array_equal(shown[INNER], RGB[INNER])


def test_an_outline_does_not_run_along_the_image_s_border() -> None:
    whole = np.ones(SIZE, np.bool_)
    shown = render.overlay(np.zeros_like(RGB), [whole])
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("side", [24, 64, 256, 1600])
def test_tags_stay_inside_and_change_only_their_place(side: int) -> None:
    rgb = np.full((side, side, 3), 128, np.uint8)
    corners = [(0, 0), (side, 0), (0, side), (side, side)]
    masks = [disc((side, side), corner, side / 5) for corner in corners]
    plain = render.overlay(rgb, masks)
    tagged = render.overlay(rgb, masks, ["a very long name indeed " * 40] * 4, scores=[0.5] * 4)
    assert tagged.shape == rgb.shape
    assert (plain != tagged).any()


def test_tags_keep_off_each_other_where_there_is_room() -> None:
    size = (600, 800)
    masks = [disc(size, (250 + 60 * i, 300), 28) for i in range(6)]
    extents = [render._extent(mask) for mask in masks]
    tags = [render._Tag(f"thing {i}", 0.9, (1, 2, 3), e) for i, e in enumerate(extents) if e]
    crowd = render._Crowd(masks[0].shape)
    for mask in masks:
        crowd.add(mask)
    spots = render._placed(tags, [(120, 30)] * len(tags), (800, 600), crowd)
    for a, b in itertools.combinations(spots, 2):
        assert a.shared(b) == 0
    for spot in spots:
        assert spot.x0 >= 0
        assert spot.y0 >= 0
        assert spot.x1 <= 800
        assert spot.y1 <= 600


def test_boxes_are_drawn() -> None:
    shown = render.overlay(RGB, [NOTHING], boxes=[Box(10.0, 20.0, 60.0, 90.0)])
    color = render.instance_color(1)
    for x, y in ((10, 20), (59, 89), (30, 20), (10, 50)):
        assert tuple(shown[y, x].tolist()) == color
    assert np.array_equal(shown[:, 60:], RGB[:, 60:])


def test_spotlight_dims_and_drains_what_is_not_selected() -> None:
    shown = render.spotlight(RGB, [DISC])
    far = ~disc(SIZE, (200, 150), 130)
    assert shown[far].mean() < 0.55 * RGB[far].mean()
    assert np.ptp(shown[far], axis=1).mean() < 0.4 * np.ptp(RGB[far], axis=1).mean()
    assert np.abs(shown[INNER].astype(int) - RGB[INNER]).mean() < 12
    near = disc(SIZE, (200, 150), 100) & OUTSIDE
    assert shown[near].mean() / RGB[near].mean() > 1.1 * shown[far].mean() / RGB[far].mean()


def test_cutout_holds_the_selection_and_nothing_else() -> None:
    rgba = render.cutout(RGB, [DISC])
    assert rgba.shape == (160, 160, 4)
    inside = DISC[70:230, 120:280]
    assert (rgba[~inside] == 0).all()
    assert (rgba[inside][:, 3] > 0).all()
    assert np.array_equal(rgba[..., :3][inside], RGB[DISC])
    assert (rgba[INNER[70:230, 120:280]][:, 3] == 255).all()
    assert rgba[inside][:, 3].min() < 255


def test_a_cutout_need_not_be_cropped_nor_hold_anything() -> None:
    assert render.cutout(RGB, [DISC], crop=False).shape == (300, 400, 4)
    for masks in ([], [NOTHING]):
        rgba = render.cutout(RGB, masks)
        assert rgba.shape == (300, 400, 4)
        assert not rgba.any()


def test_background_becomes_a_color() -> None:
    shown = render.replace_background(RGB, [DISC], (10, 200, 30))
    assert (shown[~DISC] == (10, 200, 30)).all()
    assert np.array_equal(shown[INNER], RGB[INNER])


def test_background_becomes_an_image_that_covers() -> None:
    behind = np.zeros((90, 300, 3), np.uint8)
    behind[:, 90:210] = (0, 0, 255)  # the middle 4:3 of it
    shown = render.replace_background(RGB, [DISC], behind)
    edge = 8  # interpolation reaches a little over the cut
    assert (shown[:, edge:-edge][~DISC[:, edge:-edge]] == (0, 0, 255)).all()


def test_arguments_are_left_alone_and_checked() -> None:
    rgb, mask = RGB.copy(), DISC.copy()
    render.overlay(rgb, [mask], ["x"])
    render.spotlight(rgb, [mask])
    render.replace_background(rgb, [mask], (0, 0, 0))
    assert np.array_equal(rgb, RGB)
    assert np.array_equal(mask, DISC)
    with pytest.raises(ValueError, match="2 labels for 1 masks"):
        render.overlay(RGB, [DISC], ["a", "b"])
    with pytest.raises(ValueError, match="a mask of"):
        render.spotlight(RGB, [DISC[:10]])
    with pytest.raises(ValueError, match="an image is"):
        render.cutout(RGB[..., 0], [DISC])


def test_results_are_arrays_of_their_own() -> None:
    for shown in (
        render.overlay(RGB, []),
        render.spotlight(RGB, []),
        render.replace_background(RGB, [], (0, 0, 0)),
    ):
        assert isinstance(shown, np.ndarray)
        assert not np.shares_memory(shown, RGB)
        Image.fromarray(shown)
