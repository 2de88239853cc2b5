"""Ctrl-C and SIGTERM while a trainer runs: it finishes its step and saves, instead of dying."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives whether SIGINT or SIGTERM has come; inside, neither ends the process by itself.

    A second SIGINT does, as `KeyboardInterrupt`. A second SIGTERM does not, since make hands on to
    its children the one that the whole process group got already. Main thread only.
    """
    # Not an Event: a signal that comes while a handler sets one would wait for its lock forever.
    stopped = False

    def handle(number: int, _frame: object) -> None:
        nonlocal stopped
        if stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped = True
        os.write(1, b"stopping after this step\n")  # print is not safe in a handler

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
