"""Calibration counted on made-up scores whose right figures are known."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation.calibration import RankedAnswer, calibrate, draw


def answers(scores: np.ndarray, right: np.ndarray, wanted: int) -> list[RankedAnswer]:
    instances = tuple(zip(scores.tolist(), right.tolist(), strict=True))
    return [RankedAnswer(wanted, instances)]


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    scores = np.repeat([0.25, 0.75], 400)
    right = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    found = calibrate(answers(scores, right, 400))
    assert found.expected_error == pytest.approx(0.0)
    assert [one.instances for one in found.bins if one.instances] == [400, 400]
    assert [one.right for one in found.bins if one.instances] == [0.25, 0.75]


def test_boastful_scores_have_the_error_of_their_boast() -> None:
    found = calibrate(answers(np.full(10, 0.95), np.arange(10) < 5, 5))
    assert found.expected_error == found.expected_error_answered == pytest.approx(0.45)
    timid = calibrate(answers(np.full(10, 0.15), np.arange(10) < 5, 5))
    assert timid.expected_error == pytest.approx(0.35)
    assert timid.expected_error_answered == 0.0


def test_the_curve_is_a_recount_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(300)
    right = rng.random(300) < scores
    found = calibrate(answers(scores, right, 200))
    for one in found.curve:
        kept = right[scores >= one.threshold]
        assert one.precision == pytest.approx(kept.mean())
        assert one.recall == pytest.approx(kept.sum() / 200)
        assert one.f1 == pytest.approx(2 * kept.sum() / (200 + len(kept)))
    assert found.best.f1 == max(one.f1 for one in found.curve)
    assert found.used.threshold == 0.5
    for one, other in itertools.pairwise(found.curve):
        assert one.recall >= other.recall


def test_the_default_threshold_is_best_where_others_are_as_good() -> None:
    found = calibrate(answers(np.array([0.9, 0.1]), np.array([True, False]), 1))
    assert found.best.threshold == 0.5


def test_a_certain_score_has_a_bin() -> None:
    found = calibrate(answers(np.array([1.0]), np.array([True]), 1))
    assert found.bins[-1].instances == 1


def test_nothing_answered_is_no_error() -> None:
    found = calibrate([RankedAnswer(3, ())])
    assert (found.expected_error, found.used.f1, found.used.recall) == (0.0, 0.0, 0.0)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200)
    for name, found in (
        ("some", calibrate(answers(scores, rng.random(200) < scores, 150))),
        ("none", calibrate([RankedAnswer(3, ())])),
    ):
        draw(found, "scores").savefig(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as opened:
            assert len(opened.convert("RGB").getcolors(1 << 24) or ()) > 20
