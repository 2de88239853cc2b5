"""The planner's training task: a Gemma 4 with its throw-away head, from a step to its losses.

First the vision tower alone learns which concept each soft token shows, through a head; then the
whole model learns the answers, token by token, and the dense targets stay on. From answers alone a
new model learns to look at the image only after very long. A checkpoint that can see needs them
only, and has no head.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.datasets.sources import SceneSource
from training.kit.task import ParameterGroup, TrainingTask
from training.planner.evaluator import PlanEvaluator
from training.planner.example_file import ExampleFile
from training.planner.examples import ExampleBuilder, TrainingExample
from training.planner.figures import figures_of
from training.planner.models import PlannerModel, export
from training.planner.packing import Layout, PlannerBatch, collate
from training.planner.recipe import PlannerRecipe
from training.planner.scenery import training_size
from training.world.splits import TRAINING, VALIDATION

# Coverage of a soft token that counts as fully showing a concept.
_FULL = 0.25


class PlannerTask(TrainingTask):
    """Trains a planner, in place, on scenes, on a file of examples, or on both.

    Args:
        planner: frozen where its weights do not require gradients.
        recipe: the run's numbers.
        builder: makes examples of scenes.
        file: your own examples.
        held_out: scenes to validate on; without any, no validation.
        size: of those scenes in pixels, if they can be drawn so.
        merged: whether adapters are merged into the exported weights.

    Raises:
        ValueError: there is nothing to learn from.
    """

    name = "planner"

    def __init__(
        self,
        planner: PlannerModel,
        recipe: PlannerRecipe,
        builder: ExampleBuilder | None,
        file: ExampleFile | None = None,
        held_out: SceneSource | None = None,
        size: tuple[int, int] | None = None,
        merged: bool = True,
    ) -> None:
        super().__init__()
        if builder is None and file is None:
            raise ValueError("nothing to learn from: neither scenes nor examples")
        if file is not None and recipe.dense:
            raise ValueError("a file of examples has no masks: it has no dense targets")
        self.planner = planner
        self.model = planner.model
        self.recipe: PlannerRecipe = recipe
        self.layout = Layout.of(self.model.config)
        self._builder, self._file = builder, file
        self._held_out, self._size, self._merged = held_out, size, merged
        self.head: nn.Linear | None = None
        if recipe.dense and builder is not None:
            self.head = nn.Linear(self.model.config.text_config.hidden_size, builder.concepts)
            nn.init.constant_(self.head.bias, -4.0)

    def groups(self) -> Sequence[ParameterGroup]:
        """Muon for the matrices between hidden states, if at all; AdamW for everything else.

        The language model's learning rate falls from the second stage on, in which it is trained.
        """
        recipe = self.recipe
        grouped: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                vision = name.startswith("head.") or "vision" in name
                matrix = parameter.ndim == 2 and ".layers." in name
                grouped.setdefault((vision, matrix), []).append(parameter)
        groups = []
        for (vision, matrix), parameters in grouped.items():
            muon = matrix and recipe.muon_learning_rate > 0
            peak = recipe.muon_learning_rate if muon else recipe.learning_rate
            decay = recipe.weight_decay if matrix else 0.0
            start = 0.0 if vision else recipe.dense_share
            groups.append(ParameterGroup(parameters, peak, decay, muon, start))
        return groups

    def batches(self, step: int, progress: float) -> Iterator[PlannerBatch]:
        examples = self.examples(step, dense=progress < self.recipe.dense_share)
        parts = self.recipe.accumulate
        for part in range(parts):
            # By turns, so that scenes and the file's examples are in each.
            yield collate(examples[part::parts], self.layout)

    def examples(self, step: int, dense: bool) -> list[TrainingExample]:
        """What a step learns from; the same for the same step.

        Args:
            step: its number.
            dense: whether the run is in its first stage, which asks no questions.
        """
        recipe, first = self.recipe, TRAINING.start + self.recipe.seed
        count = recipe.batch * recipe.accumulate
        seeds = [(first, step, index) for index in range(count)]
        own: list[TrainingExample] = []
        if self._file is not None:
            share = 1.0 if self._builder is None else recipe.examples_share
            own = [
                self._file.example(seed, recipe.questions) for seed in seeds[: round(share * count)]
            ]
        if self._builder is None:
            return own
        # One size a step: scenes of one shape need no padding.
        size = training_size(np.random.default_rng([first, step]))
        seeds = seeds[len(own) :]
        if dense:
            return [self._builder.dense(seed, size) for seed in seeds]
        if step % recipe.review_every == 0:
            return own + [self._builder.reviewing(seed, recipe.questions) for seed in seeds]
        return own + [self._builder.planning(seed, recipe.questions, size) for seed in seeds]

    def losses(self, batch: PlannerBatch, step: int = 0) -> Mapping[str, Tensor]:
        """See `TrainingTask`.

        Returns:
            With a head `dense` and `present`, and of the concepts how many (`seen`) and of how
            many images all (`scenes_seen`) are told right; where there are answers their loss,
            `answer`, and the share of tokens that would be written right (`tokens_right`).
        """
        features = self.model.model.get_image_features(
            batch.patches, batch.patch_positions, return_dict=True
        )
        losses = {} if self.head is None else _dense(self.head, features, batch)
        return losses | self._answers(features, batch) if batch.ids.shape[1] else losses

    def total(self, losses: Mapping[str, Tensor], dense: bool) -> Tensor:
        recipe = self.recipe
        parts = []
        if "dense" in losses:
            looking = losses["dense"] + recipe.present_weight * losses["present"]
            parts.append(looking * (1.0 if dense else recipe.dense_weight))
        if "answer" in losses:
            parts.append(recipe.answer_weight * losses["answer"])
        return torch.stack(parts).sum()

    def validate(self) -> Mapping[str, float]:
        seeds = VALIDATION[: self.recipe.validation_scenes]
        if self._held_out is None or not seeds:
            return {}
        builder = ExampleBuilder(self._held_out, self.planner.preprocessor, labeled=False)
        evaluator = PlanEvaluator(builder)
        answers = evaluator.plans(self.model, seeds, size=self._size)
        reviews = evaluator.reviews(self.model, seeds)
        return figures_of(answers, reviews, self._held_out.vocabulary).brief()

    def export(self, folder: Path, *, final: bool) -> None:
        """See `TrainingTask`; adapters are merged at the end only, since that uses them up."""
        if final or self.planner.adapted is None or not self._merged:
            export(self.planner, folder, self._merged)

    def _answers(self, features: Any, batch: PlannerBatch) -> dict[str, Tensor]:
        hidden = self.model.model(
            input_ids=batch.ids,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            mm_token_type_ids=batch.soft_tokens,
            mm_encoder_outputs={"image": features},
            use_cache=False,
        ).last_hidden_state
        asked = batch.labels >= 0
        wanted = batch.labels[asked]
        # Only where an answer stands: of a real vocabulary's 262,144 scores a token, most by far
        # would be thrown away.
        scores = self.model.lm_head(hidden[asked])
        if (limit := self.model.config.text_config.final_logit_softcapping) is not None:
            scores = limit * torch.tanh(scores / limit)
        right = scores.detach().argmax(dim=1) == wanted
        return {
            "answer": functional.cross_entropy(scores.float(), wanted),
            "tokens_right": right.float().mean(),
        }


def _dense(head: nn.Linear, features: Any, batch: PlannerBatch) -> dict[str, Tensor]:
    logits = head(torch.cat(features.pooler_output))
    dense = functional.binary_cross_entropy_with_logits(
        logits, (batch.coverage / _FULL).clamp(max=1.0), reduction="none"
    )
    strongest = torch.stack([part.amax(dim=0) for part in logits.split(batch.soft)])
    known = batch.present >= 0
    present = functional.binary_cross_entropy_with_logits(strongest[known], batch.present[known])
    right = (strongest > 0) == (batch.present > 0)
    return {
        "dense": dense.sum(dim=1).mean(),
        "present": present * logits.shape[1],
        "seen": right[known].float().mean(),
        "scenes_seen": (right | ~known).all(dim=1).float().mean(),
    }
