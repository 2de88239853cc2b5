import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from training.kit.curves import draw, publish, table
from training.kit.metrics import LogEntry, MetricsLog, RunHistory

FALLING = tuple(LogEntry(s, s / 60, {"mask": 4.0 / s, "dice": 2.0 / s}) for s in (1, 10, 100))
RISING = tuple(
    LogEntry(step, step / 60, {"f1": f1, "false_per_absent": false})
    for step, f1, false in ((40, 0.5, 0.4), (80, 0.9, 0.1), (120, 0.8, 0.2))
)


def test_losses_are_drawn_on_a_logarithmic_scale_and_figures_on_a_linear_one():
    losses, validation = draw(RunHistory({}, FALLING, RISING), "run").axes
    assert (losses.get_yscale(), validation.get_yscale()) == ("log", "linear")
    mask, _ = losses.lines
    assert mask.get_xydata().tolist() == [[1, 4.0], [10, 0.4], [100, 0.04]]
    assert [text.get_text() for text in losses.get_legend().texts] == ["mask 0.04", "dice 0.02"]
    assert validation.lines[0].get_xydata().tolist() == [[40, 0.5], [80, 0.9], [120, 0.8]]
    assert validation.get_ylim()[0] == 0


def test_the_table_has_the_last_and_the_best_of_every_figure():
    text = table(RunHistory({"batch": 8, "seed": 1}, FALLING, RISING), "run")
    assert "120 steps in 2.0 minutes" in text
    assert "| batch | 8 |" in text
    assert re.search(r"\| f1 \| 0\.800 \| 0\.900 \| 80 \|", text)
    assert re.search(r"\| false_per_absent \| 0\.200 \| 0\.100 \| 80 \|", text)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "losses",
    [
        (),
        FALLING[:1],
        (LogEntry(0, 0.0, {"mask": 0.0}),),
        (LogEntry(0, 0.0, {"mask": 0.0, "dice": float("nan")}), LogEntry(5, 0.1, {"mask": 1.0})),
    ],
)
def test_values_that_cannot_be_drawn_do_not_stop_it(losses: tuple[LogEntry, ...], tmp_path: Path):
    draw(RunHistory({}, losses, ()), "run").savefig(tmp_path / "curves.png")
    draw(RunHistory({}, losses, RISING[:1]), "run").savefig(tmp_path / "curves.png")


@pytest.mark.slow
def test_the_command_writes_both_into_the_runs_folder(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.losses(50, 1.0, {"mask": 1.0})
    log.validation(50, 1.0, {"f1": 0.5})
    publish(tmp_path)
    (tmp_path / "curves.png").unlink()
    command = [sys.executable, "-m", "training.kit.curves", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(tmp_path / "curves.png") as chart:
        assert chart.size[0] > 1000
    assert "| f1 |" in (tmp_path / "figures.md").read_text()


@pytest.mark.slow
def test_a_folder_without_a_run_is_named(tmp_path: Path):
    command = [sys.executable, "-m", "training.kit.curves", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "metrics.jsonl" in answer.stderr
    assert "Traceback" not in answer.stderr
