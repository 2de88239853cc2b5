"""The model's forward pass with what training needs: every decoder layer, shared encodings.

`Sam3Model.forward` returns the last layer only and encodes each pair's image again. The same
parts are called here in the same order; a test holds the last layer against the model's own
forward.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import (
    Sam3VisionEncoderOutput,
    inverse_sigmoid,
)

from services.stickers.segmenter.data import Pairs


@dataclass(frozen=True)
class Detections:
    """What all l decoder layers say of n pairs with q queries each.

    Attributes:
        logits: ``[l, n, q]``.
        boxes: cx cy w h in 0 to 1, ``[l, n, q, 4]``.
        presence: logits, ``[l, n]``.
        shown: the s pairs whose masks were asked for, ``[s]``.
        queries: what each query's mask is drawn with, ``[l, s, q, c]``.
        pixels: what it is drawn on, ``[s, c, m, m]``; a mask's logits are the dot products.
        semantic: logits, ``[s, m, m]``.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    shown: Tensor
    queries: Tensor
    pixels: Tensor
    semantic: Tensor

    def masks(self, chosen: Tensor) -> Tensor:
        """Mask logits of chosen queries: indices ``[l, s, k]`` → ``[l, s, k, m, m]``."""
        width = self.queries.shape[-1]
        drawn = self.queries.gather(2, chosen[..., None].expand(*chosen.shape, width))
        layers, count, each, _ = drawn.shape
        # One product for all layers reads the pixels once.
        flat = drawn.transpose(0, 1).flatten(1, 2) @ self.pixels.flatten(2)
        grid = self.pixels.shape[-2:]
        return flat.view(count, layers, each, *grid).transpose(0, 1)

    def coarse_masks(self, stride: int) -> Tensor:
        """Mask logits of all queries on a coarser grid, ``[l, s, q, m / stride, m / stride]``."""
        pixels = functional.avg_pool2d(self.pixels, stride)
        return torch.einsum("lsqc,schw->lsqhw", self.queries, pixels)


def detect(
    model: Sam3Model,
    vision: Sam3VisionEncoderOutput,
    pairs: Pairs,
    shown: Tensor | None = None,
) -> Detections:
    """Run everything behind the vision encoder for the pairs of a batch.

    Args:
        model: the model.
        vision: encodings of the batch's images, each once.
        pairs: which image and phrase (and boxes) each pair has.
        shown: indices of the pairs to make masks for; by default all. Masks are the dearest
            part, and where nothing is wanted they teach nothing.
    """
    if shown is None:
        shown = torch.arange(len(pairs.image), device=pairs.image.device)
    # Fusion and boxes look at the coarsest level only.
    features = [vision.fpn_hidden_states[-2][pairs.image]]
    positions = [vision.fpn_position_encoding[-2][pairs.image]]
    prompt = model.get_text_features(
        input_ids=pairs.input_ids, attention_mask=pairs.attention_mask, return_dict=True
    ).pooler_output
    prompt_mask = pairs.attention_mask.bool()
    if pairs.boxes.shape[1]:
        labels = pairs.box_labels
        geometry = model.geometry_encoder(
            box_embeddings=pairs.boxes,
            box_mask=labels >= 0,
            box_labels=labels.clamp(min=0),
            img_feats=features,
            img_pos_embeds=positions,
        )
        prompt = torch.cat([prompt, geometry.last_hidden_state], 1)
        prompt_mask = torch.cat([prompt_mask, geometry.attention_mask], 1)
    encoded = model.detr_encoder(
        vision_features=[features[-1]],
        text_features=prompt,
        vision_pos_embeds=[positions[-1]],
        text_mask=prompt_mask,
    )
    decoded = model.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=encoded.text_features,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=prompt_mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    queries = decoded.intermediate_hidden_states
    offsets = model.detr_decoder.box_head(queries)
    logits = model.dot_product_scoring(
        decoder_hidden_states=queries, text_features=encoded.text_features, text_mask=prompt_mask
    ).squeeze(-1)
    # The mask decoder keeps its pixel embeddings to itself.
    pixels: list[Tensor] = []
    hook = model.mask_decoder.instance_projection.register_forward_hook(
        lambda _module, _inputs, output: pixels.append(output)
    )
    # The mask decoder draws one query only; `Detections` draws those that the losses ask for.
    masks = model.mask_decoder(
        decoder_queries=queries[-1, shown, :1],
        backbone_features=[level[pairs.image[shown]] for level in vision.fpn_hidden_states[:-1]],
        encoder_hidden_states=encoded.last_hidden_state[shown],
        prompt_features=prompt[shown],
        prompt_mask=prompt_mask[shown],
    )
    hook.remove()
    return Detections(
        logits=logits,
        boxes=(inverse_sigmoid(decoded.reference_boxes) + offsets).sigmoid(),
        presence=decoded.presence_logits.squeeze(-1),
        shown=shown,
        queries=model.mask_decoder.mask_embedder(queries[:, shown]),
        pixels=pixels[0],
        semantic=masks.semantic_seg.squeeze(1),
    )


def corners(boxes: Tensor) -> Tensor:
    """cx cy w h → x0 y0 x1 y1."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


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
