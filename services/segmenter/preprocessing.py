"""From the pixels of a decoded image to what a model sees: the resize runs in the decode pool."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from services.codecs.images import Rgb


def to_model_input(pixels: Rgb, size: int | None) -> Tensor:
    """`pixels`, uint8 (H, W, 3), as uint8 (3, size, size); (3, H, W) if size is None.

    Stretched to the square, antialiased, in uint8. Bytes are what goes to a device: floats would
    take four times as long to get there.
    """
    # (H, W, 3) seen as channels-last (1, 3, H, W): the resize works on it without a copy.
    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    if size is not None:
        image = interpolate(image, (size, size), mode="bilinear", antialias=True)
    return image.squeeze(0).contiguous()


def normalized(images: Tensor) -> Tensor:
    """What `to_model_input` gives, of any shape, as float32 in [-1, 1], where it lies.

    Both together equal transformers' `Sam3ImageProcessor` to 6e-8, without torchvision.
    """
    return images.float() / 127.5 - 1
