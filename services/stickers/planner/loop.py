"""The training loop: losses, schedule, moving average, checkpoints that resume.

Flow: `Batch` -> `losses` -> `Trainer.run` -> run directory (`state.pt`, `metrics.jsonl`). Two
phases share one clock. First the vision tower alone learns which concept each soft token shows
(a language loss by itself takes very long to make the model look at the picture); then all of it
learns the answers, and the vision targets stay on. Every step's data comes from (seed, step), so
that a resumed run sees what an unbroken one would have seen.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from services.stickers.planner.data import Batch, Lesson, Teacher, collate, training_size

# Coverage of a soft token that counts as fully showing a concept.
_FULL = 0.25


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a run goes.

    Attributes:
        minutes: wall-clock budget, over which the learning rate falls to nothing.
        vision_share: of the budget, spent on the vision phase.
        scenes: a step.
        questions: a scene.
        review_every: each so many steps of the second phase is one of candidate reviews.
        matrix_rate: peak learning rate of Muon, which trains the layers' matrices.
        rate: peak learning rate of AdamW, which trains everything else.
        seed: first part of every scene's seed; lies in `splits.TRAINING`.
    """

    minutes: float = 75.0
    vision_share: float = 0.3
    scenes: int = 8
    questions: int = 5
    review_every: int = 10
    matrix_rate: float = 5e-3
    rate: float = 1.5e-3
    warm_up: float = 0.02
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    seed: int = 1_000_000_000


class Student(nn.Module):
    """The model and, beside it, the head that is thrown away after training."""

    def __init__(self, model: Gemma4ForConditionalGeneration, concepts: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.text_config.hidden_size, concepts)
        nn.init.constant_(self.head.bias, -4.0)

    def losses(self, batch: Batch, answers: bool) -> dict[str, torch.Tensor]:
        """The loss terms of a batch: `dense`, `present` and, with `answers`, `answer`."""
        features = self.model.model.get_image_features(
            batch.patches, batch.patch_positions, return_dict=True
        )
        logits = self.head(torch.cat(features.pooler_output))
        dense = functional.binary_cross_entropy_with_logits(
            logits, (batch.coverage / _FULL).clamp(max=1.0), reduction="none"
        )
        strongest = torch.stack([part.amax(dim=0) for part in logits.split(batch.soft)])
        known = batch.present >= 0
        present = functional.binary_cross_entropy_with_logits(
            strongest[known], batch.present[known]
        )
        terms = {
            "dense": dense.sum(dim=1).mean(),
            "present": present * logits.shape[1],
            "seen": ((strongest > 0) == (batch.present > 0))[known].float().mean().detach(),
            "scenes_seen": (((strongest > 0) == (batch.present > 0)) | ~known)
            .all(dim=1)
            .float()
            .mean()
            .detach(),
        }
        if answers:
            hidden = self.model.model(
                input_ids=batch.ids,
                attention_mask={
                    "full_attention": batch.visible,
                    "sliding_attention": batch.visible,
                },
                position_ids=batch.positions,
                mm_encoder_outputs={"image": features},
                use_cache=False,
            ).last_hidden_state
            asked = batch.labels >= 0
            scores = self.model.lm_head(hidden[asked])
            terms["answer"] = functional.cross_entropy(scores, batch.labels[asked])
            right = scores.detach().argmax(dim=1) == batch.labels[asked]
            terms["tokens_right"] = right.float().mean()
        return terms


class Trainer:
    """One run of a recipe in a directory; it continues where the directory's last state stands."""

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        recipe: Recipe,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.student = student
        self.recipe = recipe
        self.step = 0
        self.spent = 0.0
        self._teacher = teacher
        self._directory = directory
        self._clock = clock
        self._average = {k: v.detach().clone() for k, v in student.state_dict().items()}
        self._averaged = 0
        vision, text = _groups(student)
        groups = [(t, _matrices(g), _others(g)) for t, g in (("vision", vision), ("text", text))]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                [{"params": own, "tower": t, "peak": recipe.matrix_rate} for t, own, _ in groups],
                lr=0.0,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                [{"params": own, "tower": t, "peak": recipe.rate} for t, _, own in groups],
                lr=0.0,
                betas=(0.9, 0.98),
                weight_decay=0.0,
            ),
        )
        directory.mkdir(parents=True, exist_ok=True)
        if self._state.exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.spent / (60.0 * self.recipe.minutes)

    @property
    def answering(self) -> bool:
        """Whether the second phase has begun."""
        return self.progress >= self.recipe.vision_share

    def steps(self) -> Iterator[dict[str, float]]:
        """Train until the budget is spent; gives each step's figures."""
        while self.progress < 1.0:
            began = self._clock()
            figures = self._one_step()
            self.spent += self._clock() - began
            self.step += 1
            yield figures

    def save(self) -> None:
        """Write all that a resumed run needs; a crash while writing leaves the old state."""
        state = {
            "student": self.student.state_dict(),
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

    def log(self, figures: Mapping[str, float]) -> None:
        """Append a line to `metrics.jsonl`."""
        line = {"step": self.step, "minutes": round(self.spent / 60, 2), **figures}
        with (self._directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def averaged(self) -> Iterator[Student]:
        """The student with its averaged weights, for as long as the context lasts."""
        own = {key: value.clone() for key, value in self.student.state_dict().items()}
        self.student.load_state_dict(self._average)
        self.student.eval()
        try:
            yield self.student
        finally:
            self.student.load_state_dict(own)
            self.student.train()

    @property
    def _state(self) -> Path:
        return self._directory / "state.pt"

    def _load(self) -> None:
        state = torch.load(self._state, weights_only=True)
        self.student.load_state_dict(state["student"])
        self._average, self._averaged = state["average"], state["averaged"]
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.spent = state["step"], state["spent"]

    def _one_step(self) -> dict[str, float]:
        answers = self.answering
        batch = collate(self._lessons(answers))
        terms = self.student.losses(batch, answers)
        loss = terms["dense"] + 0.3 * terms["present"]
        if answers:
            loss = 0.3 * loss + 2.0 * terms["answer"]
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * self._schedule(group["tower"])
            optimizer.step()
            optimizer.zero_grad()
        self._follow()
        return {key: float(value.detach()) for key, value in terms.items()} | {"norm": float(norm)}

    def _lessons(self, answers: bool) -> list[Lesson]:
        recipe = self.recipe
        seeds = [(recipe.seed, self.step, index) for index in range(recipe.scenes)]
        # One size a step: scenes of one shape need no padding.
        size = training_size(np.random.default_rng([recipe.seed, self.step]))
        if not answers:
            return [self._teacher.looking(seed, size) for seed in seeds]
        if self.step % recipe.review_every == 0:
            return [self._teacher.reviewing(seed, recipe.questions) for seed in seeds]
        return [self._teacher.planning(seed, recipe.questions, size) for seed in seeds]

    def _schedule(self, tower: str) -> float:
        """Warm-up, then a cosine to nothing; the language model starts with its phase."""
        recipe = self.recipe
        start = 0.0 if tower == "vision" else recipe.vision_share
        done = (self.progress - start) / (1.0 - start)
        rising = min(1.0, max(0.0, done) / recipe.warm_up + 1e-2)
        return rising * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; while it is young it follows faster."""
        self._averaged += 1
        keep = min(self.recipe.average, (1 + self._averaged) / (10 + self._averaged))
        for key, value in self.student.state_dict().items():
            if value.is_floating_point():
                self._average[key].lerp_(value, 1.0 - keep)


def _groups(student: Student) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """The parameters of the vision side (with the head), and those of the language model."""
    vision: dict[str, nn.Parameter] = {}
    text: dict[str, nn.Parameter] = {}
    for name, parameter in student.named_parameters():
        sees = name.startswith("head.") or "vision" in name
        (vision if sees else text)[name] = parameter
    return vision, text


def _matrices(group: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    """The weights between hidden states: what Muon is made for."""
    return [p for name, p in group.items() if p.ndim == 2 and ".layers." in name]


def _others(group: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    """Embeddings, first and last projections, norms, biases: AdamW's."""
    return [p for name, p in group.items() if p.ndim != 2 or ".layers." not in name]
