"""What the encoder should know before anything is asked: targets, throw-away heads, attention.

Trained on every token and every mask cell of a picture ("dense"), these teach a new model which
sticker is which in a tenth of the time that phrases alone would take. None of it is exported; a
fine-tuning run, whose model knows all that, does without.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam3Model

from training.segmenter.grids import normalized_box
from training.world.scenes import Scene

_COVERED = 0.5  # share of a cell from which it is not background
# Half a turn over the picture tells left from right, two turns tell neighbors apart.
CENTER_FREQUENCIES = (0.5, 1.0, 2.0)


def center_code(centers: Tensor) -> Tensor:
    """Sines and cosines of centers x y in 0 to 1, ``[..., 2]`` → ``[..., 12]``.

    A dot product with such a code peaks at one place, which is all that a query's mask can be.
    """
    turns = torch.tensor(CENTER_FREQUENCIES, device=centers.device) * 2 * math.pi
    angles = (centers.unsqueeze(-1) * turns).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)


@dataclass(frozen=True)
class DenseTargets:
    """What every token (g a side) and every mask cell (m a side) of b images shows.

    Attributes:
        coverage: share of each token filled by each concept, the rest is background,
            ``[b, g, g, concepts + 1]``, background last.
        token_boxes: box of the instance that fills most of a token, cx cy w h in 0 to 1,
            ``[b, g, g, 4]``.
        fine_labels: the concept that fills most of a mask cell, or the number of concepts where
            the background does, ``[b, m, m]``.
        fine_codes: code of that instance's center, ``[b, 12, m, m]``.
    """

    coverage: Tensor
    token_boxes: Tensor
    fine_labels: Tensor
    fine_codes: Tensor


def dense_targets(
    scenes: Sequence[Scene], masks: Sequence[Tensor], tokens: int, concepts: int
) -> DenseTargets:
    """The targets of a batch.

    Args:
        scenes: with at least one instance each.
        masks: soft coverage of each scene's instances on the mask grid, ``[instances, m, m]``.
        tokens: a side.
        concepts: in the vocabulary.
    """
    each = [
        (*_tokens(scene, mask, tokens, concepts), *_cells(scene, mask, concepts))
        for scene, mask in zip(scenes, masks, strict=True)
    ]
    return DenseTargets(*(torch.stack(parts) for parts in zip(*each, strict=True)))


def _tokens(scene: Scene, masks: Tensor, tokens: int, concepts: int) -> tuple[Tensor, Tensor]:
    """Coverage and boxes of one scene."""
    shares = functional.adaptive_avg_pool2d(masks, tokens)
    coverage = torch.zeros(concepts + 1, tokens, tokens)
    coverage.index_add_(0, _concepts(scene), shares)
    coverage[-1] = (1 - coverage[:-1].sum(0)).clamp(min=0)
    return coverage.permute(1, 2, 0), _boxes(scene)[shares.argmax(0)]


def _cells(scene: Scene, masks: Tensor, concepts: int) -> tuple[Tensor, Tensor]:
    """Labels and codes of one scene."""
    owner = masks.argmax(0)
    labels = torch.where(masks.sum(0) > _COVERED, _concepts(scene)[owner], concepts)
    return labels, center_code(_boxes(scene)[:, :2])[owner].permute(2, 0, 1)


def _concepts(scene: Scene) -> Tensor:
    return torch.tensor([instance.concept.index for instance in scene.instances])


def _boxes(scene: Scene) -> Tensor:
    return torch.tensor([normalized_box(instance) for instance in scene.instances])


class DenseHeads(nn.Module):
    """Throw-away heads of the tokens, trained with the model, not exported.

    On the fusion level of the neck they say of each token which concept it shows and where
    that sticker's box lies. `center` reads the code of a sticker's center from the pixel
    embeddings: stickers of one concept must differ there, or no query can mask one of them.
    """

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, concepts + 1)
        self.box = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, 4))
        self.center = nn.Linear(width, 4 * len(CENTER_FREQUENCIES), bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Token logits and boxes.

        Args:
            features: ``[b, c, g, g]``.

        Returns:
            Logits ``[b, g, g, concepts + 1]``, background last; boxes cx cy w h
            ``[b, g, g, 4]``.
        """
        tokens = features.permute(0, 2, 3, 1)
        grid = torch.arange(tokens.shape[1], device=tokens.device).add(0.5) / tokens.shape[1]
        centers = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)
        raw = self.box(tokens)
        boxes = torch.cat([centers + raw[..., :2], (raw[..., 2:] - 1.5).sigmoid()], -1)
        return self.classes(tokens), boxes


class FineHeads(nn.Module):
    """Throw-away heads on the neck's finest level: what each mask cell shows, and whose it is.

    They see every sticker of every image, asked about or not, at a fraction of a pair's cost;
    outlines are learned here long before the masks could teach them.
    """

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.classes = nn.Conv2d(width, concepts + 1, 1)
        self.center = nn.Conv2d(width, 4 * len(CENTER_FREQUENCIES), 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[b, c, m, m]`` → logits ``[b, concepts + 1, m, m]`` and codes ``[b, 12, m, m]``."""
        return self.classes(features), self.center(features)


def name_attention(model: Sam3Model, features: Tensor, names: Tensor, mask: Tensor) -> Tensor:
    """How much more image tokens attend to a name's words than to its opening token.

    Every attention from image to text faces this choice: the words where the token shows the
    named thing, the opening token (the same for all phrases) where it does not. Supervising
    it makes text fusion work before the first pair is trained; left to the detection losses,
    it takes longer than all the rest.

    Args:
        model: its fusion layers' and mask decoder's attentions are asked.
        features: the fusion level, ``[b, c, g, g]``.
        names: text features, ``[k, t, c]``.
        mask: of the names' tokens, ``[k, t]``.

    Returns:
        Logits, averaged over heads, ``[attentions, b, g, g, k]``.
    """
    tokens = features.permute(0, 2, 3, 1)
    words = mask.float()
    words[:, 0] = 0
    words = (words / words.sum(1, keepdim=True)).unsqueeze(-1)
    attentions = [(layer.layer_norm2, layer.cross_attn) for layer in model.detr_encoder.layers]
    decoder = model.mask_decoder
    attentions.append((decoder.prompt_cross_attn_norm, decoder.prompt_cross_attn))
    logits = []
    for norm, attention in attentions:
        keys = attention.k_proj(names)
        contrast = (keys * words).sum(1) - keys[:, 0]
        scale = attention.scaling / attention.num_attention_heads
        logits.append(attention.q_proj(norm(tokens)) @ contrast.T * scale)
    return torch.stack(logits)
