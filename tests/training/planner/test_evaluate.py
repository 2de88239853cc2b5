"""The evaluation's command line: a table, and JSON with everything in it."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.planner.settings import SHIPPED
from tests.training.datasets.builders import write_coco
from training.planner.evaluate import main
from training.world.scenes import random_scene


@pytest.mark.slow
def test_the_shipped_checkpoint_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--scenes", "2", "--reviews", "1", "--json", str(tmp_path / "figures.json")])
    told = capsys.readouterr().out
    assert "| exactly right |" in told
    assert "seeds 10000000 to 10000001" in told
    assert "ms a plan" in told
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["checkpoint"] == str(SHIPPED)
    assert report["seeds"] == [10_000_000, 10_000_002]
    assert report["milliseconds"] > 0
    assert report["exact"]["of"] >= 10
    assert report["accepted"]["of"] + report["rejected"]["of"] >= 1
    wrong = report["exact"]["of"] - report["exact"]["right"]
    assert len(report["wrong"]) >= wrong
    assert all(one["answer"] and one["instruction"] for one in report["wrong"])


@pytest.mark.slow
def test_a_dataset_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = [random_scene(np.random.default_rng(seed), size=(128, 96)) for seed in range(12)]
    annotations, images = write_coco(tmp_path, scenes)
    main(
        [
            *("--coco", str(annotations), "--images", str(images)),
            *("--scenes", "1", "--reviews", "1", "--failures", "1"),
        ]
    )
    assert "| exactly right |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coco", "x.json"], "--coco needs --images"),
        (["--coco", "x.json", "--images", "."], "x.json"),
        (["--device", "cuda:9"], "there is no cuda:9 here"),
        (["--device", "abacus"], "not a device"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
