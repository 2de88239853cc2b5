import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.stickers.curves import draw, publish, table
from services.stickers.runlog import Entry, Run, RunLog

WIDTH = 760  # of a panel

FALLING = tuple(Entry(s, s / 60, {"mask": 4.0 / s, "dice": 2.0 / s}) for s in (1, 10, 100))
RISING = tuple(
    Entry(step, step / 60, {"f1": f1, "false_per_absent": false})
    for step, f1, false in ((40, 0.5, 0.4), (80, 0.9, 0.1), (120, 0.8, 0.2))
)


def coloured(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of about that colour, inside the plot."""
    pixels = np.asarray(picture).astype(int)
    near = (np.abs(pixels - colour).sum(-1) < 60) & (np.arange(pixels.shape[1]) < 556)
    return np.nonzero(near)


BLUE = (0x1F, 0x77, 0xB4)


def test_a_loss_that_falls_is_drawn_falling_and_one_that_rises_rising():
    picture = draw(Run({}, FALLING, RISING), "run")
    losses = picture.crop((0, 0, WIDTH, picture.height))
    validation = picture.crop((WIDTH, 0, 2 * WIDTH, picture.height))
    rows, columns = coloured(losses, BLUE)
    assert np.corrcoef(rows, columns)[0, 1] > 0.7, "rows count downwards"
    rows, columns = coloured(validation, BLUE)
    # 0.5, 0.9, 0.8 on a scale from 430 (nothing) to 40 (one).
    assert rows[columns == columns.min()].mean() == pytest.approx(430 - 0.5 * 390, abs=8)
    assert rows.min() == pytest.approx(430 - 0.9 * 390, abs=8)


def test_the_table_has_the_last_and_the_best_of_every_figure():
    text = table(Run({"images": 8, "seed": 1}, FALLING, RISING), "run")
    assert "120 steps in 2.0 minutes" in text
    assert "| images | 8 |" in text
    assert re.search(r"\| f1 \| 0\.800 \| 0\.900 \| 80 \|", text)
    assert re.search(r"\| false_per_absent \| 0\.200 \| 0\.100 \| 80 \|", text)


def test_values_that_cannot_be_drawn_do_not_stop_it():
    odd = (Entry(0, 0.0, {"mask": 0.0, "dice": float("nan")}), Entry(5, 0.1, {"mask": 1.0}))
    draw(Run({}, odd, ()), "run")
    draw(Run({}, (), ()), "run")
    draw(Run({}, FALLING[:1], RISING[:1]), "run")


def test_the_command_writes_both_into_the_runs_folder(tmp_path: Path):
    log = RunLog(tmp_path)
    log.losses(50, 1.0, {"mask": 1.0})
    log.validation(50, 1.0, {"f1": 0.5})
    publish(tmp_path)
    (tmp_path / "curves.png").unlink()
    command = [sys.executable, "-m", "services.stickers.curves", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] == 2 * WIDTH
    assert "| f1 |" in (tmp_path / "figures.md").read_text()


def test_a_folder_without_a_run_is_named(tmp_path: Path):
    command = [sys.executable, "-m", "services.stickers.curves", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "metrics.jsonl" in answer.stderr
    assert "Traceback" not in answer.stderr
