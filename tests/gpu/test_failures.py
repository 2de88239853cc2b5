"""What the batcher makes of a GPU's real failures; its other tests only pretend them."""

import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device: run these on a GPU machine"
)


@pytest.mark.parametrize("name", ["out_of_memory", "lost_context"])
def test_a_failure_of_the_device(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.real_failures", name], capture_output=True, text=True
    )
    assert done.stdout.endswith("right\n"), done.stdout + done.stderr
