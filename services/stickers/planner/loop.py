"""The training loop: schedule, moving average, states that resume.

Flow: `Curriculum` -> `Batch` -> `Student` -> `Trainer.steps` -> run folder (`state.pt`). Two phases
share one clock. First the vision tower alone learns which concept each soft token shows; then all
of it learns the answers, and the vision targets stay on. Fine-tuning has the second phase only.

Every step's data comes from (seed, step), nothing else is random, and by default the schedule
counts steps: so a run that was stopped anywhere ends, on a CPU, with the very weights of an
unbroken one. A budget of minutes gives that up.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from services.stickers.planner.curriculum import Curriculum
from services.stickers.planner.losses import Student, total
from services.stickers.planner.optimisers import optimisers, set_rates
from services.stickers.planner.packing import Layout, collate
from services.stickers.planner.recipe import Recipe
from services.stickers.resuming import go_on


class Trainer:
    """One run of a recipe in a folder; it continues where the folder's last state stands."""

    def __init__(
        self,
        student: Student,
        curriculum: Curriculum,
        directory: Path,
        device: torch.device | None = None,
        half: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            student: trained in place, as far as its weights need gradients.
            curriculum: what it learns, and the recipe.
            directory: of the run; made where it is missing.
            device: where to train; by default the CPU.
            half: whether the layers run in bfloat16; the weights keep their type.
            clock: seconds.

        Raises:
            ValueError: the folder holds a run of other weights.
        """
        self.student = student
        self.recipe: Recipe = curriculum.recipe
        self.step = 0
        self.spent = 0.0
        self.resumed_recipe: Mapping[str, object] = {}
        self._curriculum = curriculum
        self.directory = directory
        self._device = torch.device("cpu") if device is None else device
        self._half = half
        self._clock = clock
        self._layout = Layout.of(student.model.config)
        student.to(self._device)
        self._average = {key: value.detach().clone() for key, value in self._weights().items()}
        self._averaged = 0
        self._optimizers = optimisers(student, self.recipe)
        directory.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        recipe = self.recipe
        by_step = self.step / recipe.steps if recipe.steps else 0.0
        by_clock = self.spent / (60.0 * recipe.minutes) if recipe.minutes else 0.0
        return min(1.0, max(by_step, by_clock))

    @property
    def answering(self) -> bool:
        """Whether the second phase has begun."""
        return self.progress >= self.recipe.vision_share

    @property
    def minutes(self) -> float:
        """How long it has trained."""
        return self.spent / 60.0

    def steps(self) -> Iterator[dict[str, float]]:
        """Train until the end of the recipe; gives each step's figures."""
        self.student.train()
        while self.progress < 1.0:
            began = self._clock()
            figures = self._one_step()
            self.spent += self._clock() - began
            self.step += 1
            yield figures

    def save(self) -> None:
        """Write all that a resumed run needs; a crash while writing leaves the old state."""
        state = {
            "student": self._weights(),
            "average": self._average,
            "averaged": self._averaged,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "step": self.step,
            "spent": self.spent,
            "recipe": asdict(self.recipe),
        }
        partial = self._state.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._state)

    @contextmanager
    def averaged(self) -> Iterator[Student]:
        """The student with its averaged weights, for as long as the context lasts."""
        own = {key: value.clone() for key, value in self._weights().items()}
        self._put(self._average)
        self.student.eval()
        try:
            yield self.student
        finally:
            self._put(own)
            self.student.train()

    def settle(self) -> Student:
        """The student with its averaged weights, for good: the run's result."""
        self._put(self._average)
        return self.student.eval()

    @property
    def _state(self) -> Path:
        return self.directory / "state.pt"

    def _load(self) -> None:
        state = torch.load(self._state, weights_only=True, map_location="cpu")
        if _shapes(state["student"]) != _shapes(self._average):
            raise ValueError(f"{self._state} is of a run that trains other weights than this one")
        self._put(state["student"])
        for key, value in state["average"].items():
            self._average[key].copy_(value)
        self._averaged = state["averaged"]
        go_on(self._optimizers, state["optimizers"])
        self.step, self.spent = state["step"], state["spent"]
        self.resumed_recipe = state["recipe"]

    def _weights(self) -> dict[str, torch.Tensor]:
        """What training changes: of a LoRA run the adapter, otherwise everything."""
        weights: dict[str, torch.Tensor] = self.student.state_dict()
        frozen = {n for n, p in self.student.named_parameters() if not p.requires_grad}
        if not frozen:
            return weights
        trained = {n for n, p in self.student.named_parameters() if p.requires_grad}
        return {name: value for name, value in weights.items() if name in trained}

    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.student.load_state_dict(weights, strict=False)

    def _one_step(self) -> dict[str, float]:
        answers = self.answering
        lessons = self._curriculum.lessons(self.step, answers)
        figures: dict[str, float] = {}
        parts = self.recipe.accumulate
        for part in range(parts):
            # By turns, so that scenes and own examples are in each.
            batch = collate(lessons[part::parts], self._layout).to(self._device)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
                terms = self.student.losses(batch, answers)
                loss = total(terms, self.recipe) / parts
            torch.autograd.backward(loss)
            for key, value in terms.items():
                figures[key] = figures.get(key, 0.0) + float(value.detach()) / parts
        trained = [p for p in self.student.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(trained, self.recipe.clip)
        for optimizer in self._optimizers:
            set_rates(optimizer, self.progress, self.recipe)
            optimizer.step()
            optimizer.zero_grad()
        self._follow()
        return figures | {"norm": float(norm)}

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; while it is young it follows faster."""
        self._averaged += 1
        keep = min(self.recipe.average, (1 + self._averaged) / (10 + self._averaged))
        for key, value in self._weights().items():
            if value.is_floating_point():
                self._average[key].lerp_(value, 1.0 - keep)


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
