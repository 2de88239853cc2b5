"""Clips are the same each time, their truth is exact, and what is hard in them is really there."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from training.world.casting import Track
from training.world.clips import Clip, ClipFrame, ClipWorld
from training.world.vocabulary import Vocabulary

SMALL = (160, 120)


@pytest.fixture(scope="module")
def world() -> ClipWorld:
    return ClipWorld()


def small(world: ClipWorld, seed: int, frame_count: int = 40) -> Clip:
    return world.clip(seed, size=SMALL, frame_count=frame_count)


def assert_same(one: ClipFrame, other: ClipFrame) -> None:
    assert (one.index, one.time_s, one.visibility) == (other.index, other.time_s, other.visibility)
    assert np.array_equal(one.image, other.image)
    assert one.masks.keys() == other.masks.keys()
    assert all(np.array_equal(one.masks[number], other.masks[number]) for number in one.masks)


def test_a_seed_gives_the_same_clip_in_any_order(world: ClipWorld) -> None:
    clip = small(world, 7, 20)
    frames = list(clip.frames())
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == [index / clip.rate for index in range(20)]
    again = {
        frame.index: frame for frame in ClipWorld().clip(7, size=SMALL, frame_count=20).frames()
    }
    for frame in clip.frames([13, 2, 19]):
        assert_same(frame, frames[frame.index])
        assert_same(frame, again[frame.index])
    with pytest.raises(IndexError, match="frame 20 of a clip of 20"):
        next(clip.frames([20]))


def test_sizes_lengths_and_rates_are_those_of_the_world(world: ClipWorld) -> None:
    for seed in range(200):
        clip = world.clip(seed)
        assert 256 <= min(clip.size) <= max(clip.size) <= 640
        assert max(clip.size) <= 2 * min(clip.size) + 1
        assert 12 <= clip.frame_count <= 90
        assert 10 <= clip.rate <= 24
        assert 1 <= len(clip.objects) <= 6
        assert [member.id for member in clip.objects] == list(range(1, len(clip.objects) + 1))


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_the_pixels_that_stickers_changed(world: ClipWorld, seed: int) -> None:
    clip = small(world, seed, 16)
    empty = replace(clip, shots=tuple(replace(shot, tracks=()) for shot in clip.shots))
    ids = {member.id for member in clip.objects}
    for frame, without in zip(clip.frames(), empty.frames(), strict=True):
        assert frame.image.shape == (120, 160, 3)
        assert frame.visibility.keys() == ids
        changed = (frame.image != without.image).any(2)
        covered = np.zeros_like(changed)
        for number, mask in frame.masks.items():
            assert mask.any()
            assert not (covered & mask).any()
            assert 0 < frame.visibility[number] <= 1
            covered |= mask
        for number in ids - frame.masks.keys():
            assert frame.visibility[number] == 0
        # A sticker's color may equal what is behind it; its soft rim is not in its mask.
        assert (changed & covered).sum() >= 0.95 * covered.sum()
        rim = covered.copy()
        for axis in (0, 1):
            for step in (-2, -1, 1, 2):
                rim |= np.roll(covered, step, axis)
        assert (changed & ~rim).sum() <= 0.05 * covered.sum() + 40


def test_what_is_hard_is_there(world: ClipWorld) -> None:
    found = dict.fromkeys(("lookalikes", "crossing", "return", "late", "cut", "pan"), 0)
    for seed in range(40):
        clip = small(world, seed)
        concepts = [member.concept for member in clip.objects]
        found["lookalikes"] += len(set(concepts)) < len(concepts)
        found["cut"] += bool(clip.cuts)
        found["pan"] += any(np.ptp(shot.camera, axis=0).any() for shot in clip.shots)
        frames = list(clip.frames())
        crossing = returned = late = False
        for member in clip.objects:
            course = np.array([frame.visibility[member.id] for frame in frames])
            seen = np.flatnonzero(course > 0)
            if not len(seen):
                continue
            late |= bool(seen[0] > 0)
            returned |= any(b - a > 3 for a, b in pairwise(seen))
            for frame, share in zip(frames, course, strict=True):
                mask = frame.masks.get(member.id)
                if mask is not None and share < 0.4:
                    edge = mask[[0, -1]].any() or mask[:, [0, -1]].any()
                    crossing |= not edge
        found["crossing"] += crossing
        found["return"] += returned
        found["late"] += late
    assert found["lookalikes"] >= 15
    assert found["crossing"] >= 10
    assert found["return"] >= 8
    assert found["late"] >= 5
    assert found["cut"] >= 2
    assert found["pan"] >= 6


def inside(track: Track) -> NDArray[np.bool_]:
    """In which frames of its shot a sticker's center is in the frame, or nearly."""
    half = 0.5 * track.longer_side[:, None]
    return np.asarray(
        ((track.centers > -half) & (track.centers < np.array(SMALL) + half)).all(axis=1)
    )


def test_identity_can_be_told(world: ClipWorld) -> None:
    """Of several of one concept, at most one is out of sight for a while."""
    for seed in range(60):
        for shot in small(world, seed).shots:
            outside = [t.concept.name for t in shot.tracks if not inside(t).all()]
            several = [t.concept.name for t in shot.tracks]
            for concept in set(outside):
                assert outside.count(concept) == 1 or several.count(concept) == 1, (seed, concept)


def test_things_move_smoothly_while_they_are_seen(world: ClipWorld) -> None:
    fastest = []
    for seed in range(100):
        for shot in small(world, seed).shots:
            for track in shot.tracks:
                seen = inside(track)
                steps = np.hypot(*np.diff(track.centers + shot.camera, axis=0).T)
                fastest.append(steps[seen[1:] & seen[:-1]].max(initial=0.0) / min(SMALL))
                assert np.abs(np.diff(track.degrees)).max(initial=0) < 25
    # A few dart across; in shorter sides a frame.
    assert np.quantile(fastest, 0.95) < 0.25
    assert max(fastest) < 0.7


def test_a_frame_as_a_scene(world: ClipWorld) -> None:
    names = Vocabulary.load().by_name
    for seed in range(10):
        clip = small(world, seed, 12)
        scene, ids = clip.scene(6)
        (frame,) = clip.frames([6])
        assert ids == tuple(frame.masks)
        concepts = {member.id: member.concept for member in clip.objects}
        for number, instance in zip(ids, scene.instances, strict=True):
            assert np.array_equal(instance.mask, frame.masks[number])
            assert instance.concept == names[concepts[number]]
            assert instance.dont_care == (number in frame.dont_care)
        assert set(frame.wanted) | set(frame.dont_care) == set(ids)
