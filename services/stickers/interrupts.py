"""Ctrl-C and SIGTERM while a trainer runs: it finishes its step and saves, instead of dying."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives whether SIGINT or SIGTERM has come; inside, neither ends the process by itself.

    A second SIGINT does, as `KeyboardInterrupt`. A second SIGTERM does not, since make hands on to
    its children the one that the whole process group got already. Main thread only.
    """
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        os.write(1, b"stopping after this step\n")  # print is not safe in a handler

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
