"""Degradations of a drawn picture: light, blur, sensor noise, JPEG.

Between `scenes.py` and the trainers' preprocessing. The world's definition knows only JPEG; the
rest is for training, so that the models do not lean on clean pixels. Truth does not move.
"""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from training.world.scenes import Scene, recompressed


def weathered(scene: Scene, rng: np.random.Generator) -> Scene:
    """`scene` as a worse camera would have taken it; two in five come back untouched.

    Args:
        scene: it is not changed.
        rng: source of all choices.
    """
    image = scene.image
    if rng.random() < 0.2:
        gain, lift = rng.uniform(0.75, 1.25), rng.uniform(-20, 20)
        image = _clipped((image.astype(np.float32) - 128) * gain + 128 + lift)
    if rng.random() < 0.12:
        radius = rng.uniform(0.001, 0.004) * max(scene.size)
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    if rng.random() < 0.12:
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 14))
        image = _clipped(image + grain)
    if rng.random() < 0.35:
        image = recompressed(image, int(rng.integers(60, 96)))
    return replace(scene, image=image)


def _clipped(values: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(values, 0, 255).astype(np.uint8)
    return clipped
