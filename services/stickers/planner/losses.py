"""What the model is held to: the answers, token by token, and what its soft tokens show.

Flow: `Batch` -> `Student.losses` -> terms -> `total` -> `services.stickers.planner.loop`. The
answers alone teach a new model to look at the picture only after very long; so a head that is
thrown away afterwards reads the concepts off the soft tokens. A checkpoint that can see needs the
answers' loss only, and the student then has no head.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from services.stickers.planner.packing import Batch
from services.stickers.planner.recipe import Recipe

# Coverage of a soft token that counts as fully showing a concept.
_FULL = 0.25


class Student(nn.Module):
    """The model and, beside it, the head that is thrown away after training."""

    def __init__(self, model: Gemma4ForConditionalGeneration, concepts: int = 0) -> None:
        """
        Args:
            model: trained in place.
            concepts: how many the head tells apart; without any there is no head.
        """
        super().__init__()
        self.model = model
        self.head: nn.Linear | None = None
        if concepts:
            self.head = nn.Linear(model.config.text_config.hidden_size, concepts)
            nn.init.constant_(self.head.bias, -4.0)

    def losses(self, batch: Batch, answers: bool) -> dict[str, torch.Tensor]:
        """The loss terms of a batch, and what goes with them for people to read.

        Returns:
            With a head `dense` and `present`, and of the concepts how many (`seen`) and of how
            many pictures all (`scenes_seen`) are told right; with `answers` the loss `answer`,
            and the share of tokens that would be written right (`tokens_right`).
        """
        features = self.model.model.get_image_features(
            batch.patches, batch.patch_positions, return_dict=True
        )
        terms = {} if self.head is None else self._looking(self.head, features, batch)
        if answers:
            terms |= self._answering(features, batch)
        return terms

    def _looking(self, head: nn.Linear, features: Any, batch: Batch) -> dict[str, torch.Tensor]:
        logits = head(torch.cat(features.pooler_output))
        dense = functional.binary_cross_entropy_with_logits(
            logits, (batch.coverage / _FULL).clamp(max=1.0), reduction="none"
        )
        strongest = torch.stack([part.amax(dim=0) for part in logits.split(batch.soft)])
        known = batch.present >= 0
        present = functional.binary_cross_entropy_with_logits(
            strongest[known], batch.present[known]
        )
        right = (strongest > 0) == (batch.present > 0)
        return {
            "dense": dense.sum(dim=1).mean(),
            "present": present * logits.shape[1],
            "seen": right[known].float().mean(),
            "scenes_seen": (right | ~known).all(dim=1).float().mean(),
        }

    def _answering(self, features: Any, batch: Batch) -> dict[str, torch.Tensor]:
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


def total(terms: Mapping[str, torch.Tensor], recipe: Recipe) -> torch.Tensor:
    """The loss that is minimised: the terms there are, by the recipe's weights."""
    answer = terms.get("answer")
    if "dense" not in terms:
        if answer is None:
            raise ValueError("neither answers nor a head: nothing to learn from")
        return recipe.answer_weight * answer
    looking = terms["dense"] + recipe.present_weight * terms["present"]
    if answer is None:
        return looking
    return recipe.dense_weight * looking + recipe.answer_weight * answer
