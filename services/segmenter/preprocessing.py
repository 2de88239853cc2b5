"""From the pixels of a decoded image to what an engine sees; runs in the decode pool."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from services.codecs.images import Rgb


def to_model_input(pixels: Rgb, size: int | None) -> Tensor:
    """`pixels`, uint8 (H, W, 3), as float32 (3, size, size) in [-1, 1]; (3, H, W) if size is None.

    Stretched to the square, antialiased, in uint8, then scaled: equal to transformers'
    `Sam3ImageProcessor` to 6e-8, without torchvision.
    """
    # (H, W, 3) seen as channels-last (1, 3, H, W): the resize works on it without a copy.
    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    if size is not None:
        image = interpolate(image, (size, size), mode="bilinear", antialias=True)
    return (image.float() / 127.5 - 1).squeeze(0).contiguous()
