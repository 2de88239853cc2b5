import os
import signal
import sys
from pathlib import Path

import pytest

from training.kit.interrupts import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_and_ends_nothing(number: signal.Signals):
    before = signal.getsignal(number)
    with interruptible() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
    assert signal.getsignal(number) is before


def test_make_may_hand_sigterm_on_a_second_time():
    with interruptible() as stopped:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()


def test_a_second_ctrl_c_ends_it():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.timeout(30)
def test_a_signal_in_the_middle_of_a_handler_does_not_wait_for_it():
    """A second one may come at any point of the first one's handler."""
    sent: list[str] = []

    def traced(frame, event, _):
        if Path(frame.f_code.co_filename).name in ("interrupts.py", "threading.py"):
            sent.append(frame.f_code.co_name)
            os.kill(os.getpid(), signal.SIGTERM)
        return traced

    with interruptible() as stopped:
        sys.settrace(traced)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            sys.settrace(None)
        assert stopped()
    assert sent.count("handle") > 3, "on every line of it"
