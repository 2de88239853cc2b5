"""The segmenter's training task: a SAM 3 with its throw-away heads, from a step to its losses.

Three stages by share of the run: dense heads alone (the encoder learns the stickers and their
names), then pairs of image and phrase, then every fourth step exemplar boxes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Sam3Model

from training.datasets.sources import SceneSource
from training.kit.task import ParameterGroup, TrainingTask
from training.segmenter.data import BatchBuilder, Pairs, SegmenterBatch, name_tokens
from training.segmenter.dense import DenseHeads, DenseTargets, FineHeads, name_attention
from training.segmenter.detection import Detections, detect
from training.segmenter.evaluate import evaluate
from training.segmenter.grids import Grids
from training.segmenter.losses import (
    center_loss,
    dense_losses,
    detection_losses,
    fine_losses,
    total,
)
from training.segmenter.models import export
from training.segmenter.recipe import SegmenterRecipe
from training.segmenter.sampling import PhraseSampler
from training.world.splits import TRAINING, VALIDATION

_FINE_RATE = 3.0  # factor on the learning rate of the fine heads, which start late
_FINE_DECAY = 0.01


@dataclass(frozen=True)
class SegmenterData:
    """What a segmenter is trained and validated on.

    Attributes:
        tokenizer: the model's.
        sampler: draws phrases about the scenes.
        training, held_out: scenes.
    """

    tokenizer: PreTrainedTokenizerBase
    sampler: PhraseSampler
    training: SceneSource
    held_out: SceneSource


class SegmenterTask(TrainingTask):
    """Trains a model, in place, on scenes.

    Args:
        model: frozen where its weights do not require gradients. While it trains, its finest
            convolutions run in bfloat16.
        data: the scenes, and what is asked about them.
        recipe: without a dense weight there are no heads.
        phrases_per_image: pairs of an image in a batch.

    Raises:
        ValueError: a name is longer than what the model reads.
    """

    name = "segmenter"
    _name_ids: Tensor
    _name_mask: Tensor

    def __init__(
        self,
        model: Sam3Model,
        data: SegmenterData,
        recipe: SegmenterRecipe,
        phrases_per_image: int = 3,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe: SegmenterRecipe = recipe
        self.data = data
        config = model.config
        vocabulary = data.training.vocabulary
        self.builder = BatchBuilder(
            data.training,
            data.sampler,
            data.tokenizer,
            Grids.of(config),
            max_targets=config.detr_decoder_config.num_queries,
            phrases_per_image=phrases_per_image,
        )
        longest = config.text_config.max_position_embeddings
        ids, mask = name_tokens(data.tokenizer, vocabulary, longest)
        self.register_buffer("_name_ids", ids, persistent=False)
        self.register_buffer("_name_mask", mask, persistent=False)
        width = config.vision_config.fpn_hidden_size
        sizes = (width, len(vocabulary.concepts))
        self.heads = DenseHeads(*sizes) if recipe.dense_weight else None
        self.fine = FineHeads(*sizes) if recipe.dense_weight else None
        for part in (model.vision_encoder.neck.fpn_layers[0], model.mask_decoder.pixel_decoder):
            # The finest grids take most of the time; this halves it.
            part.forward = _in_half(part, part.forward)

    def groups(self) -> Sequence[ParameterGroup]:
        """Muon for the matrices of linear layers, if at all; AdamW, slower for the encoders."""
        recipe = self.recipe
        parts = [part for part in (self.model, self.heads) if part is not None]
        linear = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]
        matrices = {id(m.weight) for m in linear} if recipe.muon_learning_rate else set()
        grouped: dict[tuple[float, float, bool], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            if name.startswith("fine."):
                key = (_FINE_RATE * recipe.learning_rate, _FINE_DECAY, False)
            elif id(parameter) in matrices:
                key = (recipe.muon_learning_rate, decay, True)
            else:
                # The encoders know most, and least of it is the dataset's.
                vision = recipe.vision_rate if "vision_encoder" in name else 1.0
                text = recipe.text_rate if "text_encoder" in name else 1.0
                key = (recipe.learning_rate * vision * text, decay, False)
            grouped[key].append(parameter)
        return [
            ParameterGroup(parameters, *key, start=recipe.dense_share)
            for key, parameters in grouped.items()
        ]

    def batches(self, step: int, progress: float) -> Iterator[SegmenterBatch]:
        recipe = self.recipe
        # Seeds are spaced for the larger of the two batch sizes.
        spacing = max(recipe.dense_batch, recipe.batch)
        for part in range(recipe.accumulate):
            first = TRAINING.start + (step * recipe.accumulate + part) * spacing
            seeds = range(first, first + recipe.batch)
            if progress < recipe.dense_share:
                yield self.builder.dense(range(first, first + recipe.dense_batch))
            elif progress >= recipe.exemplar_from and step % recipe.exemplar_every == 0:
                yield self.builder.exemplars(seeds)
            else:
                yield self.builder.phrases(seeds)

    def losses(self, batch: SegmenterBatch, step: int) -> Mapping[str, Tensor]:
        """See `TrainingTask`; a batch without pairs has dense losses only."""
        encoder = self.model.vision_encoder
        if batch.pairs is None:
            # The fusion level of the neck is all that the dense heads need.
            hidden = encoder.backbone(batch.pixels).last_hidden_state
            grid = batch.dense.coverage.shape[1]
            spatial = hidden.transpose(1, 2).reshape(len(hidden), -1, grid, grid)
            return self._dense(encoder.neck.fpn_layers[-2](spatial), batch.dense, step)
        vision = encoder(batch.pixels)
        finest, *_, fusion_level, _ = vision.fpn_hidden_states
        dense = self._dense(fusion_level, batch.dense, step)
        detections = detect(self.model, vision, batch.pairs, _worth_a_mask(batch.pairs)).float()
        # Losses are exact, whatever precision the layers run in.
        with torch.autocast(batch.pixels.device.type, enabled=False):
            return {
                **dense,
                **self._finest(finest, batch.dense),
                **self._center(detections, batch.pairs),
                **detection_losses(detections, batch.pairs),
            }

    def total(self, losses: Mapping[str, Tensor], dense: bool) -> Tensor:
        return total(losses, self.recipe.weights, 1.0 if dense else self.recipe.dense_weight)

    def validate(self) -> Mapping[str, float]:
        seeds = VALIDATION[: self.recipe.validation_scenes]
        data = self.data
        return evaluate(self.model, data.tokenizer, data.sampler, data.held_out, seeds)

    def export(self, folder: Path, *, final: bool) -> None:
        export(self.model, self.data.tokenizer, folder)

    def _dense(self, features: Tensor, truth: DenseTargets, step: int) -> Mapping[str, Tensor]:
        if self.heads is None:
            return {}
        # Names and plurals take turns.
        ids, mask = (form[step % len(form)] for form in (self._name_ids, self._name_mask))
        names = self.model.get_text_features(
            input_ids=ids, attention_mask=mask, return_dict=True
        ).pooler_output
        logits, boxes = self.heads(features)
        attention = name_attention(self.model, features, names, mask)
        with torch.autocast(features.device.type, enabled=False):
            return dense_losses(logits.float(), boxes.float(), attention.float(), truth)

    def _finest(self, features: Tensor, truth: DenseTargets) -> Mapping[str, Tensor]:
        if self.fine is None:
            return {}
        logits, codes = self.fine(features.float())
        return fine_losses(logits, codes, truth)

    def _center(self, detections: Detections, pairs: Pairs) -> Mapping[str, Tensor]:
        if self.heads is None:
            return {}
        codes = self.heads.center(detections.pixels.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return center_loss(codes, pairs, detections.shown)


def _worth_a_mask(pairs: Pairs) -> Tensor:
    """Indices of the pairs of which something is wanted; masks of the others teach nothing."""
    wanted = (pairs.counts > 0).nonzero().flatten()
    # An empty batch of masks would break the norms; one pair more does no harm.
    return wanted if len(wanted) else wanted.new_zeros(1)


def _in_half(part: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`forward` in bfloat16 while `part` trains, on weights and for callers in float32."""

    def run(*inputs: Any) -> Tensor:
        if not part.training:
            return forward(*inputs)
        with torch.autocast(next(part.parameters()).device.type, torch.bfloat16):
            return forward(*inputs).float()

    return run
