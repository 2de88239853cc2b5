import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from limelight import ModelInfo
from loadtest.report import print_sections
from loadtest.usage import CLIENT, GATEWAY, TRACKER
from loadtest.video.plots import draw_endurance, draw_stages
from loadtest.video.report import VideoReport
from loadtest.video.scenarios import (
    ClipFigures,
    CrowdFigures,
    EnduranceFigures,
    SessionSample,
    StageCost,
    VideoFigures,
)


@pytest.fixture
def report() -> VideoReport:
    stages = (
        StageCost("encode", TRACKER, 70.0, True),
        StageCost("decode", TRACKER, 10.0),
        StageCost("network", GATEWAY, 12.0),
        StageCost("network", CLIENT, 8.0),
    )
    samples = tuple(SessionSample(n, n / 10, n / 20, 1e9, 2e8) for n in range(20, 601, 20))
    figures = VideoFigures(
        clip=ClipFigures(1920, 1080, 48, 6.0, 2.5, stages, 0.07, {"encode": 90.0, "total": 125.0}),
        endurance=EnduranceFigures(samples),
        crowd=CrowdFigures((8.0,), (9.0,), 4.0, 5.0, "OVERLOADED", 0.5),
        models=(ModelInfo("tracker", "tiny", "abc", "transformers"),),
    )
    return VideoReport("today", "x86", "python -m loadtest.video", 2, 1.5, figures)


def text_of(report: VideoReport) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    print_sections(report.headline, report.sections(), console)
    return console.export_text()


def test_goals_are_said_to_be_met_or_not(report: VideoReport) -> None:
    text = text_of(report)
    # Network counts as one, wherever it is.
    assert "the most beside the model, network: 0.20, goal at most 0.15: not met" in text
    assert "last over first, frames a second: 1.00, goal at least 0.9: met" in text
    assert "share of it: 0.00, goal at most 0.02: met" in text
    assert "8 sessions, all rounds: 0.89, goal at least 0.8: met" in text
    assert "refused: OVERLOADED, to come again in 0.5 s" in text
    assert "left out are the 0.07 cores" in text
    assert "these figures are not to be relied on" in text


def test_a_crowd_that_is_slow_is_told(report: VideoReport) -> None:
    crowd = replace(report.figures.crowd, service=(5.0,), retry_after_s=None)
    slow = replace(report, figures=replace(report.figures, crowd=crowd), busy_cores=0.0)
    text = text_of(slow)
    assert "8 sessions, all rounds: 0.56, goal at least 0.8: not met" in text
    assert "with no time" in text
    assert "not to be relied on" not in text


def test_json_has_what_the_goals_are_about(report: VideoReport) -> None:
    values = report.to_dict()
    assert values["most_beside_the_model"] == ("network", 0.2)
    assert values["last_over_first"] == pytest.approx(1.0)
    assert values["bytes_a_thousand_frames"] == 0.0
    assert values["crowd_ratio"] == pytest.approx(8 / 9)


def test_both_pictures_are_drawn(report: VideoReport, tmp_path: Path) -> None:
    draw_stages(report.figures.clip, tmp_path / "stages.png")
    draw_endurance(report.figures.endurance, tmp_path / "endurance.png")
    for name in ("stages", "endurance"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 3
