"""A local stack for the time of one measurement, beside any that a person has running."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.cli.stack import OnChange, Stack
from services.cli.state import StackConfig, StackState


@contextmanager
def temporary_stack(config: StackConfig, on_change: OnChange) -> Iterator[StackState]:
    """Start a stack on free ports in a folder of its own; stop it and forget it at the end.

    To be used in the main thread: SIGTERM, too, ends with the stack stopped, for nobody else knows
    of it.

    Raises:
        services.cli.stack.StartFailed: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="limelight-stack-") as root:
        stack = Stack(Path(root), config.name)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            state, _ = stack.start(replace(config, port=0, metrics_port=0), on_change)
            yield state
        finally:
            stack.stop()
            signal.signal(signal.SIGTERM, before)
