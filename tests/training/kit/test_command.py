"""What all trainers' commands share: options, device, precision, dataset, resuming out loud."""

import argparse
from pathlib import Path

import pytest
import torch

from tests.training.kit.linear import RECIPE, linear
from training.kit import command


def parsed(*words: str) -> argparse.Namespace:
    return command.parser("linear", "some/hub-id", {"own": RECIPE}, "Train.").parse_args(words)


def test_a_device_is_named_or_found():
    assert command.chosen_device("cpu") == torch.device("cpu")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert command.chosen_device("auto").type == found
    with pytest.raises(ValueError, match="is not a device"):
        command.chosen_device("toaster")
    with pytest.raises(ValueError, match="there is no cuda:99 here"):
        command.chosen_device("cuda:99")


@pytest.mark.parametrize(
    ("precision", "device", "half"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("float32", "cuda", False),
        ("bfloat16", "cpu", True),
    ],
)
def test_a_gpu_computes_in_bfloat16_unless_told_otherwise(precision: str, device: str, half: bool):
    assert command.half(parsed("--precision", precision), torch.device(device)) == half


def test_a_dataset_needs_its_images():
    with pytest.raises(ValueError, match="--coco needs --images"):
        command.coco(parsed("--coco", "x.json"))


def test_the_options_of_every_trainer_are_the_same(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parsed("--help")
    told = capsys.readouterr().out
    for option in ("--out", "--start", "--coco", "--images", "--steps", "--minutes", "--batch"):
        assert option in told
    assert "runs/linear" in told


def test_a_run_says_how_it_starts_ends_and_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    threads = torch.get_num_threads()
    try:
        command.train(linear(steps=2), parsed("--out", str(tmp_path)), {"colors": "none"})
        first = capsys.readouterr().out
        command.train(linear(steps=4), parsed("--out", str(tmp_path)), {"colors": "none"})
        second = capsys.readouterr().out
    finally:
        torch.set_num_threads(threads)
    assert "linear: training 0.00 of 0.00 M weights on cpu, from the start" in first
    assert f"linear: written to {tmp_path / 'export'}" in first
    assert "resumed at step 2" in second
    assert [line for line in second.splitlines() if " was " in line] == [
        "linear: steps was 2, is 4"
    ]
