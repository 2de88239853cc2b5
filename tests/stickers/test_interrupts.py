import os
import signal

import pytest

from services.stickers.interrupts import interruptible


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
