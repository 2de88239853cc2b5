"""Clips keep to the world's definition, and their truth is what was drawn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.world.clips import Clip, ClipFrame, ClipWorld, scene_of
from training.world.sprites import SpriteSheet
from training.world.vocabulary import Vocabulary

SIZE = (160, 120)
SEEDS = range(40)


@pytest.fixture(scope="module")
def clips() -> dict[int, Clip]:
    return {seed: ClipWorld().clip(seed, size=SIZE) for seed in SEEDS}


@pytest.fixture(scope="module")
def drawn(clips: dict[int, Clip]) -> dict[int, list[ClipFrame]]:
    return {seed: list(clip.frames()) for seed, clip in clips.items()}


def test_clips_keep_to_the_worlds_bounds() -> None:
    clips = [ClipWorld().clip(seed) for seed in range(200)]
    names = Vocabulary.load().by_name
    for clip in clips:
        assert 256 <= min(clip.size) <= max(clip.size) <= 640
        assert 0.49 <= clip.width / clip.height <= 2.01
        assert clip.width % 2 == clip.height % 2 == 0
        assert 12 <= clip.frame_count <= 90
        assert 10 <= clip.rate <= 24
        assert 1 <= len(clip.objects) <= 6
        assert [member.id for member in clip.objects] == list(range(1, len(clip.objects) + 1))
        assert all(member.concept in names for member in clip.objects)
    assert len({clip.frame_count for clip in clips}) > 50


def test_size_and_length_can_be_chosen() -> None:
    clip = ClipWorld().clip(7, size=(96, 128), frame_count=17)
    assert (clip.size, clip.frame_count) == ((96, 128), 17)
    frames = list(clip.frames())
    assert [frame.index for frame in frames] == list(range(17))
    assert frames[5].time_s == 5 / clip.rate
    assert frames[0].image.shape == (128, 96, 3)
    assert frames[0].image.dtype == np.uint8


def test_the_same_seed_gives_the_same_clip() -> None:
    first, again = (ClipWorld().clip(5, size=SIZE, frame_count=20) for _ in range(2))
    for a, b, c in zip(first.frames(), first.frames(), again.frames(), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.image, c.image)
        assert a.visibility == c.visibility
    other = ClipWorld().clip(6, size=SIZE, frame_count=20)
    assert not np.array_equal(next(other.frames()).image, next(first.frames()).image)


def test_single_frames_are_those_of_the_whole(
    clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]
) -> None:
    chosen = [9, 2, 2, 11]
    for frame, index in zip(clips[3].frames(chosen), chosen, strict=True):
        assert frame.index == index
        np.testing.assert_array_equal(frame.image, drawn[3][index].image)
    with pytest.raises(IndexError):
        next(clips[3].frames([clips[3].frame_count]))


def test_masks_are_the_opaque_pixels_that_nothing_covers(
    clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]
) -> None:
    hidden = 0
    sheet = SpriteSheet.load()
    for seed in SEEDS[:10]:
        clip = clips[seed]
        for frame in drawn[seed][::7]:
            shot = next(shot for shot in reversed(clip.shots) if shot.first <= frame.index)
            at = frame.index - shot.first
            owner, whole = np.zeros((SIZE[1], SIZE[0]), int), {}
            for track in shot.tracks:
                x, y = track.centers[at]
                sprite, (left, top) = sheet.pose_at(
                    track.concept.index,
                    (x, y),
                    track.longer_side[at],
                    track.degrees[at],
                    track.mirrored,
                )
                rows, columns = np.nonzero(sprite.alpha > 0.5)
                whole[track.id] = len(rows)
                rows, columns = rows + top, columns + left
                inside = (rows >= 0) & (rows < SIZE[1]) & (columns >= 0) & (columns < SIZE[0])
                owner[rows[inside], columns[inside]] = track.id
            assert set(frame.visibility) == {member.id for member in clip.objects}
            for member in clip.objects:
                seen = owner == member.id
                assert (member.id in frame.masks) == seen.any()
                share = seen.sum() / whole[member.id] if seen.any() else 0.0
                assert frame.visibility[member.id] == pytest.approx(share)
                if seen.any():
                    np.testing.assert_array_equal(frame.masks[member.id], seen)
                    hidden += share < 0.9
    assert hidden > 10


def test_little_is_dont_care(drawn: dict[int, list[ClipFrame]]) -> None:
    counted = Counter[bool]()
    for frames in drawn.values():
        for frame in frames:
            for number, mask in frame.masks.items():
                little = frame.visibility[number] < 0.4 or mask.sum() < 0.0015 * 160 * 120
                assert (number in frame.dont_care, number in frame.wanted) == (little, not little)
                counted[little] += 1
    assert counted[True] > 20
    assert counted[False] > 1000


def test_there_is_somebody_on_the_first_frame(drawn: dict[int, list[ClipFrame]]) -> None:
    assert all(frames[0].wanted for frames in drawn.values())


def test_stickers_are_where_the_masks_say(
    clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]
) -> None:
    """The picture changes on an object's mask when the object is taken away, and only near it."""
    clip = next(clip for clip in clips.values() if len(clip.objects) == 3 and not clip.cuts)
    (shot,) = clip.shots
    top = shot.tracks[-1]
    bare = replace(clip, shots=(replace(shot, tracks=shot.tracks[:-1]),))
    for index in range(0, clip.frame_count, 5):
        with_it = drawn[clip.seed][index]
        changed = (next(bare.frames([index])).image != with_it.image).any(axis=-1)
        mask = with_it.masks.get(top.id, np.zeros_like(changed))
        assert changed[mask].mean() > 0.9 if mask.any() else True
        grown = mask.copy()
        for axis in (0, 1):
            for step in (-2, -1, 1, 2):
                grown |= np.roll(mask, step, axis)
        grown |= np.roll(grown, 1, 0) | np.roll(grown, -1, 1)
        assert (changed & ~grown).sum() <= 0.02 * max(changed.sum(), 50)


def test_clips_are_hard_in_the_ways_they_should_be(
    clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]
) -> None:
    found = Counter[str]()
    for seed, clip in clips.items():
        visible = np.array(
            [[frame.visibility[o.id] for o in clip.objects] for frame in drawn[seed]]
        )
        concepts = Counter(member.concept for member in clip.objects)
        found["alike"] += max(concepts.values()) > 1
        found["cut"] += bool(clip.cuts)
        found["panned"] += any(np.ptp(shot.camera, axis=0).any() for shot in clip.shots)
        found["lit"] += any(np.ptp(shot.light) > 0.05 for shot in clip.shots)
        gaps = [np.diff(np.flatnonzero(seen)).max(initial=1) for seen in visible.T > 0]
        found["back"] += max(gaps) > 3
        found["late"] += any(
            np.flatnonzero(seen).min(initial=99) in range(3, 90) for seen in visible.T > 0
        )
        found["covered"] += bool(((visible > 0) & (visible < 0.4)).any())
        for shot in clip.shots:
            for place, a in enumerate(shot.tracks):
                for b in shot.tracks[place + 1 :]:
                    apart = np.hypot(*(a.centers - b.centers).T)
                    met = apart.min() < 0.2 * (a.longer_side + b.longer_side).mean() / 2
                    found["alike met"] += a.concept == b.concept and bool(met)
    least = {"alike": 18, "back": 14, "late": 12, "panned": 8, "lit": 6, "cut": 2, "covered": 30}
    assert {name: found[name] for name in least if found[name] < least[name]} == {}
    assert found["alike met"] >= 18


def test_motion_is_smooth(clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]) -> None:
    steps = []
    for seed, clip in clips.items():
        for shot in clip.shots:
            for track in shot.tracks:
                frames = drawn[seed][shot.first : shot.first + len(track.centers)]
                seen = np.array([track.id in frame.masks for frame in frames])
                moved = np.hypot(*np.diff(track.centers, axis=0).T) / min(SIZE)
                steps += moved[seen[1:] & seen[:-1]].tolist()
                assert np.abs(np.diff(np.log(track.longer_side))).max(initial=0) < 0.2
                assert np.abs(track.degrees).max() <= 25
    assert 0.01 < np.median(steps) < 0.05
    assert np.mean(np.array(steps) > 0.15) < 0.01


def test_identity_is_decidable() -> None:
    """Of several of one concept one at most leaves; a cut leads to nothing that looks the same."""
    cut = left = 0
    for seed in range(180):
        clip = ClipWorld().clip(seed, size=SIZE)
        concepts = Counter(member.concept for member in clip.objects)
        if clip.cuts:
            cut += 1
            casts = [{track.id: track.concept.name for track in shot.tracks} for shot in clip.shots]
            kept = casts[0].keys() & casts[1].keys()
            assert all(concepts[casts[0][number]] == 1 for number in kept)
            new = {name for number, name in casts[1].items() if number not in kept}
            assert not new & set(casts[0].values())
        for shot in clip.shots:
            if np.ptp(shot.camera, axis=0).any():
                continue  # a pan moves all alike, and out of sight together
            gone = Counter[str]()
            for track in shot.tracks:
                reach = 0.7 * track.longer_side[:, None]
                out = (track.centers < -reach) | (track.centers > np.array(SIZE) + reach)
                gone[track.concept.name] += bool(out.any())
            several = {name: times for name, times in gone.items() if concepts[name] > 1}
            left += sum(several.values())
            assert max(several.values(), default=0) <= 1
    assert cut > 10
    assert left > 20


def test_a_frame_is_a_scene(clips: dict[int, Clip], drawn: dict[int, list[ClipFrame]]) -> None:
    for seed in SEEDS[:8]:
        scene, ids = scene_of(clips[seed], 4)
        frame = drawn[seed][4]
        assert set(ids) == set(frame.masks)
        names = {member.id: member.concept for member in clips[seed].objects}
        for number, instance in zip(ids, scene.instances, strict=True):
            np.testing.assert_array_equal(instance.mask, frame.masks[number])
            assert instance.concept.name == names[number]
            assert instance.dont_care == (number in frame.dont_care)
            assert instance.visible_fraction == frame.visibility[number]


def test_sprites_between_pixels_are_the_sprites_on_them() -> None:
    sheet = SpriteSheet.load()
    for degrees, mirrored in ((0.0, False), (20.0, False), (-15.0, True)):
        plain = sheet.pose(3, 60.0, degrees, mirrored)
        moved, (left, _) = sheet.pose_at(3, (80.25, 70.5), 60.0, degrees, mirrored)
        assert moved.alpha.sum() == pytest.approx(plain.alpha.sum(), rel=0.03)
        rows, columns = np.nonzero(moved.alpha > 0.5)
        straight = np.nonzero(plain.alpha > 0.5)
        for ours, theirs in zip((rows, columns), straight, strict=True):
            assert np.ptp(ours) == pytest.approx(np.ptp(theirs), abs=2)
            # Mass at the same place of its box: neither turned the other way nor mirrored.
            assert ours.mean() - ours.min() == pytest.approx(theirs.mean() - theirs.min(), abs=1)
        middle = left + (columns.min() + columns.max() + 1) / 2
        assert middle == pytest.approx(80.25, abs=4)
