"""What the model sees equals what transformers' own processing would give it."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from services.segmenter.preprocessing import normalized, to_model_input


def test_a_picture_is_stretched_to_the_square() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 91, 3), dtype=np.uint8)
    made = normalized(to_model_input(pixels, 64))
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    resized = interpolate(image, (64, 64), mode="bilinear", antialias=True)
    # The processor rescales by 1/255, then normalizes by mean 0.5 and deviation 0.5.
    expected = (resized[0].float() / 255 - 0.5) / 0.5
    assert made.shape == (3, 64, 64)
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert to_model_input(pixels, 64).dtype == torch.uint8
    torch.testing.assert_close(made, expected, atol=2e-7, rtol=0)


def test_channels_and_range() -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[..., 0] = 255
    made = normalized(to_model_input(pixels, None))
    assert made.shape == (3, 10, 20)
    assert made[0].unique().tolist() == [1.0]
    assert made[1:].unique().tolist() == [-1.0]
