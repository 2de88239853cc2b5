"""Packing: a row gives exactly what the separate conversations would, whatever the model's size."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from tests.training.planner.tiny import SHAPE, SWITCHES, builder, preprocessor, real_model
from training.planner.config import new_model
from training.planner.examples import TrainingExample
from training.planner.packing import Layout, PlannerBatch, collate
from training.world.splits import TRAINING

SEED = (TRAINING[0], 1)


@pytest.fixture(scope="module")
def examples() -> list[TrainingExample]:
    """One of several questions, one of two, and a review of two pictures."""
    taught = builder()
    made = [
        taught.planning((*SEED, 5), 4),
        taught.planning((*SEED, 6), 2),
        taught.reviewing((*SEED, 7), 3),
    ]
    assert [len(example.turns) for example in made] == [4, 2, 3]
    return made


def _model(size: str) -> Gemma4ForConditionalGeneration:
    if size == "shipped":
        return new_model(SHAPE, preprocessor().tokenizer, seed=3).eval()
    return real_model(size).eval()


def _plain_losses(model: Gemma4ForConditionalGeneration, example: TrainingExample) -> torch.Tensor:
    """The loss of each answer token, from transformers' own forward of each conversation."""
    losses = []
    for question, answer in example.turns:
        ids = torch.tensor([example.prefix + question + answer])
        logits = model(
            input_ids=ids,
            pixel_values=torch.stack([torch.from_numpy(p.patches) for p in example.images]),
            image_position_ids=torch.stack([torch.from_numpy(p.positions) for p in example.images]),
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
        ).logits[0]
        wanted = torch.tensor(answer)
        losses.append(
            functional.cross_entropy(logits[-len(answer) - 1 : -1], wanted, reduction="none")
        )
    return torch.cat(losses)


def _packed_losses(model: Gemma4ForConditionalGeneration, batch: PlannerBatch) -> torch.Tensor:
    """The loss of each answer token, row by row."""
    features = model.model.get_image_features(
        batch.patches, batch.patch_positions, return_dict=True
    )
    hidden = model.model(
        input_ids=batch.ids,
        attention_mask=batch.attention,
        position_ids=batch.positions,
        mm_token_type_ids=batch.soft_tokens,
        mm_encoder_outputs={"image": features},
    ).last_hidden_state
    asked = batch.labels >= 0
    scores = model.lm_head(hidden[asked])
    if (limit := model.config.text_config.final_logit_softcapping) is not None:
        scores = limit * torch.tanh(scores / limit)
    return functional.cross_entropy(scores, batch.labels[asked], reduction="none")


@pytest.mark.parametrize("size", ["shipped", *SWITCHES])
@torch.no_grad()
def test_a_row_is_what_the_conversations_are(size: str, examples: list[TrainingExample]) -> None:
    model = _model(size)
    layout = Layout.of(model.config)
    assert not layout.obstacle
    packed = _packed_losses(model, collate(examples, layout))
    plain = torch.cat([_plain_losses(model, example) for example in examples])
    torch.testing.assert_close(packed, plain, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "change"),
    [
        ("E2B", {"window": 4096}),  # sliding layers that see everything
        ("31B", {"both_ways": False}),  # soft tokens that see only earlier ones
    ],
)
@torch.no_grad()
def test_what_the_masks_say_matters(
    size: str, change: dict[str, int], examples: list[TrainingExample]
) -> None:
    """With other masks the test above would fail: the models do look where they are told to."""
    model = _model(size)
    layout = Layout.of(model.config)
    right = _packed_losses(model, collate(examples, layout))
    wrong = _packed_losses(model, collate(examples, replace(layout, **change)))
    assert (right - wrong).abs().max() > 1e-3


@torch.no_grad()
def test_without_a_common_row_each_question_has_its_own(examples: list[TrainingExample]) -> None:
    model = _model("31B")
    layout = replace(Layout.of(model.config), obstacle="of a test")
    batch = collate(examples, layout)
    assert len(batch.ids) == sum(len(example.turns) for example in examples)
    assert len(batch.patches) == 4 + 2 + 3 * 2
    plain = torch.cat([_plain_losses(model, example) for example in examples])
    torch.testing.assert_close(_packed_losses(model, batch), plain, atol=3e-5, rtol=1e-4)


def test_a_checkpoint_that_sees_what_follows_cannot_share_rows() -> None:
    config = real_model("tiny").config
    assert not Layout.of(config).obstacle
    config.text_config.use_bidirectional_attention = "all"
    assert "follows" in Layout.of(config).obstacle


def test_answers_are_what_is_learned_and_padding_is_not(examples: list[TrainingExample]) -> None:
    batch = collate(examples, Layout(image_token=-1, window=512))
    tokenizer = preprocessor().tokenizer
    for row, example in enumerate(examples):
        learned = batch.labels[row][batch.labels[row] >= 0].tolist()
        assert learned == [token for _, answer in example.turns for token in answer]
        length = len(example.prefix) + sum(len(a) + len(b) for a, b in example.turns)
        assert (batch.labels[row, length:] == -100).all()
        assert not batch.ids[row, length:].any()
    assert tokenizer.decode(batch.ids[0][: len(examples[0].prefix)]).startswith("<bos>")


def test_only_the_patches_in_use_are_kept(examples: list[TrainingExample]) -> None:
    batch = collate(examples, Layout(image_token=-1, window=512))
    pictures = [picture for example in examples for picture in example.images]
    assert batch.patches.shape[1] == max(picture.used for picture in pictures)
    assert batch.patches.shape[1] < pictures[0].patches.shape[0]
    assert batch.soft == tuple(len(picture.coverage) for picture in pictures)
