"""The second renderer keeps to the world's definition, and its truth is what it drew."""

import ast
import inspect
import io
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from training.evaluation import second_backgrounds, second_renderer
from training.evaluation.second_backgrounds import BackgroundKind, paint
from training.evaluation.second_renderer import (
    SecondRenderer,
    Sticker,
    background_kind,
)
from training.world import splits
from training.world.scenes import Scene
from training.world.splits import SECOND_HELD_OUT

SEEDS = SECOND_HELD_OUT[:24]


@pytest.fixture(scope="module")
def renderer() -> SecondRenderer:
    return SecondRenderer.load()


@pytest.fixture(scope="module")
def scenes(renderer: SecondRenderer) -> dict[int, Scene]:
    return {seed: renderer.scene(seed) for seed in SEEDS}


def pixels_of(sticker: Sticker, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of the frame where the sticker is opaque, one at a time."""
    for row, column in np.argwhere(sticker.alpha > 0.5).tolist():
        y, x = row + sticker.top, column + sticker.left
        if 0 <= y < size[1] and 0 <= x < size[0]:
            yield y, x


@pytest.mark.slow
def test_the_truth_is_a_recount_of_what_lies_on_top(renderer: SecondRenderer) -> None:
    hidden = 0
    for seed in sorted(SEEDS, key=lambda seed: renderer.background(seed).size)[:8]:
        scene, stickers = renderer.scene(seed), renderer.stickers(seed)
        owner = np.full((scene.size[1], scene.size[0]), -1)
        for number, sticker in enumerate(stickers):
            for y, x in pixels_of(sticker, scene.size):
                owner[y, x] = number
        assert len(scene.instances) == len(stickers)
        for number, (sticker, instance) in enumerate(zip(stickers, scene.instances, strict=True)):
            np.testing.assert_array_equal(instance.mask, owner == number)
            seen, whole = (owner == number).sum(), (sticker.alpha > 0.5).sum()
            assert instance.concept == sticker.concept
            assert instance.area == seen
            assert instance.visible_fraction == pytest.approx(seen / whole)
            little = seen / whole < 0.4 or seen < 0.0015 * owner.size
            assert instance.dont_care == little
            hidden += instance.visible_fraction < 1
    assert hidden > 2


@pytest.mark.slow
def test_stickers_are_drawn_where_the_truth_says_and_nowhere_else(
    renderer: SecondRenderer, scenes: dict[int, Scene]
) -> None:
    for seed, scene in scenes.items():
        touched = np.zeros(scene.image.shape[:2], bool)
        for sticker in renderer.stickers(seed):
            rows, columns = np.nonzero(sticker.alpha > 0)
            y, x = rows + sticker.top, columns + sticker.left
            inside = (y >= 0) & (y < touched.shape[0]) & (x >= 0) & (x < touched.shape[1])
            touched[y[inside], x[inside]] = True
        bare = renderer.background(seed)
        np.testing.assert_array_equal(scene.image[~touched], bare[~touched])
        masked = np.any([instance.mask for instance in scene.instances], axis=0)
        assert (scene.image[masked] != bare[masked]).any(axis=-1).mean() > 0.95


def test_boxes_are_tight(scenes: dict[int, Scene]) -> None:
    for scene in scenes.values():
        for instance in scene.instances:
            x0, y0, x1, y1 = instance.box
            assert instance.visible.shape == (y1 - y0, x1 - x0)
            if instance.area:
                rows, columns = np.nonzero(instance.mask)
                assert (columns.min(), rows.min()) == (x0, y0)
                assert (columns.max() + 1, rows.max() + 1) == (x1, y1)


def test_the_same_seed_gives_the_same_scene_and_file(
    renderer: SecondRenderer, scenes: dict[int, Scene]
) -> None:
    seed = SEEDS[3]
    again = renderer.scene(seed)
    np.testing.assert_array_equal(again.image, scenes[seed].image)
    assert [i.box for i in again.instances] == [i.box for i in scenes[seed].instances]
    assert renderer.file(again, seed) == renderer.file(scenes[seed], seed)
    assert not np.array_equal(renderer.scene(SEEDS[4]).image, again.image)


@pytest.mark.slow
def test_frames_counts_and_sizes_keep_to_the_worlds_bounds(renderer: SecondRenderer) -> None:
    frames, counts, kinds, longer = set(), set(), set(), []
    for seed in SECOND_HELD_OUT[100:220]:
        stickers = renderer.stickers(seed)
        frame = second_renderer._frame(seed)
        assert 256 <= min(frame) <= max(frame) <= 1600
        assert 0.5 <= frame[0] / frame[1] <= 2
        frames.add(frame)
        counts.add(len(stickers))
        kinds.add(len({sticker.concept for sticker in stickers}))
        # A turned box is larger than the upright sprite: by cos 25 + sin 25 = 1.33 at most.
        longer += [max(s.alpha.shape) / min(frame) for s in stickers]
    assert counts == set(range(1, 9))
    assert kinds == set(range(1, 6))
    assert min(longer) > 0.13
    assert 0.5 < max(longer) < 0.5 * 1.35
    assert len(frames) > 100


def test_an_upright_sticker_is_as_long_as_asked(renderer: SecondRenderer) -> None:
    for concept in renderer.vocabulary.concepts:
        color, alpha = second_renderer._posed(
            renderer.sprites[concept.index], 90.0, 0.0, mirrored=False
        )
        rows, columns = np.nonzero(alpha > 0.5)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(90, abs=4)
        assert (color <= 255 * alpha[..., None] + 1e-3).all(), "brighter than its alpha allows"


def test_scenes_overlap_reach_over_the_edge_and_hide(scenes: dict[int, Scene]) -> None:
    instances = [instance for scene in scenes.values() for instance in scene.instances]
    cut = [i for i in instances if i.area and 0 < i.visible_fraction < 1]
    assert 0.1 < len(cut) / len(instances) < 0.7
    assert any(i.dont_care for i in instances)


def test_files_are_png_or_jpeg_that_show_the_scene(
    renderer: SecondRenderer, scenes: dict[int, Scene]
) -> None:
    formats = set()
    for seed, scene in scenes.items():
        with Image.open(io.BytesIO(renderer.file(scene, seed))) as opened:
            formats.add(opened.format)
            shown = np.asarray(opened.convert("RGB")).astype(int)
        assert np.abs(shown - scene.image).mean() < (1e-9 if opened.format == "PNG" else 12)
    assert formats == {"PNG", "JPEG"}


@pytest.mark.parametrize("kind", BackgroundKind)
def test_every_kind_of_background_fills_any_frame(kind: BackgroundKind) -> None:
    for seed, size in enumerate([(97, 61), (61, 122), (300, 256)]):
        canvas = paint(np.random.default_rng(seed), size, kind)
        assert canvas.shape == (size[1], size[0], 3)
        assert canvas.dtype == np.uint8
        again = paint(np.random.default_rng(seed), size, kind)
        np.testing.assert_array_equal(canvas, again)


def test_kinds_of_background_take_turns() -> None:
    assert {background_kind(seed) for seed in SEEDS} == set(BackgroundKind)


def test_it_draws_with_nothing_of_the_first_renderer() -> None:
    for module in (second_renderer, second_backgrounds):
        imported = {
            (node.module, name.name)
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        of_stickers = {pair for pair in imported if str(pair[0]).startswith("training.")}
        assert of_stickers <= {
            ("training.world.scenes", "SceneInstance"),
            ("training.world.scenes", "Scene"),
            ("training.world.vocabulary", "Concept"),
            ("training.world.vocabulary", "Vocabulary"),
            ("training.evaluation.second_backgrounds", "BackgroundKind"),
            ("training.evaluation.second_backgrounds", "paint"),
        }


def test_no_two_splits_share_a_seed() -> None:
    ranges = [value for value in vars(splits).values() if isinstance(value, range)]
    assert len(ranges) >= 5
    ranges.sort(key=lambda seeds: seeds.start)
    for one, other in itertools.pairwise(ranges):
        assert one.stop <= other.start
