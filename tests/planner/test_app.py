"""The application as Serve is given it; `tests/e2e/test_planner_serve.py` runs it."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from services.planner.app import build


def test_arguments_are_settings() -> None:
    application = build({"engine": "fake", "max_ongoing_requests": 7, "drain_s": 3})
    deployment = application._bound_deployment
    assert deployment.name == "Planner"
    assert deployment.max_ongoing_requests == 7
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 3


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValidationError):
        build({"engin": "fake"})


@pytest.mark.slow
def test_building_it_imports_no_framework() -> None:
    """Serve builds applications in a process of its own, which needs no model."""
    code = (
        "import sys; from services.planner.app import build; build({'engine': 'fake'});"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
