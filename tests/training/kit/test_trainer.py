"""The loop, on a task of twenty weights: steps, resuming, averaging, logs, validation, export."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from services.errors import CheckpointError
from tests.training.kit.linear import LinearBatch, LinearTask, linear
from training.kit import trainer as kit_trainer
from training.kit.metrics import read
from training.kit.trainer import DivergedError, Trainer, moved


def clock(tick: float) -> Callable[[], float]:
    ticks = count(0.0, tick)
    return lambda: next(ticks)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    """Everything that training changes, and its average."""
    own = [parameter.detach().clone() for parameter in trainer.task.parameters()]
    with trainer.averaged():
        return own + [parameter.detach().clone() for parameter in trainer.task.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_stopped_and_resumed_after_every_step_it_ends_with_the_same_weights(tmp_path: Path):
    whole = Trainer(linear(), tmp_path / "whole")
    expected = [whole.train_step() for _ in range(6)]
    for step in range(6):
        broken = Trainer(linear(), tmp_path / "broken")
        assert broken.resume() == (step > 0)
        assert broken.step == step
        assert broken.train_step() == expected[step]
        broken.save()
        broken.train_step()  # lost with the process
    resumed = Trainer(linear(), tmp_path / "broken")
    assert resumed.resume()
    assert resumed.progress == 1.0
    assert same(weights(resumed), weights(whole))


@pytest.mark.slow
def test_the_speed_of_the_machine_changes_nothing(tmp_path: Path):
    slow = Trainer(linear(), tmp_path / "slow", clock=clock(900.0))
    fast = Trainer(linear(), tmp_path / "fast", clock=clock(1.0))
    for trainer in (slow, fast):
        trainer.run()
    assert slow.minutes > 100 * fast.minutes
    assert same(weights(slow), weights(fast))


def test_minutes_end_a_run_when_they_are_up(tmp_path: Path):
    task = linear(steps=None, minutes=2.0, validation_scenes=0)
    trainer = Trainer(task, tmp_path, clock=clock(30.0))
    parts = [trainer.train_step() for _ in range(4)]
    assert trainer.progress == 1.0
    # Half a minute a step, and three tenths of the budget are dense.
    assert [("error" in part) for part in parts] == [False, False, True, True]


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path):
    # Three steps a minute.
    first = Trainer(linear(checkpoint_minutes=1.0), tmp_path, clock=clock(20.0))

    def killed() -> bool:
        if first.step == 4:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        first.run(killed)
    second = Trainer(linear(), tmp_path)
    assert second.resume()
    assert second.step == 3


def test_a_run_of_other_weights_is_not_resumed(tmp_path: Path):
    Trainer(linear(), tmp_path).save()
    task = linear()
    task.model.bias.requires_grad_(False)
    task.groups = lambda: LinearTask.groups(task)[:1]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="other weights"):
        Trainer(task, tmp_path).resume()


def test_a_run_started_again_with_another_rate_has_that_rate(tmp_path: Path):
    first = Trainer(linear(), tmp_path)
    first.train_step()
    first.save()
    still = Trainer(linear(learning_rate=0.0), tmp_path)
    assert still.resume()
    before = weights(still)[:4]
    still.train_step()
    assert same(weights(still)[:4], before)


def test_accumulated_batches_take_their_mean(tmp_path: Path):
    class OneBatch(LinearTask):
        def batches(self, step, progress):
            torch.manual_seed(3)
            batch = LinearBatch(torch.randn(4, 4), False)
            return iter([batch] * self.recipe.accumulate)

    gradients = []
    for parts in (1, 3):
        task = OneBatch(linear(accumulate=parts, clip=1e9).recipe)
        task.dropout.p = 0.0
        trainer = Trainer(task, tmp_path / str(parts))
        gradients.append(trainer.train_step())
    one, three = gradients
    assert three == pytest.approx(one, rel=1e-5)


def test_gradients_are_clipped(tmp_path: Path):
    task = linear(clip=1e-9, muon_learning_rate=0.0)
    seen: list[float] = []
    trainer = Trainer(task, tmp_path)
    for optimizer in trainer._optimizers:
        optimizer.register_step_pre_hook(
            lambda *_: seen.extend(
                float(p.grad.abs().max()) for p in task.model.parameters() if p.grad is not None
            )
        )
    assert trainer.train_step()["norm"] > 1e-3
    assert seen
    assert all(value <= 1e-9 for value in seen)


def test_frozen_weights_stay_and_are_neither_averaged_nor_saved(tmp_path: Path):
    task = linear()
    before = task.frozen.weight.clone()
    trainer = Trainer(task, tmp_path)
    trainer.run()
    assert torch.equal(task.frozen.weight, before)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert set(state["weights"]) == {"model.weight", "model.bias"}
    assert len([name for name in state["average"] if name.startswith("module.")]) == 2


def test_the_average_follows_slowly(tmp_path: Path):
    trainer = Trainer(linear(dense_share=0.0), tmp_path)
    start = trainer.task.model.weight.detach().clone()
    for _ in range(3):
        trainer.train_step()
    moved_by = trainer.task.model.weight.detach() - start
    with trainer.averaged():
        assert not trainer.task.training
        followed = trainer.task.model.weight.detach() - start
    assert trainer.task.training
    assert torch.equal(trainer.task.model.weight.detach() - start, moved_by)
    assert 0 < followed.norm() < moved_by.norm()


def test_a_run_logs_validates_exports_and_draws_once_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    drawn: list[int] = []
    publish = kit_trainer.publish

    def watched(folder: Path) -> None:
        publish(folder)
        drawn.append(max(entry.step for entry in read(folder).losses))

    monkeypatch.setattr(kit_trainer, "publish", watched)
    task = linear()
    trainer = Trainer(task, tmp_path)
    trainer.run()
    run = read(tmp_path)
    assert [entry.step for entry in run.losses] == [2, 4, 6]
    assert [(entry.step, entry.values) for entry in run.validations] == [
        (4, {"f1": 0.25}),
        (6, {"f1": 0.25}),
    ]
    # Steps 4 and 6 both log and validate.
    assert drawn == [2, 4, 6]
    assert [training for training, _ in task.validated] == [False, False]
    assert [final for final, _ in task.exported] == [False, True]
    assert torch.equal(task.exported[-1][1], task.validated[-1][1]), "the averaged weights"
    assert torch.equal(task.model.weight, task.exported[-1][1])
    for name in ("checkpoint.pt", "curves.png", "figures.md"):
        assert (tmp_path / name).exists(), name
    told = capsys.readouterr().out
    assert "linear step 4 (66.7%), held-out scenes: f1 0.250" in told


def test_without_validation_scenes_nothing_is_validated(tmp_path: Path):
    Trainer(linear(validation_scenes=0), tmp_path).run()
    assert not read(tmp_path).validations


@pytest.mark.slow
def test_nothing_is_validated_before_the_second_stage(tmp_path: Path):
    task = linear(validate_every=1, dense_share=0.5)
    trainer = Trainer(task, tmp_path)
    trainer.run()
    assert [entry.step for entry in read(tmp_path).validations] == [3, 4, 5, 6]


def test_a_stopped_run_saves_does_not_validate_and_goes_on(tmp_path: Path):
    task = linear()
    first = Trainer(task, tmp_path)
    first.run(stopped=lambda: first.step == 3)
    assert not task.validated
    assert not task.exported
    second = Trainer(linear(), tmp_path)
    assert second.resume()
    assert second.step == 3
    assert same(weights(first), weights(second))


def test_layers_may_run_in_bfloat16(tmp_path: Path):
    half = Trainer(linear(), tmp_path / "half", half=True)
    whole = Trainer(linear(), tmp_path / "whole")
    first, second = half.train_step(), whole.train_step()
    assert first["dense"] == pytest.approx(second["dense"], rel=0.05)
    assert first["dense"] != second["dense"]
    assert all(p.dtype is torch.float32 for p in half.task.parameters())


def test_it_learns(tmp_path: Path):
    trainer = Trainer(linear(steps=200, dense_share=0.0), tmp_path)
    trainer.task.dropout.p = 0.0
    errors = [trainer.train_step()["error"] for _ in range(60)]
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_batches_move_whole():
    batch = LinearBatch(torch.zeros(2), True)
    nested = moved({"a": batch, "b": "text"}, torch.device("meta"))
    assert nested["a"].inputs.is_meta
    assert (nested["a"].dense, nested["b"]) == (True, "text")


class Fault(Exception):
    """What any part of a run may raise: a picture that cannot be read, a full disk."""


def _in_batches(task: LinearTask, trainer: Trainer) -> None:
    task.recipe = replace(task.recipe, accumulate=2)
    batches = task.batches

    def broken(step, progress):
        first, *_ = batches(step, progress)
        yield first
        if step == 5:
            raise Fault

    task.batches = broken  # type: ignore[method-assign]


def _in_losses(task: LinearTask, trainer: Trainer) -> None:
    losses = task.losses

    def broken(batch, step):
        if step == 5:
            raise Fault
        return losses(batch, step)

    task.losses = broken  # type: ignore[method-assign]


def _in_validation(task: LinearTask, trainer: Trainer) -> None:
    def broken():
        raise Fault

    task.validate = broken  # type: ignore[method-assign]


def _in_export(task: LinearTask, trainer: Trainer) -> None:
    def broken(folder, *, final):
        raise Fault

    task.export = broken  # type: ignore[method-assign]


def _in_the_log(task: LinearTask, trainer: Trainer) -> None:
    def broken(step, minutes, values):
        raise Fault

    trainer._log.losses = broken  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("breaks", "done"),
    [(_in_batches, 5), (_in_losses, 5), (_in_validation, 4), (_in_export, 4), (_in_the_log, 2)],
)
def test_steps_outlive_the_fault_that_ends_a_run(
    breaks: Callable[[LinearTask, Trainer], None],
    done: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    task = linear(checkpoint_minutes=1000.0)
    trainer = Trainer(task, tmp_path / "run")
    breaks(task, trainer)
    with pytest.raises(Fault):
        trainer.run()
    assert f"linear: saved at step {done}; the same command" in capsys.readouterr().out
    again = Trainer(task, tmp_path / "run")
    assert again.resume()
    assert again.step == done
    assert same(weights(again), weights(trainer))
    if breaks is not _in_batches:  # whose batches are others
        whole = Trainer(linear(), tmp_path / "whole")
        for _ in range(done):
            whole.train_step()
        assert same(weights(again), weights(whole))


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    task = linear(dense_share=0.0)
    losses = task.losses

    def broken(batch, step):
        found = losses(batch, step)
        return found | {"error": found["error"] * (torch.nan if step == 3 else 1.0)}

    task.losses = broken  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"step 4: the gradient is not finite \(.*error nan"):
        Trainer(task, tmp_path).run()
    assert "saved at step 3" in capsys.readouterr().out
    again = Trainer(linear(), tmp_path)
    assert again.resume()
    assert again.step == 3
    assert all(weight.isfinite().all() for weight in weights(again))


def _half_a_step(trainer: Trainer) -> None:
    def broken(*_):
        raise Fault

    # The first optimizer has changed its weights by then.
    trainer._optimizers[-1].register_step_pre_hook(broken)


def _broken_average(trainer: Trainer) -> None:
    with torch.no_grad():
        next(trainer._average.parameters()).fill_(torch.nan)
    _in_losses(trainer.task, trainer)  # type: ignore[arg-type]


def _broken_weights(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.task.model.bias.fill_(torch.inf)


@pytest.mark.parametrize("breaks", [_half_a_step, _broken_average, _broken_weights])
def test_a_broken_state_does_not_take_the_place_of_a_sound_one(
    breaks: Callable[[Trainer], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = Trainer(linear(), tmp_path)
    for _ in range(2):
        first.train_step()
    first.save()
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    second = Trainer(linear(), tmp_path)
    assert second.resume()
    second.train_step()
    breaks(second)
    with pytest.raises((Fault, DivergedError)):
        second.run()
    assert "not saved at step" in capsys.readouterr().out
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _foreign(path: Path) -> None:
    torch.save({"model": torch.zeros(2)}, path)


def _not_finite(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["weights"]["model.bias"].fill_(torch.nan)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (_cut, "cannot be read: it is a pickle of torch.save"),
        (lambda path: path.write_bytes(b""), "cannot be read: it is an empty file"),
        (lambda path: path.write_text("<html>"), "cannot be read: it is a web page"),
        (_foreign, "is not of a run: it has no average"),
        (_not_finite, "holds numbers that are not finite"),
    ],
)
def test_a_checkpoint_that_cannot_be_gone_on_with_is_named(
    breaks: Callable[[Path], object], message: str, tmp_path: Path
):
    Trainer(linear(), tmp_path).save()
    breaks(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=rf"checkpoint\.pt {message}"):
        Trainer(linear(), tmp_path).resume()
