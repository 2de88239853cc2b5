"""A step of the tracker's training, and what it hands on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.segmenter.engines.transformers_video import TransformersVideoEngine
from services.segmenter.video.engine import ObjectRecall, ObjectStart, Observation
from services.segmenter.video.settings import VideoSettings
from training.tracker.losses import total, tracking_losses
from training.tracker.models import open_checkpoint
from training.tracker.recipe import SCRATCH
from training.tracker.sampling import FirstPrompt, Remembered, choose
from training.tracker.task import TrackerTask
from training.tracker.tracking import FrameTrack, Memory
from training.tracker.train import DETECTOR, command_parser, opened
from training.tracker.windows import FULL, WindowSizes, training_window

RECIPE = replace(
    SCRATCH, batch=3, pairs_until=0.0, frames=2, long_frames=3, first=2, pool=4, validation_scenes=0
)


@pytest.fixture(scope="module")
def task() -> TrackerTask:
    model, tokenizer = open_checkpoint(str(DETECTOR), seed=1)
    return TrackerTask(model, tokenizer, RECIPE)


def test_a_step_moves_the_tracker_and_nothing_else(task: TrackerTask) -> None:
    (batch,) = task.batches(0, 0.0)
    losses = task.losses(batch, 0)
    loss = task.total(losses, dense=False)
    loss.backward()
    assert torch.isfinite(loss)
    moved = {
        name.split(".")[0]
        for name, parameter in task.model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert moved == {"tracker_model"}
    grouped = {id(p) for group in task.groups() for p in group.parameters}
    assert grouped == {id(p) for p in task.model.parameters() if p.requires_grad}


def test_a_step_learns_what_it_saw(task: TrackerTask) -> None:
    """Gradient descent on one batch, prompted by true masks, lowers its loss."""
    (batch,) = task.batches(0, 0.0)
    true = (batch.coverage[0][:, None] >= 0.5).float()
    trained = [p for p in task.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    seen = []
    for _ in range(6):
        at = task.tracker.features(batch.tokens).of(batch.slot)
        track, _ = task.tracker.shown_mask(at, true)
        loss = total(tracking_losses(track, batch.coverage[0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.8 * seen[0]
    with torch.no_grad():
        for parameter, value in zip(trained, before, strict=True):
            parameter.copy_(value)


@pytest.mark.parametrize("kind", [Remembered.SHOWN, Remembered.DETECTED])
def test_the_engine_tracks_as_training_does(
    task: TrackerTask, tmp_path: Path, kind: Remembered
) -> None:
    """The same weights, shown a mask and asked for the next frame, give the same logits."""
    task.export(tmp_path / "tracker", final=True)
    engine = TransformersVideoEngine(VideoSettings(model=str(tmp_path / "tracker"), device="cpu"))
    engine.load()
    window = training_window(3, WindowSizes(2))
    images = [torch.from_numpy(frame).permute(2, 0, 1).contiguous() for frame in window.pixels]
    row = int(window.coverage[:, 0].reshape(len(window.coverage), -1).sum(1).argmax())
    mask = (window.coverage[row, 0] >= FULL / 2).astype(np.float32)

    first, second = engine.encode_frames(images)
    (begun,) = engine.prompt([ObjectStart(first, mask)])
    shown_again = mask * 20 - 10 if kind is Remembered.SHOWN else mask
    hard = kind is Remembered.SHOWN
    (memory,) = engine.memorize([Observation(first, shown_again, True, hard)])
    pointers = ((1, begun.pointer),)
    recall = ObjectRecall(second, ((0, memory),), pointers, engine.describe().pointers)
    (served,) = engine.track([recall])

    with torch.no_grad():
        tokens = task.encode(torch.stack(images).float() / 127.5 - 1)
        features = task.tracker.features(tokens)
        one, two = (features.of(torch.tensor([index])) for index in (0, 1))
        shown = torch.from_numpy(mask)[None, None]
        track, given = task.tracker.shown_mask(one, shown)
        again = given if kind is Remembered.SHOWN else shown
        remembered = Memory(conditioning={0})
        seen = torch.tensor([True])
        # The engine keeps memories in half precision.
        kept = task.tracker.remember(one, again, seen, given=hard).bfloat16().float()
        remembered.features[0] = kept
        remembered.pointers[0] = track.pointer
        trained = task.tracker.propagated(two, remembered, 1)
    low = torch.nn.functional.interpolate(
        torch.from_numpy(np.asarray(served.logits, np.float32))[None, None], (80, 80)
    )[0, 0]
    assert torch.allclose(low, trained.mask[0], atol=1e-3)


def test_losses_are_those_of_a_known_answer() -> None:
    coverage = torch.zeros(1, 4, 4)
    coverage[0, :2] = 1.0
    sure = torch.where(coverage > 0.5, 20.0, -20.0)
    wrong = -sure
    track = FrameTrack(
        masks=torch.stack([wrong[0], sure[0]])[None],
        ious=torch.tensor([[0.0, 1.0]]),
        scores=torch.tensor([20.0]),
        chosen=torch.tensor([1]),
        pointer=torch.zeros(1, 2),
    )
    found = tracking_losses(track, coverage)
    # The best of the masks counts, and both estimates of the IoU are right.
    assert {name: round(float(value), 6) for name, value in found.items()} == {
        "focal": 0.0,
        "dice": 0.0,
        "iou": 0.0,
        "score": 0.0,
        "mean_iou": 1.0,
    }
    absent = tracking_losses(track, torch.zeros(1, 4, 4))
    assert float(absent["score"]) == pytest.approx(20.0)
    assert float(absent["focal"]) == float(absent["dice"]) == 0.0


def test_objects_are_followed_from_where_they_are_seen() -> None:
    visibility = np.zeros((2, 6, 8), np.float32)
    visibility[0, 0] = 1.0
    visibility[1, 2, 3:] = 1.0
    steps, remembered = set(), set()
    for seed in range(60):
        choice = choose(np.random.default_rng(seed), [0, 1], visibility, 4, 3, 4)
        for slot, row in zip(choice.slot, choice.row, strict=True):
            assert visibility[choice.windows[slot], row, choice.frames[0, slot]] > 0
        assert choice.frames.shape == (choice.length, len(choice.windows))
        assert choice.frames.min() >= 0
        assert choice.frames.max() < 8
        assert len(choice.remembered) == choice.length
        shown = choice.remembered[0] in (Remembered.SHOWN, Remembered.DETECTED)
        assert shown == (choice.prompt is FirstPrompt.MASK)
        steps.update(np.unique(np.diff(choice.frames, axis=0)).tolist())
        remembered.update(choice.remembered[1:])
    assert steps == {1, 2, 3}
    assert remembered == set(Remembered)


def test_objects_that_come_back_are_looked_for() -> None:
    """One window of two holds a return; it is seen first and last, and hidden in between."""
    visibility = np.ones((2, 6, 8), np.float32)
    visibility[1, 2, 2:6] = 0.0
    back = 0
    for seed in range(20):
        choice = choose(np.random.default_rng(seed), [0, 1], visibility, 8, 4, 4)
        for slot, frames in enumerate(choice.frames.T):
            seen = visibility[choice.windows[slot], 2, frames]
            back += seen.tolist() == [1, 0, 0, 1]
    assert back > 40


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    arguments = command_parser().parse_args(["--coco", str(tmp_path / "a.json"), "--images", "."])
    with pytest.raises(ValueError, match="clips of sticker world"):
        opened(arguments)
