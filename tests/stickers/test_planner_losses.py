"""Losses: they are of the answers and of what is seen, and weigh what the recipe says."""

from dataclasses import replace

import pytest
import torch

from services.stickers.planner.losses import Student, total
from services.stickers.planner.packing import Batch, Layout, collate
from services.stickers.planner.recipe import Recipe
from services.stickers.splits import TRAINING
from tests.stickers.tiny_planner import real_model, student, teacher


@pytest.fixture(scope="module")
def batch() -> Batch:
    lessons = [teacher().planning((TRAINING[0], 2, index), 3) for index in range(2)]
    return collate(lessons, Layout.of(student().model.config))


def test_a_student_that_knows_everything_loses_nothing(batch: Batch) -> None:
    knowing = student()

    class Oracle(torch.nn.Module):
        """A last layer that gives the right token, whatever it is asked."""

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            wanted = batch.labels[batch.labels >= 0]
            pieces = len(teacher().preprocessor.tokenizer)
            return 50.0 * torch.nn.functional.one_hot(wanted, pieces).float()

    knowing.model.lm_head = Oracle()
    terms = knowing.losses(batch, answers=True)
    assert terms["answer"] < 1e-6
    assert terms["tokens_right"] == 1


def test_the_head_is_held_to_what_the_soft_tokens_show(batch: Batch) -> None:
    seeing = student()

    class Eye(torch.nn.Module):
        """A head that reads the truth."""

        def forward(self, soft: torch.Tensor) -> torch.Tensor:
            full = (batch.coverage / 0.25).clamp(1e-6, 1 - 1e-6)
            logits = torch.logit(full)
            there = batch.present.repeat_interleave(torch.tensor(batch.soft), dim=0) > 0
            # Thin things never fill a quarter of a soft token.
            return torch.where(there & (full > 1e-3), logits.clamp(min=0.1), logits)

    blind = seeing.losses(batch, answers=False)
    seeing.head = Eye()  # type: ignore[assignment]
    terms = seeing.losses(batch, answers=False)
    assert set(terms) == {"dense", "present", "seen", "scenes_seen"}
    assert terms["dense"] < 0.2 * blind["dense"]
    assert terms["seen"] == terms["scenes_seen"] == 1
    assert blind["scenes_seen"] < 1


def test_without_a_head_only_answers_count(batch: Batch) -> None:
    plain = Student(student().model)
    assert not any(name.startswith("head.") for name in plain.state_dict())
    terms = plain.losses(batch, answers=True)
    assert set(terms) == {"answer", "tokens_right"}
    assert total(terms, Recipe(answer_weight=3.0)) == 3.0 * terms["answer"]
    with pytest.raises(ValueError, match="nothing to learn"):
        total(plain.losses(batch, answers=False), Recipe())


def test_terms_weigh_what_the_recipe_says() -> None:
    terms = {
        name: torch.tensor(float(n)) for n, name in enumerate(("dense", "present", "answer"), 1)
    }
    recipe = Recipe(present_weight=0.5, dense_weight=0.1, answer_weight=7.0)
    looking = {name: value for name, value in terms.items() if name != "answer"}
    assert total(looking, recipe) == 2.0
    assert total(terms, recipe) == pytest.approx(0.1 * 2.0 + 7.0 * 3.0)


def test_scores_are_capped_as_the_checkpoint_says(batch: Batch) -> None:
    model = real_model("31B")
    layout = Layout.of(model.config)
    lessons = [teacher().planning((TRAINING[0], 2, index), 3) for index in range(2)]
    capped = Student(model).losses(collate(lessons, layout), answers=True)["answer"]
    with torch.no_grad():
        model.lm_head.weight.mul_(30.0)  # far beyond the cap of 3
    bounded = Student(model).losses(collate(lessons, layout), answers=True)["answer"]
    model.config.text_config.final_logit_softcapping = None
    unbounded = Student(model).losses(collate(lessons, layout), answers=True)["answer"]
    assert bounded < 6 + torch.log(torch.tensor(float(len(teacher().preprocessor.tokenizer))))
    assert unbounded > 2 * bounded
    assert capped != bounded


def test_halves_of_the_numbers_give_nearly_the_same_loss(batch: Batch) -> None:
    seeing = student().eval()
    whole = seeing.losses(batch, answers=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = seeing.losses(batch, answers=True)
    for name in ("dense", "present", "answer"):
        assert half[name].dtype is torch.float32
        torch.testing.assert_close(half[name], whole[name], rtol=0.05, atol=0.02)
        assert half[name] != whole[name]


def test_a_batch_moves_whole(batch: Batch) -> None:
    moved = replace(batch).to(torch.device("meta"))
    for name, value in vars(moved).items():
        tensors = value.values() if isinstance(value, dict) else [value]
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "meta", name
