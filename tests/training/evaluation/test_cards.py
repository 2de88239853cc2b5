"""The cards' figures are the measured ones, and only the part between the scores changes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.evaluation import cards
from training.evaluation.cards import BEGIN, END, PLANNER, SEGMENTER, inserted
from training.evaluation.figures import count
from training.evaluation.report import EvaluationReport
from training.evaluation.worlds import World


def test_only_what_stands_between_the_marks_changes():
    card = f"# Card\n{BEGIN}\nold\n{END}\nwritten by hand\n"
    assert inserted(card, "new\n") == f"# Card\n{BEGIN}\nnew\n{END}\nwritten by hand\n"


@pytest.mark.parametrize("card", ["no marks", f"{BEGIN} only", f"only {END}"])
def test_a_card_without_both_marks_is_left_alone(card: str):
    with pytest.raises(ValueError, match="lacks"):
        inserted(card, "new")


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
