"""The training loop: batches, losses, steps, averaging, checkpoints, the log.

Three stages by share of the run: dense heads alone (the encoder learns the stickers and
their names), then pairs of image and phrase, then every fourth step exemplar boxes. All
examples come from seeds by step number, and so does dropout where a model has any, so that a
resumed run ends with the weights of an unbroken one.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Sam3Model

from services.stickers.curves import publish
from services.stickers.resuming import go_on
from services.stickers.runlog import RunLog
from services.stickers.segmenter.data import Batch, BatchMaker
from services.stickers.segmenter.losses import total
from services.stickers.segmenter.optimizers import optimizers
from services.stickers.segmenter.plan import Plan
from services.stickers.segmenter.student import Student
from services.stickers.splits import TRAINING

_REPORT_EVERY = 50  # steps


class Trainer:
    """Trains one model on the device it lies on; holds all that a checkpoint must hold."""

    def __init__(
        self,
        model: Sam3Model,
        batches: BatchMaker,
        names: tuple[Tensor, Tensor],
        plan: Plan,
        out: Path,
        *,
        half: bool = False,
    ) -> None:
        """
        Args:
            model: trained in place, but for what does not require gradients.
            batches: makes the examples.
            names: token ids and attention masks of the concepts' names and plurals,
                ``[forms, concepts, t]`` each.
            plan: how long and how fast.
            out: folder for checkpoints and metrics.
            half: whether the whole forward pass runs in bfloat16, as a GPU likes it. Weights,
                losses and steps stay in float32.
        """
        self.model = model
        # Copied before the student changes how some parts run. What is frozen is shared, since it
        # never differs from its average.
        frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.average = copy.deepcopy(model, frozen).eval().requires_grad_(False)
        self.step = 0
        self._student = Student(model, names, heads=plan.dense, half=half)
        self._batches = batches
        self._plan = plan
        self._out = out
        self._log = RunLog(out)
        self._elapsed = 0.0  # seconds
        self._paired_since: int | None = None
        self._optimizers = optimizers(self._student, plan)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self._plan.progress(self.step, self._elapsed / 60)

    def run(
        self,
        validate: Callable[[Sam3Model], Mapping[str, float]],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the end of the plan, from wherever the state is, and save.

        Args:
            validate: figures of the averaged model, for the log.
            stopped: asked after every step; where it says so, the run ends with a checkpoint that
                another can resume.
        """
        self.model.train()
        recent: dict[str, float] = {}
        started, done, validated = time.monotonic(), 0, -1
        while self.progress < 1 and not stopped():
            before = time.monotonic()
            parts = self.train_step()
            self._elapsed += time.monotonic() - before
            done += 1
            for name, value in parts.items():
                recent[name] = 0.95 * recent.get(name, value) + 0.05 * value
            if self.step % _REPORT_EVERY == 0:
                self._report(recent, done / (time.monotonic() - started))
            if self.step % self._plan.checkpoint_every == 0:
                self.save()
            if self.step % self._plan.validate_every == 0 and self._paired_since is not None:
                before = time.monotonic()
                self._validate(validate)
                self._elapsed += time.monotonic() - before
                validated = self.step
        self.save()
        if self.progress >= 1 and validated != self.step:
            self._validate(validate)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the parts of the loss."""
        plan = self._plan
        torch.manual_seed(self.step)
        dense_only = self.progress < plan.dense_share
        if not dense_only and self._paired_since is None:
            self._paired_since = self.step
        self._set_learning_rate()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts: dict[str, float] = {}
        for batch in self._next_batches(dense_only):
            losses = self._student.losses(batch.to(self.model.device), self.step)
            dense_weight = 1.0 if dense_only else plan.dense_weight
            scaled = {
                name: value * (dense_weight if name.startswith("dense") else 1.0)
                for name, value in losses.items()
            }
            loss = total(scaled, plan.weights) / plan.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                parts[name] = parts.get(name, 0.0) + float(value.detach()) / plan.accumulate
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        self._update_average()
        return parts

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "elapsed": self._elapsed,
            "paired_since": self._paired_since,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        self._out.mkdir(parents=True, exist_ok=True)
        partial = self._out / "checkpoint.partial"
        heads = {name: head.state_dict() for name, head in self._student.throw_away.items()}
        torch.save(state | heads, partial)
        partial.replace(self._out / "checkpoint.pt")

    def resume(self) -> bool:
        """Load the checkpoint if there is one; says whether there was."""
        path = self._out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        self.step, self._elapsed = state["step"], state["elapsed"]
        self._paired_since = state["paired_since"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for name, head in self._student.throw_away.items():
            head.load_state_dict(state[name])
        go_on(self._optimizers, state["optimizers"])
        return True

    def _next_batches(self, dense_only: bool) -> Iterator[Batch]:
        plan = self._plan
        # Seeds are spaced for the larger of the two batch sizes.
        spacing = max(plan.dense_images, plan.images)
        for part in range(plan.accumulate):
            first = TRAINING.start + (self.step * plan.accumulate + part) * spacing
            seeds = range(first, first + plan.images)
            if dense_only:
                yield self._batches.dense(range(first, first + plan.dense_images))
            elif self.progress >= plan.exemplar_from and self.step % plan.exemplar_every == 0:
                yield self._batches.exemplars(seeds)
            else:
                yield self._batches.phrases(seeds)

    def _set_learning_rate(self) -> None:
        rate = self._plan.rate(self.progress, self.step - (self._paired_since or 0))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self._plan.average, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        averaged, trained = zip(*(pair for pair in pairs if pair[1].requires_grad), strict=True)
        torch._foreach_lerp_(averaged, trained, 1 - decay)

    def _validate(self, validate: Callable[[Sam3Model], Mapping[str, float]]) -> None:
        figures = dict(validate(self.average))
        self._log.validation(self.step, self._elapsed / 60, figures)
        publish(self._out)
        print(f"segmenter step {self.step}, unseen scenes: {_listed(figures)}", flush=True)

    def _report(self, recent: Mapping[str, float], rate: float) -> None:
        left = (1 - self.progress) / max(self.progress, 1e-6) * self._elapsed / 60
        print(
            f"segmenter step {self.step} ({self.progress:.1%}) {rate:.2f} steps/s, "
            f"{left:.0f} min left: {_listed(recent)}",
            flush=True,
        )
        self._log.losses(self.step, self._elapsed / 60, recent)
        publish(self._out)


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in values.items())
