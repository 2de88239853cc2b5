"""Settings come from the environment by one prefix, and are refused when they make no sense."""

import pytest
from pydantic import ValidationError

from services.planner.settings import PlannerSettings


def test_the_shipped_checkpoint_is_the_default() -> None:
    settings = PlannerSettings()
    assert settings.engine == "transformers"
    assert settings.model.endswith("services/planner/checkpoints/sticker-gemma4")
    assert settings.temperature == 0


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMELIGHT_PLANNER_ENGINE", "fake")
    monkeypatch.setenv("LIMELIGHT_PLANNER_MAX_BATCH_PROMPTS", "3")
    settings = PlannerSettings()
    assert (settings.engine, settings.max_batch_prompts) == ("fake", 3)
    assert PlannerSettings(max_batch_prompts=5).max_batch_prompts == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "vllm2"},
        {"max_batch_prompts": 0},
        {"temperature": -1},
        {"bogus": 1},
        {"model": ""},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PlannerSettings(**wrong)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        PlannerSettings().max_batch_prompts = 2  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [
        name for name, field in PlannerSettings.model_fields.items() if not field.description
    ] == []
