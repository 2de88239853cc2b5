"""The training loop: steps, moving average, checkpoints, log, validation, export.

Every step's data comes from its number, and so does dropout where a model has any. A run that is
bounded by steps and was stopped anywhere ends, on a CPU, with the weights of an uninterrupted one.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from services.errors import CheckpointError
from services.replica.failures import is_out_of_memory
from services.replica.weight_files import kind_of
from training.kit.curves import publish
from training.kit.metrics import MetricsLog
from training.kit.optimizers import optimizers, restore, set_rates
from training.kit.task import TrainingTask

Tensors = list[Tensor] | tuple[Tensor, ...]

_SMOOTHING = 0.95  # of the logged losses


class DivergedError(ValueError):
    """A run whose gradients are not finite: a step along them would leave no number sound."""


class Trainer:
    """Trains one task in a run folder; holds all that a checkpoint holds.

    Args:
        task: trained in place, as far as its weights require gradients; moved to `device`.
        folder: of the run; made where it is missing.
        device: where to train; by default the CPU.
        half: whether layers run in bfloat16. Weights and optimizers keep their precision.
        clock: seconds.
    """

    def __init__(
        self,
        task: TrainingTask,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        half: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task = task.to(device)
        self.recipe = task.recipe
        self.folder = folder
        self.step = 0
        self._device = torch.device(device)
        self._half = half
        self._clock = clock
        self._elapsed = 0.0  # seconds
        self._saved = 0.0  # minutes, at the last checkpoint
        self._saved_step = 0
        self._changing = False  # the weights, so that they are of no step
        self._smoothed: dict[str, float] = {}
        self._weights = {n: p for n, p in task.named_parameters() if p.requires_grad}
        self._trained = nn.ParameterList(self._weights.values())
        # Only what is trained is averaged and saved: the rest never changes.
        self._average = AveragedModel(self._trained, multi_avg_fn=self._follow)
        self._optimizers = optimizers(task.groups())
        self._log = MetricsLog(folder)

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return self.recipe.progress(self.step, self.minutes)

    @property
    def minutes(self) -> float:
        """How long the run has trained and validated."""
        return self._elapsed / 60

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Train to the end, from wherever the state is; then validate and export.

        Steps done since the last checkpoint outlive an error: they are saved before it is raised.

        Args:
            stopped: asked after every step; where it says so, the run saves and returns.

        Raises:
            DivergedError: the gradient is not finite any more.
            Exception: whatever the task raises.
        """
        try:
            self._train(stopped)
        except Exception:
            self._rescue()
            raise
        if self.progress >= 1.0:
            self._validate()
            publish(self.folder)
            self._put(self._average.module.parameters())
            self.task.eval().export(self.folder / "export", final=True)

    def _train(self, stopped: Callable[[], bool]) -> None:
        recipe = self.recipe
        self.task.train()
        while self.progress < 1.0 and not stopped():
            self.train_step()
            logged = self.step % recipe.log_every == 0
            if logged:
                self._log.losses(self.step, self.minutes, self._smoothed)
                left = self.minutes * (1 / self.progress - 1)
                self._say(f"{self.minutes:.1f} min, {left:.0f} left", self._smoothed)
            if self.minutes - self._saved >= recipe.checkpoint_minutes:
                self.save()
            if self.progress >= 1.0:
                break  # what is due now is done once, below
            due = self.step % recipe.validate_every == 0
            if validated := due and self.progress >= recipe.dense_share:
                self._validate()
            if logged or validated:
                publish(self.folder)
        self.save()

    def _rescue(self) -> None:
        """Save what was learned since the last checkpoint, if it can be gone on with."""
        if self.step == self._saved_step:
            return
        told = f"{self.task.name}: saved at step {self.step}; the same command goes on from there"
        if self._changing or not self._finite():
            told = f"{self.task.name}: not saved at step {self.step}: its numbers are broken"
        else:
            try:
                self.save()
            except OSError as error:
                told = f"{self.task.name}: not saved at step {self.step}: {error}"
        print(told, flush=True)

    def _finite(self) -> bool:
        """Whether every number that a checkpoint would hold is finite."""
        state = [optimizer.state_dict()["state"] for optimizer in self._optimizers]
        tensors = [*self._trained, *self._average.buffers(), *self._average.parameters()]
        tensors += [
            value
            for each in state
            for values in each.values()
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def train_step(self) -> dict[str, float]:
        """One optimizer step; returns its losses, and the gradient's norm before clipping."""
        with self._timed():
            parts = self._step()
        for name, value in parts.items():
            before = self._smoothed.get(name, value)
            self._smoothed[name] = _SMOOTHING * before + (1 - _SMOOTHING) * value
        return parts

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "elapsed": self._elapsed,
            "weights": {name: weight.detach() for name, weight in self._weights.items()},
            "average": self._average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        partial = self.folder / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")
        self._saved, self._saved_step = self.minutes, self.step

    def resume(self) -> bool:
        """Load the folder's checkpoint if there is one; says whether there was.

        Raises:
            CheckpointError: it cannot be read, or holds numbers that are not finite.
            ValueError: it is of a run that trains other weights.
        """
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = _read(path, self._device)
        if _shapes(state["weights"]) != _shapes(self._weights):
            raise ValueError(f"{path} is of a run that trains other weights than this one")
        self._put(state["weights"][name] for name in self._weights)
        self._average.load_state_dict(state["average"])
        restore(self._optimizers, state["optimizers"])
        self.step, self._elapsed = state["step"], state["elapsed"]
        self._saved, self._saved_step = self.minutes, self.step
        if not self._finite():
            raise CheckpointError(
                f"{path} holds numbers that are not finite: its training had failed; move it away "
                "to begin anew"
            )
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The task's model has its averaged weights, in evaluation mode, while this lasts."""
        own = [weight.detach().clone() for weight in self._trained]
        self._put(self._average.module.parameters())
        self.task.eval()
        try:
            yield
        finally:
            self._put(own)
            self.task.train()

    def _step(self) -> dict[str, float]:
        recipe, progress = self.recipe, self.progress
        dense = progress < recipe.dense_share
        torch.manual_seed(self.step)
        set_rates(self._optimizers, recipe, progress)
        parts: dict[str, float] = {}
        for batch in self.task.batches(self.step, progress):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
                losses = self.task.losses(moved(batch, self._device), self.step)
                loss = self.task.total(losses, dense) / recipe.accumulate
            torch.autograd.backward(loss)
            for name, value in losses.items():
                parts[name] = parts.get(name, 0.0) + float(value.detach()) / recipe.accumulate
        norm = nn.utils.clip_grad_norm_(self._trained, recipe.clip, foreach=True)
        if not math.isfinite(float(norm)):
            told = ", ".join(f"{name} {value:g}" for name, value in parts.items())
            raise DivergedError(
                f"step {self.step + 1}: the gradient is not finite ({told}); a lower learning rate "
                "or --precision float32 may help"
            )
        self._changing = True
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self._average.update_parameters(self._trained)
        self._changing = False
        return parts | {"norm": float(norm)}

    def _follow(self, averaged: Tensors, trained: Tensors, count: Tensor | int) -> None:
        # While it is young, the average follows faster.
        decay = min(self.recipe.ema, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, trained, 1 - decay)

    def _validate(self) -> None:
        with self._timed(), self.averaged():
            if self.progress < 1.0:
                self.task.export(self.folder / "export", final=False)
            figures = self.task.validate()
        if figures:
            self._log.validation(self.step, self.minutes, figures)
            self._say("held-out scenes", figures)

    @torch.no_grad()
    def _put(self, weights: Iterable[Tensor]) -> None:
        for own, weight in zip(self._trained, weights, strict=True):
            own.copy_(weight)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = self._clock()
        yield
        self._elapsed += self._clock() - began

    def _say(self, what: str, values: Mapping[str, float]) -> None:
        listed = " ".join(f"{name} {value:.3f}" for name, value in values.items())
        where = f"{self.task.name} step {self.step} ({self.progress:.1%})"
        print(f"{where}, {what}: {listed}", flush=True)


def moved(value: Any, device: torch.device) -> Any:
    """Nested dataclasses, mappings and sequences of tensors, on another device."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        changed = {name: moved(getattr(value, name), device) for name in names}
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: moved(entry, device) for key, entry in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """The state in a run's checkpoint.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        missing = {"step", "elapsed", "weights", "average", "optimizers"} - set(state)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        UnpicklingError,
    ) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path} cannot be read: it is {kind_of(path)}, and no whole one of a run; move it "
            "away to begin anew"
        ) from error
    if missing:
        raise CheckpointError(
            f"{path} is not of a run: it has no {', '.join(sorted(missing))}; move it away"
        )
    return state


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}
