"""The application is assembled without the model's framework, and refuses wrong settings."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from services.segmenter.app import build


@pytest.mark.slow
def test_building_the_application_imports_no_torch() -> None:
    program = (
        "import sys; from services.segmenter.app import build; build({'engine': 'transformers'});"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_settings_reach_the_deployment() -> None:
    deployment = build({"engine": "fake", "max_ongoing_requests": 3})._bound_deployment
    assert deployment.name == "Segmenter"
    assert deployment.max_ongoing_requests == 3


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="enginee"):
        build({"enginee": "fake"})
