"""What is left of an old stack is cleared, and nothing else."""

import dataclasses
import subprocess
import sys
from pathlib import Path

from services.local.processes import ProcessRef
from services.local.stack import Stack
from services.local.state import Phase, StackConfig, StackFolder, StackState


def test_a_state_from_before_a_reboot_harms_nobody(tmp_path: Path) -> None:
    root = tmp_path / "state"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        # Its pid is in the state, its start time is another.
        ref = dataclasses.replace(ProcessRef.of(bystander.pid), started=1000.0)
        folder = StackFolder(root, "default")
        folder.make()
        keep = root / "keep"
        keep.mkdir()
        folder.write(
            StackState(
                config=StackConfig(),
                mark="gone",
                supervisor=ref,
                started=1000.0,
                phase=Phase.READY,
                processes={"gateway": ref},
                ray_dir=str(keep),
            )
        )
        assert Stack(root, "default").running() is None
        assert folder.read() is None
        assert bystander.poll() is None
        assert keep.exists()
    finally:
        bystander.kill()
        bystander.wait()
