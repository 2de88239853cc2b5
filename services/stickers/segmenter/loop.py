"""The training loop of the tiny segmenter: stages, schedule, averaging, checkpoints.

Three stages by share of the run: dense heads alone (the encoder learns the stickers and
their names), then pairs of image and phrase, then every fourth step exemplar boxes. All
examples come from seeds by step number and nothing else is random, so that a resumed run
ends with the weights of an unbroken one.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Sam3Model

from services.stickers.segmenter.data import Batch, BatchMaker
from services.stickers.segmenter.detection import DenseHeads, detect, name_attention
from services.stickers.segmenter.losses import (
    LossWeights,
    centre_loss,
    dense_losses,
    detection_losses,
    total,
)
from services.stickers.splits import TRAINING


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: at most this many; the default takes about 75 minutes of one core.
        minutes: at most this much wall clock; the schedule follows whichever share is larger.
        dense_images, images: images a step in the dense stage and after it.
        dense_share: share of the run for the dense stage.
        exemplar_from: share of the run after which some steps show exemplars.
        exemplar_every: one step in so many.
        learning_rate: peak.
        matrix_rate: factor on it for the matrices that Muon trains.
        weight_decay: of matrices; vectors are not decayed.
        warm_up: steps, at the start and again when the pairs begin.
        average: decay of the weights' moving average.
        checkpoint_every, validate_every: steps.
        dense_weight: factor on the dense losses once pairs are trained.
    """

    steps: int = 4_500
    minutes: float = math.inf
    dense_images: int = 16
    images: int = 8
    dense_share: float = 0.14
    exemplar_from: float = 0.5
    exemplar_every: int = 4
    learning_rate: float = 1e-3
    matrix_rate: float = 2.5
    weight_decay: float = 0.03
    warm_up: int = 150
    average: float = 0.998
    checkpoint_every: int = 200
    validate_every: int = 500
    dense_weight: float = 0.6
    weights: LossWeights = field(default_factory=LossWeights)


class Trainer:
    """Trains one model; holds all that a checkpoint must hold."""

    def __init__(
        self,
        model: Sam3Model,
        batches: BatchMaker,
        names: tuple[Tensor, Tensor],
        plan: Plan,
        out: Path,
    ) -> None:
        """
        Args:
            model: trained in place.
            batches: makes the examples.
            names: token ids and attention masks of the concepts' names and plurals,
                ``[forms, concepts, t]`` each.
            plan: how long and how fast.
            out: folder for checkpoints and metrics.
        """
        self.model = model
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.step = 0
        self._batches = batches
        self._names = names
        self._plan = plan
        self._out = out
        self._elapsed = 0.0
        self._paired_since: int | None = None
        self._heads = DenseHeads(model.config.detr_encoder_config.hidden_size, names[0].shape[1])
        _halve(model)
        self._optimizers = _optimizers(nn.ModuleList([model, self._heads]), plan)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        by_time = self._elapsed / (60 * self._plan.minutes)
        return min(1.0, max(self.step / self._plan.steps, by_time))

    def run(self, validate: Callable[[Sam3Model], Mapping[str, float]]) -> None:
        """Train to the end of the plan, from wherever the state is.

        Args:
            validate: figures of the averaged model, for the log.
        """
        self.model.train()
        recent: dict[str, float] = {}
        started, done = time.monotonic(), 0
        while self.progress < 1:
            before = time.monotonic()
            parts = self.train_step()
            self._elapsed += time.monotonic() - before
            done += 1
            for name, value in parts.items():
                recent[name] = 0.95 * recent.get(name, value) + 0.05 * value
            if self.step % 50 == 0:
                self._report(recent, done / (time.monotonic() - started))
            if self.step % self._plan.validate_every == 0 and self._paired_since is not None:
                before = time.monotonic()
                self._log({"validation": dict(validate(self.average))})
                self._elapsed += time.monotonic() - before
            if self.step % self._plan.checkpoint_every == 0:
                self.save()
        self.save()
        self._log({"validation": dict(validate(self.average))})

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the parts of the loss."""
        plan = self._plan
        dense_only = self.progress < plan.dense_share
        if not dense_only and self._paired_since is None:
            self._paired_since = self.step
        self._set_learning_rate()
        parts = self._losses(self._next_batch(dense_only))
        scaled = {
            name: value * (1 if dense_only or not name.startswith("dense") else plan.dense_weight)
            for name, value in parts.items()
        }
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        total(scaled, plan.weights).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in parts.items()}

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "elapsed": self._elapsed,
            "paired_since": self._paired_since,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "heads": self._heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        self._out.mkdir(parents=True, exist_ok=True)
        partial = self._out / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self._out / "checkpoint.pt")

    def resume(self) -> bool:
        """Load the checkpoint if there is one; says whether there was."""
        path = self._out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.step, self._elapsed = state["step"], state["elapsed"]
        self._paired_since = state["paired_since"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return True

    def _next_batch(self, dense_only: bool) -> Batch:
        plan = self._plan
        # Seeds are spaced for the larger of the two batch sizes.
        first = TRAINING.start + self.step * max(plan.dense_images, plan.images)
        if dense_only:
            return self._batches.dense(range(first, first + plan.dense_images))
        seeds = range(first, first + plan.images)
        if self.progress >= plan.exemplar_from and self.step % plan.exemplar_every == 0:
            return self._batches.exemplars(seeds)
        return self._batches.phrases(seeds)

    def _losses(self, batch: Batch) -> Mapping[str, Tensor]:
        encoder = self.model.vision_encoder
        if batch.pairs is None:
            # The fusion level of the neck is all that the dense heads need.
            hidden = encoder.backbone(batch.pixels).last_hidden_state
            grid = batch.coverage.shape[1]
            spatial = hidden.transpose(1, 2).reshape(len(hidden), -1, grid, grid)
            fusion_level = encoder.neck.fpn_layers[-2](spatial)
            return self._dense(fusion_level, batch)
        vision = encoder(batch.pixels)
        wanted = (batch.pairs.counts > 0).nonzero().flatten()
        # An empty batch of masks would break the norms; one pair more does no harm.
        shown = wanted if len(wanted) else torch.zeros(1, dtype=torch.long)
        detections = detect(self.model, vision, batch.pairs, shown)
        codes = self._heads.centre(detections.pixels.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return {
            **self._dense(vision.fpn_hidden_states[-2], batch),
            **detection_losses(detections, batch.pairs),
            **centre_loss(codes, batch.pairs, detections.shown),
        }

    def _dense(self, features: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        ids, mask = (form[self.step % len(form)] for form in self._names)
        names = self.model.get_text_features(
            input_ids=ids, attention_mask=mask, return_dict=True
        ).pooler_output
        logits, boxes = self._heads(features)
        attention = name_attention(self.model, features, names, mask)
        return dense_losses(logits, boxes, attention, batch)

    def _set_learning_rate(self) -> None:
        plan = self._plan
        since = self.step - (self._paired_since or 0)
        warm = min(1.0, (since + 1) / plan.warm_up)
        share = max(0.0, self.progress - plan.dense_share) / (1 - plan.dense_share)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * warm * cosine

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self._plan.average, (1 + self.step) / (10 + self.step))
        averaged = list(self.average.parameters())
        torch._foreach_lerp_(averaged, list(self.model.parameters()), 1 - decay)

    def _report(self, recent: Mapping[str, float], rate: float) -> None:
        left = (1 - self.progress) / max(self.progress, 1e-6) * self._elapsed / 60
        values = " ".join(f"{name} {value:.3f}" for name, value in recent.items())
        print(
            f"step {self.step} ({self.progress:.1%}) {rate:.2f} steps/s, {left:.0f} min left: "
            f"{values}",
            flush=True,
        )
        self._log({"loss": dict(recent), "steps_per_second": rate})

    def _log(self, entry: Mapping[str, object]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        line = {"step": self.step, "minutes": self._elapsed / 60, **entry}
        with (self._out / "metrics.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if "validation" in entry:
            print(json.dumps(line), flush=True)


def _halve(model: Sam3Model) -> None:
    """Run the finest grids' convolutions in bfloat16: half of their time, the same weights."""
    for part in (model.vision_encoder.neck.fpn_layers[0], model.mask_decoder.pixel_decoder):
        part.forward = _halved(part.forward)


def _halved(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(*inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(*inputs).float()

    return run


def _optimizers(module: nn.Module, plan: Plan) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of linear layers, AdamW for all else.

    Muon (Jordan et al., 2024) with AdamW's step size (Liu et al., 2025) learns more from each
    of the few examples that a CPU can afford.
    """
    matrices = [part.weight for part in module.modules() if isinstance(part, nn.Linear)]
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in module.parameters() if id(p) not in chosen]
    decayed = [p for p in others if p.ndim > 1]
    plain = [p for p in others if p.ndim <= 1]
    return (
        torch.optim.Muon(
            [{"params": matrices, "peak": plan.learning_rate * plan.matrix_rate}],
            weight_decay=plan.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [
                {"params": decayed, "peak": plan.learning_rate, "weight_decay": plan.weight_decay},
                {"params": plain, "peak": plan.learning_rate, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            foreach=True,
        ),
    )
