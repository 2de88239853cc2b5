"""Ends a trainer's process as make does when it is told to stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def terminated_as_by_make(module: str, arguments: Sequence[str], started: str) -> tuple[str, str]:
    """Run a trainer, and stop it once it says `started`; it must end with status 0.

    Returns:
        The line that says `started`, and all that it said after it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if started in line)
        for _ in range(2):  # the process group's, and the one that make hands on
            process.send_signal(signal.SIGTERM)
        told = process.stdout.read()
        assert process.wait(60) == 0
    return line, told
