"""The package by itself: what it exports, and what importing it costs."""

import subprocess
import sys

import limelight
from limelight import v1  # noqa: F401 (a submodule is no export)


def test_every_export_is_there() -> None:
    assert set(limelight._HOME_OF) == set(limelight.__all__)
    for name in limelight.__all__:
        assert getattr(limelight, name).__module__ in (
            f"limelight.{limelight._HOME_OF[name]}",
            "types",  # a union of events is a type alias
        )
    assert not set(limelight.__all__) - set(dir(limelight))


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.strip()


def test_the_values_come_without_grpc_and_the_client_without_the_services() -> None:
    modules = "'grpc', 'PIL', 'torch', 'ray', 'transformers', 'services', 'training'"
    show = f"import sys; print(sorted({{{modules}}} & set(sys.modules)))"
    assert fresh(f"import limelight.masks, limelight.validation; {show}") == "[]"
    assert fresh(f"from limelight import *; {show}") == "['grpc']"
