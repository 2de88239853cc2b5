"""Examples as tensors: the questions of an example packed into one row behind one image.

`TrainingExample`s -> `collate` -> `PlannerBatch` -> `training.planner.task`. A row is the prefix
(system turn and images) and then every question with its answer. Positions start over with each
question, and each sees the prefix and itself but no other question, so that a row costs one
image and gives exactly what the separate conversations would. The masks follow the layers of
Gemma 4: full attention sees all that came before, sliding attention only so far back, counted in
positions; and where a checkpoint says so (`use_bidirectional_attention="vision"`, the larger
sizes) the soft tokens of one image see each other both ways, on sliding layers only, as
`create_masks_for_vision_model` in transformers' modeling_gemma4 lays down. Per-layer embeddings
and shared keys and values are of each token by itself and need nothing.

A checkpoint whose attention `Layout` cannot write down gets one question a row, and makes its own
masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from transformers import Gemma4Config

from training.planner.examples import TrainingExample

_IGNORED = -100  # the label of positions without loss
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Layout:
    """What a row's masks depend on, in a checkpoint's configuration.

    Attributes:
        image_token: id of a soft token's placeholder.
        window: how many positions a sliding layer sees, its own included.
        both_ways: whether the soft tokens of an image see later ones on sliding layers.
        obstacle: why questions cannot share a row; empty where they can.
    """

    image_token: int
    window: int
    both_ways: bool = False
    obstacle: str = ""

    @classmethod
    def of(cls, config: Gemma4Config) -> Self:
        """The layout of a checkpoint's rows."""
        text = config.text_config
        unknown = set(text.layer_types) - {_FULL, _SLIDING}
        obstacle = ""
        if unknown:
            obstacle = f"layers of {', '.join(sorted(unknown))}"
        elif text.use_bidirectional_attention == "all":
            obstacle = "what stands in front sees what follows"
        return cls(
            image_token=int(config.image_token_id),
            window=int(text.sliding_window),
            both_ways=text.use_bidirectional_attention == "vision",
            obstacle=obstacle,
        )


@dataclass(frozen=True)
class PlannerBatch:
    """Examples as tensors; `soft` counts the soft tokens of each image.

    Attributes:
        patches: float32 ``[images, patches, 3 * patch ** 2]``.
        patch_positions: int64 ``[images, patches, 2]``.
        coverage: float32 ``[all soft tokens, concepts]``.
        present: float32 ``[images, concepts]``.
        soft: soft tokens of each image.
        ids: int64 ``[rows, length]``.
        positions: int64 ``[rows, length]``, starting over with each question.
        attention: by kind of layer, what each position may attend to, bool
            ``[rows, 1, length, length]``; or bool ``[rows, length]``, what is not padding, where
            the model makes its own masks.
        soft_tokens: int64 ``[rows, length]``, 1 where a soft token stands.
        labels: int64 ``[rows, length]``, the next token, or -100.
    """

    patches: torch.Tensor
    patch_positions: torch.Tensor
    coverage: torch.Tensor
    present: torch.Tensor
    soft: tuple[int, ...]
    ids: torch.Tensor
    positions: torch.Tensor
    attention: Mapping[str, torch.Tensor] | torch.Tensor
    soft_tokens: torch.Tensor
    labels: torch.Tensor


def collate(examples: Sequence[TrainingExample], layout: Layout) -> PlannerBatch:
    """Examples as one batch; rows are padded on the right."""
    if layout.obstacle:
        examples = [alone for example in examples for alone in _alone(example)]
    length = max(
        len(example.prefix) + sum(len(a) + len(b) for a, b in example.turns) for example in examples
    )
    shape = (len(examples), length)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    labels = np.full(shape, _IGNORED, np.int64)
    segments = np.full(shape, -1, np.int64)  # 0: prefix, n: n-th question, -1: padding
    for row, example in enumerate(examples):
        at = len(example.prefix)
        ids[row, :at], positions[row, :at], segments[row, :at] = example.prefix, range(at), 0
        for number, (question, answer) in enumerate(example.turns, start=1):
            turn = question + answer
            span = np.s_[row, at : at + len(turn)]
            ids[span], segments[span] = turn, number
            positions[span] = np.arange(len(turn)) + len(example.prefix)
            start = at + len(question) - 1
            labels[row, start : start + len(answer)] = answer
            at += len(turn)
    images = [image for example in examples for image in example.images]
    # The processor pads to its budget; the widest image of the batch is enough.
    used = max(image.used for image in images)
    soft_tokens = (ids == layout.image_token) & (segments == 0)
    return PlannerBatch(
        patches=torch.from_numpy(np.stack([p.patches[:used] for p in images])),
        patch_positions=torch.from_numpy(np.stack([p.positions[:used] for p in images])),
        coverage=torch.from_numpy(np.concatenate([image.coverage for image in images])),
        present=torch.from_numpy(np.stack([image.present for image in images])),
        soft=tuple(image.soft for image in images),
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        attention=torch.from_numpy(segments >= 0)
        if layout.obstacle
        else _masks(segments, positions, soft_tokens, layout),
        soft_tokens=torch.from_numpy(soft_tokens.astype(np.int64)),
        labels=torch.from_numpy(labels),
    )


def _alone(example: TrainingExample) -> list[TrainingExample]:
    """The questions of an example, each with the images to itself."""
    return [replace(example, turns=(turn,)) for turn in example.turns] or [example]


def _masks(
    segments: np.ndarray, positions: np.ndarray, soft_tokens: np.ndarray, layout: Layout
) -> dict[str, torch.Tensor]:
    """What each position attends to, by kind of layer: bool ``[rows, 1, length, length]``."""
    earlier = np.tri(segments.shape[1], dtype=bool)
    same = segments[:, :, None] == segments[:, None, :]
    own = same | (segments == 0)[:, None, :]
    full = earlier & own
    sliding = full
    if layout.both_ways:
        begins = soft_tokens & ~np.pad(soft_tokens, ((0, 0), (1, 0)))[:, :-1]
        images = np.where(soft_tokens, begins.cumsum(1), 0)
        together = (images[:, :, None] == images[:, None, :]) & (images > 0)[:, None, :]
        sliding = full | together
    if positions.size and positions.max() >= layout.window:
        sliding = sliding & (positions[:, :, None] - positions[:, None, :] < layout.window)
    return {_FULL: torch.from_numpy(full)[:, None], _SLIDING: torch.from_numpy(sliding)[:, None]}
