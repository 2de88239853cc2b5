"""Training data: targets lie where the stickers are, and packing changes no answer."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from services.planner.calls import parse_call, plan_from_call, verdict_from_call
from services.stickers.instructions import InstructionWriter
from services.stickers.planner.config import MAX_SOFT_TOKENS, POOLING, Shape, new_model
from services.stickers.planner.data import Lesson, Teacher, collate
from services.stickers.planner.loop import Student
from services.stickers.planner.tokenizer import TOOL_RESPONSE
from services.stickers.planner.train import new_teacher
from services.stickers.scenes import Scene
from services.stickers.splits import TRAINING

SEED = (TRAINING[0], 1)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return new_teacher()


def test_a_lesson_is_the_same_for_the_same_seed(teacher: Teacher) -> None:
    first, second = (teacher.planning((*SEED, 3), 3) for _ in range(2))
    assert first.turns == second.turns
    assert (first.pictures[0].patches == second.pictures[0].patches).all()
    assert first.turns != teacher.planning((*SEED, 4), 3).turns


def test_soft_tokens_are_labelled_with_what_they_show(teacher: Teacher) -> None:
    labels = np.full((256, 256), -1)
    labels[:64, 192:] = 7  # the top right corner: two rows and columns of 32-pixel soft tokens
    image = np.zeros((256, 256, 3), np.uint8)
    image[:64, 192:] = 255
    picture = teacher.picture(image, labels, np.zeros(48, np.float32))
    shown = picture.coverage[:, 7].reshape(8, 8)
    assert (shown[:2, 6:] == 1).all()
    assert shown.sum() == 4
    assert picture.coverage.sum() == 4
    # The patches of those soft tokens are the bright ones.
    bright = picture.patches.mean(axis=1) > 0.9
    at = picture.positions[bright] // POOLING
    assert {(int(x), int(y)) for x, y in at} == {(6, 0), (7, 0), (6, 1), (7, 1)}


@pytest.mark.parametrize("size", [(256, 512), (512, 256), (300, 280)])
def test_any_aspect_fits_the_budget(teacher: Teacher, size: tuple[int, int]) -> None:
    lesson = teacher.planning((*SEED, 9), 1, size)
    soft = len(lesson.pictures[0].coverage)
    assert 40 <= soft <= MAX_SOFT_TOKENS
    image = teacher.tokenizer.convert_tokens_to_ids("<|image|>")
    assert lesson.prefix.count(image) == soft


def test_answers_are_calls_that_end_as_gemma_ends_them(teacher: Teacher) -> None:
    turns = [turn for index in range(6) for turn in teacher.planning((*SEED, index), 4).turns]
    for _, answer in turns:
        text = teacher.tokenizer.decode(answer)
        assert text.endswith(TOOL_RESPONSE)
        plan_from_call(parse_call(text))
        assert len(answer) <= 64


def test_reviews_show_two_pictures_and_want_both_verdicts(teacher: Teacher) -> None:
    lessons = [teacher.reviewing((*SEED, index)) for index in range(12)]
    assert all(len(lesson.pictures) == 2 for lesson in lessons)
    texts = [teacher.tokenizer.decode(lesson.turns[0][1]) for lesson in lessons]
    assert {verdict_from_call(parse_call(text))[0] for text in texts} == {True, False}


class _Tonguetied(InstructionWriter):
    """A writer to whom nothing occurs about the first scenes it is shown."""

    scenes: ClassVar[list[Scene]] = []

    def generate(self, scene, rng, family=None):  # type: ignore[no-untyped-def]
        if not any(scene is known for known in self.scenes):
            self.scenes.append(scene)
        return super().generate(scene, rng, family) if len(self.scenes) > 2 else None

    def everything(self, scene, rng):  # type: ignore[no-untyped-def]
        return None


def test_a_lesson_always_asks_something(teacher: Teacher) -> None:
    """Without a question there would be a picture and no place for it in the row."""
    writer = _Tonguetied(teacher.writer.vocabulary)
    lesson = replace(teacher, writer=writer).planning((*SEED, 2), 3)
    assert lesson.turns
    assert len(writer.scenes) == 3


@pytest.fixture(scope="module")
def student(teacher: Teacher) -> Student:
    shape = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
    return Student(new_model(shape, teacher.tokenizer, seed=3), 48).eval()


def test_packed_questions_do_not_see_each_other(teacher: Teacher, student: Student) -> None:
    lesson = teacher.planning((*SEED, 5), 4)
    assert len(lesson.turns) > 2
    other = teacher.planning((*SEED, 6), 2)
    apart = [replace(lesson, turns=(turn,)) for turn in lesson.turns]
    with torch.no_grad():
        packed = _answer_losses(student, [lesson, other])
        single = torch.cat([_answer_losses(student, [part]) for part in apart])
    torch.testing.assert_close(packed[: len(single)], single, atol=2e-5, rtol=1e-4)


def test_packing_matches_a_plain_forward(teacher: Teacher, student: Student) -> None:
    """The rows are what the model itself makes of the whole conversation, left to right."""
    lesson = replace(teacher.planning((*SEED, 5), 1))
    question, answer = lesson.turns[0]
    ids = torch.tensor([lesson.prefix + question + answer])
    picture = lesson.pictures[0]
    with torch.no_grad():
        logits = student.model(
            input_ids=ids,
            pixel_values=torch.from_numpy(picture.patches)[None],
            image_position_ids=torch.from_numpy(picture.positions)[None],
        ).logits[0]
        expected = torch.nn.functional.cross_entropy(
            logits[-len(answer) - 1 : -1], torch.tensor(answer), reduction="none"
        )
        torch.testing.assert_close(
            _answer_losses(student, [lesson]), expected, atol=2e-5, rtol=1e-4
        )


def _answer_losses(student: Student, lessons: list[Lesson]) -> torch.Tensor:
    """The loss of each answer token, row by row."""
    batch = collate(lessons)
    model = student.model
    features = model.model.get_image_features(
        batch.patches, batch.patch_positions, return_dict=True
    )
    hidden = model.model(
        input_ids=batch.ids,
        attention_mask={"full_attention": batch.visible, "sliding_attention": batch.visible},
        position_ids=batch.positions,
        mm_encoder_outputs={"image": features},
    ).last_hidden_state
    asked = batch.labels >= 0
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden[asked]), batch.labels[asked], reduction="none"
    )
