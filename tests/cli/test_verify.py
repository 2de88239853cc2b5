"""`limelight verify` tells right masks from wrong ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from limelight.masks import decode_rle, encode_rle, rle_area, rle_bbox
from services.cli import verify
from services.cli.main import app
from services.errors import Reason, Unavailable
from tests.client.stand_in import StandIn


def test_masks_of_something_else_are_wrong(runner: CliRunner, address: str) -> None:
    result = runner.invoke(app, ["verify", "--address", address])
    assert result.exit_code == 1
    assert result.stdout.count("WRONG") == 2
    assert "2 of 2 answers are wrong" in result.stderr


@pytest.mark.slow
def test_it_waits_for_a_service_that_is_away(
    runner: CliRunner, address: str, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_RETRY_S", 0.01)
    away = Unavailable(Reason.SEGMENTER_UNAVAILABLE, "no replica answers")
    service.faults = [away] * 20  # more than the client itself repeats
    result = runner.invoke(app, ["verify", "--address", address, "--wait", "120"])
    assert "not yet" in result.stderr
    assert result.stdout.count("WRONG") == 2  # it was answered in the end


def test_without_waiting_a_service_that_is_away_ends_it(
    runner: CliRunner, address: str, service: StandIn
) -> None:
    service.faults = [Unavailable(Reason.SEGMENTER_UNAVAILABLE, "no replica answers")] * 20
    result = runner.invoke(app, ["verify", "--address", address])
    assert result.exit_code == 1
    assert "SEGMENTER_UNAVAILABLE" in result.stderr


def test_the_truth_is_three_dogs_from_left_to_right() -> None:
    dogs = verify._truth()["dog"]
    boxes = [rle_bbox(mask) for mask in dogs]
    assert [box.x0 for box in boxes] == sorted(box.x0 for box in boxes)
    assert all(rle_area(mask) > 5_000 for mask in dogs)
    assert verify._ious(dogs, dogs) == [1.0, 1.0, 1.0]
    elsewhere = encode_rle(np.roll(decode_rle(dogs[0]), 400, axis=1))
    assert verify._ious([elsewhere], dogs[:1])[0] < verify.RIGHT_IOU


def test_the_truth_is_what_the_showpiece_holds(tmp_path: Path) -> None:
    import json

    from training.world.showpieces import SHOWPIECES, draw, truth

    (piece,) = [piece for piece in SHOWPIECES if piece.name == verify.PICTURE]
    drawn: Any = truth(draw(piece, tmp_path / "drawn.png"))
    committed = (verify.PICTURES / f"{verify.PICTURE}.json").read_text()
    assert json.loads(committed) == drawn
