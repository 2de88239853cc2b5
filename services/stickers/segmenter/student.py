"""The model while it learns: with its throw-away heads, from a batch to the parts of the loss.

Between `data` and `losses`; the `loop` steps on what comes out.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import Sam3Model

from services.stickers.segmenter.data import Batch, Pairs
from services.stickers.segmenter.dense import DenseHeads, DenseTargets, FineHeads, name_attention
from services.stickers.segmenter.detection import Detections, detect
from services.stickers.segmenter.losses import (
    centre_loss,
    dense_losses,
    detection_losses,
    fine_losses,
)


class Student:
    """A model and what it learns with.

    Attributes:
        model: the model.
        heads, fine: what is thrown away after training; None for a model that needs neither.
    """

    def __init__(
        self, model: Sam3Model, names: tuple[Tensor, Tensor], *, heads: bool, half: bool
    ) -> None:
        """
        Args:
            model: its finest convolutions run in bfloat16 from here on.
            names: token ids and attention masks of the concepts' names and plurals,
                ``[forms, concepts, t]`` each.
            heads: whether there are dense and fine heads.
            half: whether the whole forward pass runs in bfloat16; losses stay in float32.
        """
        self.model = model
        self._names = [part.to(model.device) for part in names]
        self._half = half
        width, concepts = model.config.vision_config.fpn_hidden_size, names[0].shape[1]
        self.heads = DenseHeads(width, concepts).to(model.device) if heads else None
        self.fine = FineHeads(width, concepts).to(model.device) if heads else None
        for part in (model.vision_encoder.neck.fpn_layers[0], model.mask_decoder.pixel_decoder):
            # The finest grids take most of the time; this halves it.
            part.forward = _in_half(part.forward, model.device.type)

    @property
    def throw_away(self) -> Mapping[str, nn.Module]:
        """The heads that there are, by their names in a checkpoint."""
        heads: Mapping[str, nn.Module | None] = {"heads": self.heads, "fine": self.fine}
        return {name: head for name, head in heads.items() if head is not None}

    def losses(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """The parts of the loss by name, scalars.

        Args:
            batch: on the model's device; without pairs, dense parts are all there is.
            step: names and plurals take turns.
        """
        encoder = self.model.vision_encoder
        if batch.pairs is None:
            # The fusion level of the neck is all that the dense heads need.
            with self._precision():
                hidden = encoder.backbone(batch.pixels).last_hidden_state
                grid = batch.dense.coverage.shape[1]
                spatial = hidden.transpose(1, 2).reshape(len(hidden), -1, grid, grid)
                fusion_level = encoder.neck.fpn_layers[-2](spatial)
            return self._dense(fusion_level, batch.dense, step)
        with self._precision():
            vision = encoder(batch.pixels)
            detections = detect(self.model, vision, batch.pairs, _worth_a_mask(batch.pairs))
        detections = detections.float()
        finest, *_, fusion_level, _ = vision.fpn_hidden_states
        return {
            **self._dense(fusion_level, batch.dense, step),
            **self._finest(finest, batch.dense),
            **self._centre(detections, batch.pairs),
            **detection_losses(detections, batch.pairs),
        }

    def _dense(self, features: Tensor, truth: DenseTargets, step: int) -> Mapping[str, Tensor]:
        if self.heads is None:
            return {}
        ids, mask = (form[step % len(form)] for form in self._names)
        with self._precision():
            names = self.model.get_text_features(
                input_ids=ids, attention_mask=mask, return_dict=True
            ).pooler_output
            logits, boxes = self.heads(features)
            attention = name_attention(self.model, features, names, mask)
        return dense_losses(logits.float(), boxes.float(), attention.float(), truth)

    def _finest(self, features: Tensor, truth: DenseTargets) -> Mapping[str, Tensor]:
        if self.fine is None:
            return {}
        logits, codes = self.fine(features.float())
        return fine_losses(logits, codes, truth)

    def _centre(self, detections: Detections, pairs: Pairs) -> Mapping[str, Tensor]:
        if self.heads is None:
            return {}
        codes = self.heads.centre(detections.pixels.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return centre_loss(codes, pairs, detections.shown)

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._half)


def _worth_a_mask(pairs: Pairs) -> Tensor:
    """Indices of the pairs of which something is wanted; masks of the others teach nothing."""
    wanted = (pairs.counts > 0).nonzero().flatten()
    # An empty batch of masks would break the norms; one pair more does no harm.
    return wanted if len(wanted) else wanted.new_zeros(1)


def _in_half(forward: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """`forward` in bfloat16 on weights and for callers in float32."""

    def run(*inputs: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return forward(*inputs).float()

    return run
