"""Random tracks and masks, the same wherever they are drawn, for the tests of the figures."""

import numpy as np

from limelight.masks import Mask
from training.evaluation.pairing import PairedFrame


def random_frames(seed: int) -> list[PairedFrame]:
    """A tracker that loses, swaps and invents tracks, as IoUs alone."""
    rng = np.random.default_rng(seed)
    objects, frames = int(rng.integers(1, 6)), int(rng.integers(8, 40))
    shown = {number: number + 10 for number in range(objects)}
    drawn = []
    for _ in range(frames):
        if rng.random() < 0.15:
            a, b = rng.integers(objects, size=2).tolist()
            shown[a], shown[b] = shown[b], shown[a]
        if rng.random() < 0.1:
            shown[int(rng.integers(objects))] = int(rng.integers(20, 25))
        there = rng.permutation(objects)[: int(rng.integers(0, objects + 1))]
        answers = [shown[int(n)] for n in there if rng.random() < 0.8]
        answers += [int(n) for n in rng.integers(30, 33, int(rng.integers(0, 3)))]
        ids = np.unique(np.array(answers, np.int64))
        ious = rng.random((len(there), len(ids))) * 0.6
        for row, number in enumerate(there.tolist()):
            ious[row, ids == shown[number]] = rng.uniform(0.3, 1.0)
        drawn.append(PairedFrame(there.astype(np.int64), ids, ious, frozenset(there.tolist())))
    return drawn


def random_masks(seed: int) -> list[tuple[dict[int, Mask], dict[int, Mask], frozenset[int]]]:
    """Frames of true boxes that do not overlap, answered boxes, and the "don't care" ids."""
    rng = np.random.default_rng([seed, 1])
    frames = []
    for _ in range(20):
        free = np.ones((24, 32), bool)
        truth = {}
        for number in range(int(rng.integers(0, 5))):
            box = _box(rng) & free
            if box.any():
                truth[number] = box
                free &= ~box
        little = frozenset(number for number in truth if rng.random() < 0.35)
        answered = {}
        for number, mask in truth.items():
            if rng.random() < 0.8:
                shift = rng.integers(-2, 3, 2)
                answered[number + (7 if rng.random() < 0.1 else 0)] = np.roll(mask, shift, (0, 1))
        if rng.random() < 0.5:
            answered[50] = _box(rng)
        frames.append((truth, answered, little))
    return frames


def _box(rng: np.random.Generator) -> Mask:
    mask = np.zeros((24, 32), bool)
    y, x = rng.integers(0, 18), rng.integers(0, 24)
    mask[y : y + rng.integers(3, 9), x : x + rng.integers(3, 12)] = True
    return mask
