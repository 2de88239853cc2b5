"""What the encoder knows before anything is asked: throw-away heads and the names' attention.

Trained on every token of a picture ("dense"), these teach a new model which sticker is which in a
tenth of the time that phrases alone would take. None of it is exported; a fine-tuning run, whose
model knows all that, does without.
"""

import math

import torch
from torch import Tensor, nn
from transformers import Sam3Model

# Half a turn over the picture tells left from right, two turns tell neighbours apart.
CENTRE_FREQUENCIES = (0.5, 1.0, 2.0)


def centre_code(centres: Tensor) -> Tensor:
    """Sines and cosines of centres x y in 0 to 1, ``[..., 2]`` → ``[..., 12]``.

    A dot product with such a code peaks at one place, which is all that a query's mask can be.
    """
    turns = torch.tensor(CENTRE_FREQUENCIES, device=centres.device) * 2 * math.pi
    angles = (centres.unsqueeze(-1) * turns).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)


class DenseHeads(nn.Module):
    """Throw-away heads, trained with the model, not exported.

    On the fusion level of the neck they say of each token which concept it shows and where
    that sticker's box lies. `centre` reads the code of a sticker's centre from the pixel
    embeddings: stickers of one concept must differ there, or no query can mask one of them.
    """

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, concepts + 1)
        self.box = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, 4))
        self.centre = nn.Linear(width, 4 * len(CENTRE_FREQUENCIES), bias=False)

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
        centres = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)
        raw = self.box(tokens)
        boxes = torch.cat([centres + raw[..., :2], (raw[..., 2:] - 1.5).sigmoid()], -1)
        return self.classes(tokens), boxes


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
