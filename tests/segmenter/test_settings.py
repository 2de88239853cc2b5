"""Settings come from the environment, are checked, and cost no framework to read."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from services.segmenter.settings import SegmenterSettings


def test_every_setting_is_described() -> None:
    assert all(field.description for field in SegmenterSettings.model_fields.values())


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMELIGHT_SEGMENTER_MODEL", "facebook/sam3")
    monkeypatch.setenv("LIMELIGHT_SEGMENTER_MAX_BATCH_PAIRS", "7")
    settings = SegmenterSettings(threads=3)
    assert (settings.model, settings.max_batch_pairs, settings.threads) == ("facebook/sam3", 7, 3)


@pytest.mark.parametrize(
    "wrong", [{"engine": "tritn"}, {"threads": 0}, {"nms_threshold": 1.5}, {"max_batch_pair": 4}]
)
def test_typos_and_nonsense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SegmenterSettings(**wrong)


def test_settings_and_registry_import_no_framework() -> None:
    program = (
        "import sys; import services.segmenter.settings, services.segmenter.engines;"
        "print([m for m in ('torch', 'transformers', 'ray') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
