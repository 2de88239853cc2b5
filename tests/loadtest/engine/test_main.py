"""The bench at the tiny checkpoints' size: it measures everything, and a wrong answer ends it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtest.engine.__main__ import app
from loadtest.engine.clock import Spent
from loadtest.engine.pictures import distinct, jpeg
from loadtest.engine.report import BenchReport, WrongAnswer
from services.codecs.images import ImageLimits, decode
from services.segmenter.engines import Pair, RawDetections
from services.segmenter.engines.transformers import TransformersSegmenterEngine

SMALL = ("--size", "tiny", "--device", "cpu", "--runs", "1", "--burst-s", "0.1")
PICTURE = ("--width", "96", "--height", "64")


def run(*more: str) -> Any:
    return CliRunner().invoke(app, [*SMALL, *PICTURE, *more])


@pytest.mark.slow
def test_every_part_gives_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = run("--out", str(out))
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["failures"] == {}
    assert report["skipped"] == []
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert values["largest difference of logits, float32"] < 1e-3
    assert values["least IoU of masks, float32"] > 0.99
    for name in (
        "one 96x64 picture, one phrase",
        "a further phrase on a known picture",
        "pictures a second, 32 callers",
        "step: encode 16",
        "step: detect 32 phrases",
        "8 plans of 60 tokens",
    ):
        assert values[name] > 0
    assert "| one 96x64 picture, one phrase |" in done.output


@pytest.mark.slow
def test_a_wrong_answer_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TransformersSegmenterEngine.detect

    def wrong(self: Any, pairs: Sequence[Pair]) -> list[RawDetections]:
        answers = right(self, pairs)
        return answers[1:] + answers[:1]  # each pair gets its neighbor's

    monkeypatch.setattr(TransformersSegmenterEngine, "detect", wrong)
    done = run("--no-planner")
    assert isinstance(done.exception, WrongAnswer)


def test_parts_that_no_longer_fit_are_skipped_and_failures_are_kept() -> None:
    report = BenchReport(seconds=100.0)
    report.run("too long", lambda: pytest.fail("it ran"), needs_s=200.0)
    report.run("broken", lambda: 1 / 0, needs_s=0.0)
    assert report.skipped == ["too long"]
    assert "ZeroDivisionError" in report.failures["broken"]


def test_percentiles() -> None:
    spent = Spent(tuple(float(number) for number in range(100)))
    assert (spent.median_ms, spent.p95_ms) == (49.5, 95.0)
    assert Spent((1.0, 3.0)).p95_ms == 3.0


def test_files_differ_and_pixels_do_not() -> None:
    files = distinct(jpeg(40, 30))
    first, second = next(files), next(files)
    assert first != second
    assert (decode(first, ImageLimits()) == decode(second, ImageLimits())).all()
