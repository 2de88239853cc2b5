"""Images with what can be seen in them: the dense targets that teach a vision tower to look.

Flow: image and labels -> `PatchedImage` -> `training.planner.packing`. The targets
come from the scene's true masks: how much of each soft token shows which concept, and which
concepts are there at all. A checkpoint that can already see needs none of them.
"""

from dataclasses import dataclass

import numpy as np

from training.planner.preprocessing import Preprocessor
from training.world.scenes import Scene

_GRID = 8  # samples a side of a soft token, for its targets


@dataclass(frozen=True)
class PatchedImage:
    """One image as the model takes it, with what its soft tokens show.

    Attributes:
        patches: float32 ``[patches, 3 * patch ** 2]``, padded.
        positions: int64 ``[patches, 2]``, x and y of each patch, -1 where padded.
        coverage: float32 ``[soft, concepts]``, the share of each soft token that shows a concept.
        present: float32 ``[concepts]``, 1 there, 0 absent, -1 unknown ("don't care" only).
    """

    patches: np.ndarray
    positions: np.ndarray
    coverage: np.ndarray
    present: np.ndarray

    @property
    def soft(self) -> int:
        """How many soft tokens it becomes."""
        return len(self.coverage)

    @property
    def used(self) -> int:
        """How many of its patches are not padding."""
        return int((self.positions[:, 0] >= 0).sum())


def plain_image(preprocessor: Preprocessor, image: np.ndarray) -> PatchedImage:
    """An image of which nothing is known: no concept has a target."""
    patches, positions, (rows, columns) = preprocessor.patches(image)
    coverage = np.zeros((rows * columns, 0), np.float32)
    return PatchedImage(patches, positions, coverage, np.zeros(0, np.float32))


def labeled_image(
    preprocessor: Preprocessor, image: np.ndarray, labels: np.ndarray, present: np.ndarray
) -> PatchedImage:
    """An image whose soft tokens show what `labels` say.

    Args:
        preprocessor: of the checkpoint.
        image: uint8 ``[h, w, 3]``.
        labels: int ``[h, w]``, the concept each pixel shows, -1 for none.
        present: float32 ``[concepts]``, as in `PatchedImage`.
    """
    patches, positions, (rows, columns) = preprocessor.patches(image)
    concepts = len(present)
    ys = ((np.arange(rows * _GRID) + 0.5) * labels.shape[0] / (rows * _GRID)).astype(int)
    xs = ((np.arange(columns * _GRID) + 0.5) * labels.shape[1] / (columns * _GRID)).astype(int)
    samples = labels[np.ix_(ys, xs)].reshape(rows, _GRID, columns, _GRID) + 1
    cells = np.arange(rows * columns).reshape(rows, 1, columns, 1) * (concepts + 1)
    counts = np.bincount((cells + samples).ravel(), minlength=rows * columns * (concepts + 1))
    shares = counts.reshape(rows * columns, -1)[:, 1:] / _GRID**2
    return PatchedImage(patches, positions, shares.astype(np.float32), present)


def scene_labels(scene: Scene) -> np.ndarray:
    """int64 ``[h, w]``: the concept each pixel shows, -1 for the background."""
    labels = np.full(scene.image.shape[:2], -1, np.int64)
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.box
        labels[y0:y1, x0:x1][instance.visible] = instance.concept.index
    return labels


def scene_presence(scene: Scene, concepts: int) -> np.ndarray:
    """float32 ``[concepts]``, as in `PatchedImage`."""
    present = np.zeros(concepts, np.float32)
    for instance in sorted(scene.instances, key=lambda instance: not instance.dont_care):
        present[instance.concept.index] = -1.0 if instance.dont_care else 1.0
    return present
