"""The model's forward pass with what training needs: every decoder layer, shared encodings.

`Sam3Model.forward` returns the last layer only and encodes each pair's image again. The same
parts are called here in the same order; a test holds the last layer against the model's own
forward.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput, inverse_sigmoid

from training.segmenter.data import Pairs


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

    def float(self) -> Self:
        """The same in float32, whatever precision the model ran in; losses want it exact."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.float() for k, v in values.items() if v.is_floating_point()})

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
    model: Sam3Model, vision: Sam3VisionEncoderOutput, pairs: Pairs, shown: Tensor | None = None
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
