"""Settings come from the environment by one prefix, and are refused when they make no sense."""

import pytest
from pydantic import ValidationError

from services.planner.settings import EngineName, Settings


def test_the_shipped_checkpoint_is_the_default() -> None:
    settings = Settings()
    assert settings.engine is EngineName.TRANSFORMERS
    assert settings.model.endswith("services/stickers/checkpoints/sticker-gemma4")
    assert settings.temperature == 0


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMELIGHT_PLANNER_ENGINE", "fake")
    monkeypatch.setenv("LIMELIGHT_PLANNER_MAX_BATCH", "3")
    settings = Settings()
    assert (settings.engine, settings.max_batch) == (EngineName.FAKE, 3)
    assert Settings(max_batch=5).max_batch == 5


@pytest.mark.parametrize(
    "wrong",
    [{"engine": "vllm2"}, {"max_batch": 0}, {"temperature": -1}, {"bogus": 1}, {"model": ""}],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().max_batch = 2  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
