"""The cards' figures are the measured ones, and only the part between the scores changes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.evaluation import cards
from training.evaluation.cards import (
    BEGIN,
    CLIPS_BEGIN,
    END,
    PLANNER,
    SEGMENTER,
    TRACKER,
    inserted,
)
from training.evaluation.clip_report import TOGETHER, ClipReport, InstructedFigures
from training.evaluation.figures import count
from training.evaluation.report import EvaluationReport
from training.evaluation.tracking import figures, score
from training.evaluation.worlds import World


def test_only_what_stands_between_the_marks_changes():
    card = f"# Card\n{BEGIN}\nold\n{END}\nwritten by hand\n"
    assert inserted(card, "new\n") == f"# Card\n{BEGIN}\nnew\n{END}\nwritten by hand\n"


@pytest.mark.parametrize("card", ["no marks", f"{BEGIN} only", f"only {END}"])
def test_a_card_without_both_marks_is_left_alone(card: str):
    with pytest.raises(ValueError, match="lacks"):
        inserted(card, "new")


def test_clips_alone_leave_the_figures_of_scenes(tmp_path: Path):
    from tests.training.evaluation.tracked import random_frames

    found = figures([score(random_frames(1))])
    families = {"phrase": InstructedFigures(2, 0.5), TOGETHER: InstructedFigures(2, 0.5)}
    worlds = {
        world.value: asdict(ClipReport(world, "held-out", 7, 3, 60, (), 1.0, found, families, {}))
        for world in World
    }
    (tmp_path / "clips.json").write_text(json.dumps({"worlds": worlds}))
    (tmp_path / TRACKER).mkdir()
    (tmp_path / TRACKER / "README.md").write_text(f"{BEGIN}\n{END}\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\nkept\n{END}\n{CLIPS_BEGIN}\nold\n{END}\n")
    app = cards.typer.Typer()
    app.command()(cards.main)
    run = ["--cards", str(tmp_path), "--readme", str(readme)]
    result = CliRunner().invoke(app, [str(tmp_path), *run])
    assert result.exit_code == 0, result.output
    card = (tmp_path / TRACKER / "README.md").read_text()
    assert f"| HOTA | {found.hota:.3f} | {found.hota:.3f} |" in card
    assert "| phrase | 0.500 of 2 | 0.500 of 2 |" in card
    front = readme.read_text()
    assert f"{BEGIN}\nkept\n{END}" in front
    assert "3 clips of 60 frames, held-out seeds 7 to 9" in front
    assert f"| {found.hota:.3f} | {found.idf1:.3f} |" in front
    assert "old" not in front
    (tmp_path / "clips.json").unlink()
    assert "holds neither" in CliRunner().invoke(app, [str(tmp_path), *run]).output


def test_cards_and_readme_get_their_figures_and_pictures(tmp_path: Path):
    worlds = {}
    for world in World:
        report = EvaluationReport(world, "held-out", 7, 3, False, (), 1.0, count([], [], [], []))
        worlds[world.value] = asdict(report)
        worlds[world.value]["figures"]["phrases"]["all"]["f1"] = {"own": 0.912, "second": 0.834}[
            world.value
        ]
    measured, shipped = tmp_path / "eval", tmp_path / "checkpoints"
    measured.mkdir()
    (measured / "figures.json").write_text(json.dumps({"worlds": worlds}, default=str))
    (measured / "confusion-own.png").write_bytes(b"picture")
    for name in (SEGMENTER, PLANNER):
        (shipped / name).mkdir(parents=True)
        (shipped / name / "README.md").write_text(f"{BEGIN}\n{END}\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"# EvaluationFigures\n{BEGIN}\n{END}\n")
    app = cards.typer.Typer()
    app.command()(cards.main)
    result = CliRunner().invoke(
        app, [str(measured), "--cards", str(shipped), "--readme", str(readme)]
    )
    assert result.exit_code == 0, result.output
    card = (shipped / SEGMENTER / "README.md").read_text()
    assert "| phrases: F1@0.5 | 0.912 | 0.834 |" in card
    assert "seeds 7 to 9" in card
    assert (shipped / SEGMENTER / "confusion-own.png").read_bytes() == b"picture"
    assert (
        "| all | 0.000 | 0.000 | 0 | 0.000 | 0.000 | 0 |"
        in (shipped / PLANNER / "README.md").read_text()
    )
    assert "| own renderer | 0.912 | 0.000 |" in readme.read_text()
    assert "| second: plan alone |" in readme.read_text()
