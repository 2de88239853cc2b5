"""What a new tracker starts as: masks carried along by likeness of place and looks, untrained.

With random weights, attention to memories must first find out that like attends to like; until then
nothing else is learned. Here a query and a key are the same cell's features, near ones preferred,
and a value is the memory itself: label propagation (Jabri et al., 2020, "Space-Time Correspondence
as a Contrastive Random Walk"), which training then improves.
"""

import itertools

import numpy as np
import torch
from torch import nn
from transformers import Sam3TrackerVideoModel, Sam3VideoModel

from services.segmenter.preprocessing import normalized
from training.tracker.windows import WindowSizes, training_windows

_WINDOWS, _FRAMES = 24, 3
_LIKENESS = 2.2  # of queries and keys, each; attention to an equal cell is some 20 above the rest
_MEMORY = 2.0  # scale of memories beside the codes of places and times that are added to them
_MASK = 1.5  # gain of the mask's code in memories, which then is as large as the picture's
_VALUE = 1.0
# By the frequency of rotary codes, quickest first: how far attention looks in place.
_NEARNESS = (1.5, 3.0, 3.0)


@torch.no_grad()
def standardize(model: Sam3VideoModel) -> None:
    """Scale the tracker's neck so that every channel has mean 0 and deviation 1; in place.

    Measured on frames of sticker world, the same ones every time.
    """
    sizes = WindowSizes(_FRAMES, model.config.detector_config.vision_config.image_size)
    windows = itertools.islice(training_windows(sizes, 0, 0), _WINDOWS)
    pixels = torch.from_numpy(np.concatenate([window.pixels for window in windows]))
    backbone = model.detector_model.vision_encoder.backbone
    tokens = backbone(normalized(pixels.permute(0, 3, 1, 2))).last_hidden_state
    side = model.tracker_model.prompt_encoder.image_embedding_size
    spatial = tokens.view(len(tokens), *side, -1).permute(0, 3, 1, 2)
    for layer in model.tracker_neck.fpn_layers[:3]:
        deviation, mean = torch.std_mean(layer(spatial), (0, 2, 3))
        layer.proj2.weight /= deviation[:, None, None, None]
        layer.proj2.bias.sub_(mean).div_(deviation)


@torch.no_grad()
def propagating(tracker: Sam3TrackerVideoModel) -> None:
    """Make memories the features and the mask's code, and attention likeness; in place.

    Args:
        tracker: its features have deviation 1, see `standardize`.
    """
    encoder = tracker.memory_encoder
    nn.init.dirac_(encoder.feature_projection.weight)
    nn.init.dirac_(encoder.projection.weight)
    encoder.projection.weight *= _MEMORY
    encoder.mask_downsampler.final_conv.weight *= _MASK
    for layer in tracker.memory_attention.layers:
        attention = layer.cross_attn_image
        size = attention.head_dim
        like = torch.empty(len(attention.q_proj.weight), attention.q_proj.in_features)
        nn.init.orthogonal_(like)
        attention.q_proj.weight.copy_(_LIKENESS * like)
        attention.k_proj.weight.copy_(_LIKENESS / _MEMORY * like)
        near = torch.zeros(attention.num_attention_heads, size)
        for axis in (0, size // 2):
            for number, amount in enumerate(_NEARNESS):
                near[:, axis + 2 * number] = amount
        attention.q_proj.bias.copy_(near.flatten())
        attention.k_proj.bias.copy_(near.flatten())
        value = torch.empty_like(like)
        nn.init.orthogonal_(value)
        attention.v_proj.weight.copy_(value / _MEMORY)
        attention.o_proj.weight.copy_(_VALUE * value.T)
