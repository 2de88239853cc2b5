"""The training loop: it learns, and a run that was stopped anywhere ends as an unbroken one."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from services.stickers.planner.adapters import adapt
from services.stickers.planner.curriculum import Curriculum
from services.stickers.planner.loop import Trainer
from services.stickers.planner.losses import Student
from services.stickers.planner.recipe import ADAPTING, Recipe
from tests.stickers.tiny_planner import student, teacher

# Five steps, the first of them for vision alone.
RECIPE = Recipe(steps=5, scenes=2, questions=2, vision_share=0.2, review_every=3)


def _clock(tick: float) -> Callable[[], float]:
    ticks = count(0.0, tick)
    return lambda: next(ticks)


def _trainer(directory: Path, recipe: Recipe = RECIPE, tick: float = 1.0) -> Trainer:
    return Trainer(student(), Curriculum(recipe, teacher()), directory, clock=_clock(tick))


def _adapting(directory: Path) -> Trainer:
    """A run that trains LoRA adapters only."""
    learner = Student(student().model)
    torch.manual_seed(5)
    adapt(learner.model, rank=2)
    recipe = replace(ADAPTING, steps=5, scenes=2, questions=2, review_every=3)
    return Trainer(learner, Curriculum(recipe, teacher(looks=False)), directory)


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    own = {f"own {k}": v.clone() for k, v in trainer.student.state_dict().items()}
    with trainer.averaged() as averaged:
        return own | {f"averaged {k}": v.clone() for k, v in averaged.state_dict().items()}


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("make", [_trainer, _adapting])
def test_a_run_stopped_anywhere_ends_where_an_unbroken_one_does(
    make: Callable[[Path], Trainer], tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole")
    figures = list(whole.steps())
    expected = _weights(whole)
    for stop in range(1, 5):
        broken = make(tmp_path / f"{stop}")
        steps = broken.steps()
        for _ in range(stop):
            next(steps)
        broken.save()
        next(steps)  # lost with the process
        resumed = make(tmp_path / f"{stop}")
        assert resumed.step == stop
        assert list(resumed.steps()) == figures[stop:]
        assert _same(_weights(resumed), expected), stop


def test_the_speed_of_the_machine_changes_nothing(tmp_path: Path) -> None:
    slow, fast = _trainer(tmp_path / "slow", tick=900.0), _trainer(tmp_path / "fast")
    for trainer in (slow, fast):
        list(trainer.steps())
    assert slow.minutes > 100 * fast.minutes
    assert _same(_weights(slow), _weights(fast))


def test_minutes_end_a_run_when_they_are_up(tmp_path: Path) -> None:
    timed = _trainer(tmp_path / "a", replace(RECIPE, steps=None, minutes=2.0), tick=30.0)
    figures = list(timed.steps())
    # Half a minute a step: four steps, of which the first is a fifth of the budget.
    assert [("answer" in step) for step in figures] == [False, True, True, True]
    both = _trainer(tmp_path / "b", replace(RECIPE, steps=3, minutes=2.0), tick=30.0)
    assert len(list(both.steps())) == 3
    with pytest.raises(ValueError, match="steps or of minutes"):
        Recipe(steps=None)


def test_phases_follow_each_other(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    answering = [trainer.answering]
    for _ in trainer.steps():
        answering.append(trainer.answering)
    assert answering == [False, True, True, True, True, True]
    assert trainer.progress == 1.0


def test_a_run_of_other_weights_is_not_resumed(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    next(trainer.steps())
    trainer.save()
    with pytest.raises(ValueError, match="other weights"):
        _adapting(tmp_path)


def test_what_another_recipe_had_is_told(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    next(trainer.steps())
    trainer.save()
    resumed = _trainer(tmp_path, replace(RECIPE, steps=8))
    assert resumed.resumed_recipe["steps"] == 5
    assert resumed.progress == 1 / 8


def test_a_run_started_again_with_another_rate_has_that_rate(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    next(trainer.steps())
    trainer.save()
    still = _trainer(tmp_path, replace(RECIPE, rate=0.0, matrix_rate=1e-30))
    next(still.steps())
    assert _same(still.student.state_dict(), trainer.student.state_dict())


def test_a_state_from_before_there_were_steps_still_loads(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    next(trainer.steps())
    trainer.save()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for name in ("steps", "accumulate", "own_share", "dense_weight", "answer_weight"):
        del state["recipe"][name]
    state["recipe"]["minutes"] = 2.0
    torch.save(state, tmp_path / "state.pt")
    resumed = _trainer(tmp_path, replace(RECIPE, steps=None, minutes=2.0))
    assert resumed.step == 1
    assert _same(_weights(resumed), _weights(trainer))


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    """Two batches of two pictures teach what one of four does, but for each batch's own mean."""
    recipe = replace(RECIPE, steps=2, vision_share=0.5, clip=1e9)
    once = _trainer(tmp_path / "once", replace(recipe, scenes=4))
    twice = _trainer(tmp_path / "twice", replace(recipe, scenes=2, accumulate=2))
    first, second = next(once.steps()), next(twice.steps())
    assert second["dense"] == pytest.approx(first["dense"], rel=0.02)
    assert second["norm"] == pytest.approx(first["norm"], rel=0.1)
    assert twice.step == 1


def test_averaging_leaves_the_own_weights_alone(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    list(trainer.steps())
    weights = _weights(trainer)
    own = {k.removeprefix("own "): v for k, v in weights.items() if k.startswith("own ")}
    assert any(not torch.equal(weights[f"averaged {key}"], own[key]) for key in own)
    for key, value in trainer.student.state_dict().items():
        assert torch.equal(value, own[key])
    settled = trainer.settle().state_dict()
    assert all(torch.equal(settled[key], weights[f"averaged {key}"]) for key in own)


def test_it_learns(tmp_path: Path) -> None:
    recipe = Recipe(steps=30, scenes=2, questions=4, vision_share=0.0, matrix_rate=0.02, rate=0.01)
    figures = list(_trainer(tmp_path, recipe).steps())
    answers = [step["answer"] for step in figures]
    assert sum(answers[-5:]) < 0.6 * sum(answers[:5])


def test_layers_may_run_in_bfloat16(tmp_path: Path) -> None:
    curriculum = Curriculum(RECIPE, teacher())
    half = Trainer(student(), curriculum, tmp_path / "half", half=True)
    whole = Trainer(student(), curriculum, tmp_path / "whole")
    first, second = next(half.steps()), next(whole.steps())
    assert first["dense"] == pytest.approx(second["dense"], rel=0.02)
    assert first["dense"] != second["dense"]
    assert all(p.dtype is torch.float32 for p in half.student.parameters())
