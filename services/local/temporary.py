"""A local stack for the duration of a measurement, beside any that a person has running."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.local.stack import OnChange, Stack
from services.local.state import StackConfig, StackState


@contextmanager
def temporary_stack(config: StackConfig, on_change: OnChange) -> Iterator[StackState]:
    """Start a stack on free ports in a temporary folder; stop and forget it at the end.

    Use it in the main thread alone: it handles SIGTERM, so that the stack is stopped then as well,
    which nobody else could find.

    Raises:
        StartFailed: the stack did not start.
    """
    with watched_stack(config, on_change) as stack:
        state = stack.folder.read()
        assert state is not None
        yield state


@contextmanager
def watched_stack(config: StackConfig, on_change: OnChange) -> Iterator[Stack]:
    """The same for who reads the stack's state again and again."""
    with tempfile.TemporaryDirectory(prefix="limelight-stack-") as root:
        stack = Stack(Path(root), config.name)
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            stack.start(replace(config, port=0, metrics_port=0), on_change)
            yield stack
        finally:
            stack.stop()
            signal.signal(signal.SIGTERM, before)
