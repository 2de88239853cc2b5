"""Second looks: both verdicts as often, and each is true of the candidate."""

import numpy as np
import pytest

from training.planner.reviews import Review, review_of
from training.world.instructions import InstructionWriter
from training.world.scenes import Placement, Scene, compose, random_scene
from training.world.splits import VALIDATION
from training.world.vocabulary import Vocabulary

WRITER = InstructionWriter(Vocabulary.load())


@pytest.fixture(scope="module")
def reviews() -> list[Review]:
    made = []
    for seed in VALIDATION[:60]:
        rng = np.random.default_rng(seed)
        review = review_of(random_scene(rng, size=(128, 128)), WRITER, rng, 6)
        if review is not None:
            made.append(review)
    return made


def _scene(*names: str) -> Scene:
    placements = [
        Placement(WRITER.vocabulary.by_name[name], (0.2 + 0.3 * n, 0.5), 0.25)
        for n, name in enumerate(names)
    ]
    return compose(placements, np.full((160, 160, 3), 200, np.uint8))


def test_verdicts_are_balanced_and_true(reviews: list[Review]) -> None:
    asked = [(review, one) for review in reviews for one in review.requests]
    accepts = [one.accept for _, one in asked]
    assert len(accepts) > 250
    assert 0.42 < np.mean(accepts) < 0.58
    for review, one in asked:
        candidate = review.candidates[review.number]
        assert one.accept == (candidate in one.instruction.truth)
        assert one.phrase in [query.phrase for query in one.instruction.plan.include]
        # What is accepted was found for a phrase that means it.
        if one.accept:
            assert review.concept in WRITER.phrases.matching_concepts(one.phrase)


def test_no_single_place_of_a_row_gives_the_verdict_away(reviews: list[Review]) -> None:
    for place in range(4):
        marks = [
            review.requests[place].accept for review in reviews if len(review.requests) > place
        ]
        assert 0.25 < np.mean(marks) < 0.75, place


def test_look_alikes_are_held_against_each_other() -> None:
    scene = _scene("red apple", "green apple")
    rng = np.random.default_rng(1)
    wrong = set()
    for _ in range(30):
        review = review_of(scene, WRITER, rng, 6)
        assert review is not None
        wrong |= {(review.concept, one.phrase) for one in review.requests if not one.accept}
    red, green = (WRITER.vocabulary.by_name[name].index for name in ("red apple", "green apple"))
    assert {(red, "green apple"), (green, "red apple")} <= wrong


def test_the_pictures_are_those_of_the_service(reviews: list[Review]) -> None:
    review = reviews[0]
    overview, close_up = review.images()
    assert overview.shape == review.scene.image.shape
    mask, window = review.close_up()
    assert close_up.shape[:2] == mask[window].shape
    assert mask[window].sum() == mask.sum()
    message = review.messages(review.requests[0])[-1]["content"]
    assert f"Candidate {review.number + 1}: " in str(message)


def test_nothing_to_see_is_nothing_to_ask() -> None:
    assert review_of(_scene(), WRITER, np.random.default_rng(0), 3) is None
