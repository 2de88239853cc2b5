"""The second clip renderer keeps to the world's definition, and its truth is what it drew."""

import ast
import inspect
from collections import Counter

import numpy as np
import pytest

from training.evaluation import second_clips, second_motion
from training.evaluation.second_clips import SecondClip, SecondClipWorld
from training.evaluation.second_motion import visit
from training.evaluation.worlds import World
from training.world.clips import Clip
from training.world.splits import SECOND_HELD_OUT

SIZE = (160, 120)
SEEDS = SECOND_HELD_OUT[:12]


@pytest.fixture(scope="module")
def clips() -> dict[int, SecondClip]:
    return {seed: SecondClipWorld().clip(seed, size=SIZE, frame_count=40) for seed in SEEDS}


def test_clips_keep_to_the_worlds_bounds() -> None:
    lengths = set()
    for seed in SECOND_HELD_OUT[:150]:
        clip = SecondClipWorld().clip(seed)
        lengths.add(clip.frame_count)
        assert 256 <= min(clip.width, clip.height) <= max(clip.width, clip.height) <= 640
        assert 0.49 <= clip.width / clip.height <= 2.01
        assert clip.width % 2 == clip.height % 2 == 0
        assert 12 <= clip.frame_count <= 90
        assert 10 <= clip.rate <= 24
        assert [member.id for member in clip.objects] == list(range(1, len(clip.objects) + 1))
    assert len(lengths) > 40


def test_the_truth_is_a_recount_of_what_lies_on_top(clips: dict[int, SecondClip]) -> None:
    hidden = 0
    for clip in list(clips.values())[:6]:
        for index in range(0, 40, 13):
            frame = next(clip.frames([index]))
            owner = np.zeros((SIZE[1], SIZE[0]), int)
            whole = {}
            for number, sticker in clip.stickers(index):
                rows, columns = np.nonzero(sticker.alpha > 0.5)
                whole[number] = len(rows)
                rows, columns = rows + sticker.top, columns + sticker.left
                inside = (rows >= 0) & (rows < SIZE[1]) & (columns >= 0) & (columns < SIZE[0])
                owner[rows[inside], columns[inside]] = number
            assert set(frame.masks) == set(np.unique(owner)) - {0}
            for number in (member.id for member in clip.objects):
                seen = int((owner == number).sum())
                share = seen / whole[number] if seen else 0.0
                assert frame.visibility[number] == pytest.approx(share)
                if seen:
                    np.testing.assert_array_equal(frame.masks[number], owner == number)
                    hidden += share < 0.9
    assert hidden > 5


def test_the_same_seed_gives_the_same_clip(clips: dict[int, SecondClip]) -> None:
    seed = SEEDS[3]
    again = SecondClipWorld().clip(seed, size=SIZE, frame_count=40)
    for a, b in zip(clips[seed].frames([0, 39]), again.frames([0, 39]), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    with pytest.raises(IndexError):
        next(again.frames([40]))


def test_backgrounds_show_where_no_sticker_lies(clips: dict[int, SecondClip]) -> None:
    clip = next(c for c in clips.values() if (c.sceneries[0].light == 1).all() and not c.cuts)
    frame, scenery = next(clip.frames([7])), clip.sceneries[0]
    left, top = scenery.window[7]
    bare = clip.background(scenery)[top : top + SIZE[1], left : left + SIZE[0]]
    touched = np.zeros((SIZE[1], SIZE[0]), bool)
    for _, sticker in clip.stickers(7):
        at, own = sticker.within(SIZE)
        touched[at] |= sticker.alpha[own] > 0
    np.testing.assert_array_equal(frame.image[~touched], bare[~touched])


def test_clips_are_hard_in_the_ways_they_should_be() -> None:
    found = Counter[str]()
    for seed in SECOND_HELD_OUT[:150]:
        clip = SecondClipWorld().clip(seed, size=SIZE, frame_count=60)
        concepts = Counter(member.concept for member in clip.objects)
        found["alike"] += max(concepts.values()) > 1
        found["cut"] += bool(clip.cuts)
        out = False
        for place in clip.sceneries:
            for sticker in place.stickers:
                reach = 0.6 * sticker.longer[:, None]
                inside = (sticker.centers > -reach) & (sticker.centers < np.array(SIZE) + reach)
                gone = ~inside.all(axis=1)
                out |= bool(gone.any() and not gone[0] and not gone[-1])
        found["back"] += out
    assert found["alike"] >= 75
    assert found["back"] >= 40
    assert found["cut"] >= 5


def test_a_visit_ends_in_the_frame() -> None:
    for seed in range(30):
        path = visit(np.random.default_rng(seed), np.arange(60) / 15, np.array([0.2, 0.2]))
        out = ((path < -0.2) | (path > 1.2)).any(axis=1)
        assert out.sum() >= 3
        assert not out[[0, -1]].any()


def test_it_moves_and_draws_with_nothing_of_the_first_renderer() -> None:
    for module in (second_clips, second_motion):
        imported = {
            (node.module, name.name)
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
            if str(node.module).startswith("training.world")
        }
        assert imported <= {
            ("training.world.clips", "ClipFrame"),
            ("training.world.clips", "ClipObject"),
            ("training.world.vocabulary", "Concept"),
        }


def test_each_world_makes_its_own_clips() -> None:
    made = [world.clips.clip(1, size=SIZE, frame_count=12) for world in World]
    assert [type(clip) for clip in made] == [Clip, SecondClip]
