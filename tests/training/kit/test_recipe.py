"""Recipes: schedule, progress, and the options made of their numbers."""

import argparse
import json
from dataclasses import dataclass, replace

import pytest

from training.kit.recipe import Recipe, add_options, chosen, number


@dataclass(frozen=True, kw_only=True)
class Own(Recipe):
    questions: int = number(5, "about an image")


def test_progress_follows_steps_or_minutes_whichever_is_further():
    recipe = Recipe(steps=100, minutes=10)
    assert recipe.progress(50, 2) == 0.5
    assert recipe.progress(10, 7) == 0.7
    assert recipe.progress(200, 0) == 1.0
    assert Recipe(steps=100).progress(0, 1e9) == 0.0
    with pytest.raises(ValueError, match="steps or of minutes"):
        Recipe(steps=None)


def test_the_rate_warms_up_and_falls_over_its_stage():
    recipe = Recipe(warm_up=0.1, final_rate=0.02)
    assert recipe.rate(0.0, 0.2) == pytest.approx(0.01)
    assert recipe.rate(0.05, 0.2) == pytest.approx(0.51)
    assert recipe.rate(0.1, 0.2) == recipe.rate(0.199, 0.2) == pytest.approx(1.0)
    assert recipe.rate(0.24, 0.2) == pytest.approx(0.51, abs=0.01), "again in its stage"
    falling = [recipe.rate(share / 10, 0.2) for share in range(3, 11)]
    assert falling == sorted(falling, reverse=True)
    assert falling[3] == pytest.approx(0.51)
    assert falling[-1] == pytest.approx(0.02)
    assert replace(recipe, warm_up=0.0).rate(0.0, 0.0) == 1.0


def test_settings_are_all_of_it_and_json():
    settings = Own(steps=7).settings()
    assert (settings["steps"], settings["questions"]) == (7, 5)
    assert "minutes" not in settings, "an endless run has none"
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], {}),
        (["--minutes", "9"], {"steps": None, "minutes": 9.0}),
        (["--minutes", "9", "--steps", "5"], {"steps": 5, "minutes": 9.0}),
        (["--questions", "2", "--learning-rate", "3e-4"], {"questions": 2, "learning_rate": 3e-4}),
    ],
)
def test_the_recipe_follows_the_command(words: list[str], numbers: dict[str, float]):
    preset = Own(steps=70, batch=3)
    parser = argparse.ArgumentParser()
    add_options(parser, {"own": preset})
    assert chosen(preset, parser.parse_args(words)) == replace(preset, **numbers)


def test_the_help_has_the_defaults_of_every_preset():
    parser = argparse.ArgumentParser()
    add_options(parser, {"new": Own(), "tuned": Own(questions=6)})
    text = " ".join(parser.format_help().split())
    assert "defaults: new / tuned" in text
    assert "about an image (5 / 6)" in text
    assert "optimizer steps (1000)" in text
