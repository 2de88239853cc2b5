import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from services.codecs import strict_json
from training.kit.metrics import MetricsLog, last_recipe, read


def test_what_was_logged_is_read_back(tmp_path: Path):
    log = MetricsLog(tmp_path / "run")
    log.recipe({"images": 8})
    log.losses(50, 1.25, {"mask": 0.5})
    log.losses(100, 2.5, {"mask": 0.25, "dice": 0.125})
    log.validation(100, 2.5, {"f1": 0.75})
    run = read(tmp_path / "run")
    assert run.recipe == {"images": 8}
    assert [(e.step, e.minutes, dict(e.values)) for e in run.losses] == [
        (50, 1.25, {"mask": 0.5}),
        (100, 2.5, {"mask": 0.25, "dice": 0.125}),
    ]
    assert [(e.step, dict(e.values)) for e in run.validations] == [(100, {"f1": 0.75})]


def test_a_resumed_run_overrides_what_the_killed_one_had_logged(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.recipe({"images": 8})
    for step, value in ((50, 3.0), (100, 2.0)):
        log.losses(step, 1.0, {"mask": value})
    log.recipe({"images": 4})
    log.losses(100, 1.5, {"mask": 1.0})
    run = read(tmp_path)
    assert run.recipe == last_recipe(tmp_path) == {"images": 4}
    assert [entry.values["mask"] for entry in run.losses] == [3.0, 1.0]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.losses(50, 1.0, {"mask": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100, "min')
    assert len(read(tmp_path).losses) == 1


def test_a_broken_line_elsewhere_is_named(tmp_path: Path):
    good = json.dumps({"step": 1, "minutes": 0, "losses": {}})
    (tmp_path / "metrics.jsonl").write_text(f"{good}\nnonsense\n{good}\n")
    with pytest.raises(ValueError, match="line 2"):
        read(tmp_path)


def test_no_log_at_all(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
    assert last_recipe(tmp_path) == {}


def test_the_same_is_logged_for_tensorboard(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.losses(50, 1.0, {"mask": 0.5})
    log.validation(50, 1.0, {"f1": 0.75})
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag, value in (("losses/mask", 0.5), ("validation/f1", 0.75)):
        (event,) = events.Scalars(tag)
        assert (event.step, event.value) == (50, value)


def test_a_loss_that_is_not_finite_is_strict_json_and_read_back(tmp_path: Path):
    log = MetricsLog(tmp_path)
    log.losses(50, 1.0, {"mask": math.nan, "dice": math.inf, "box": 1.0})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert strict_json.loads(line)["losses"] == {"mask": None, "dice": None, "box": 1.0}
    (entry,) = read(tmp_path).losses
    assert math.isnan(entry.values["mask"])
    assert entry.values["box"] == 1.0


def test_the_log_of_an_earlier_version_is_read(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step":1,"minutes":0,"losses":{"mask":NaN}}\n')
    assert math.isnan(read(tmp_path).losses[0].values["mask"])


@pytest.mark.parametrize("cut", ['{"step": 100, "min', "{", '{"step": 100}'])
def test_nothing_is_joined_to_a_line_that_was_cut(tmp_path: Path, cut: str):
    MetricsLog(tmp_path).losses(50, 1.0, {"mask": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(cut)
    MetricsLog(tmp_path).losses(100, 2.0, {"mask": 0.5})
    assert [entry.step for entry in read(tmp_path).losses] == [50, 100]
