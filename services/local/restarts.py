"""How often a part of the stack may be started again: a counter that forgets."""

import time
from collections import deque
from collections.abc import Callable

MOST = 5
FORGET_S = 600.0
_FIRST_DELAY_S = 0.2


class Restarts:
    """The recent deaths of one part.

    Args:
        most: deaths within `forget_s` after which it is given up.
        forget_s: seconds after which a death no longer counts.
        clock: seconds.
    """

    def __init__(
        self,
        most: int = MOST,
        forget_s: float = FORGET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._forget_s, self._clock = most, forget_s, clock
        self._deaths: deque[float] = deque()

    def died(self) -> float | None:
        """Count a death; seconds to wait before it is started again, None to give it up.

        The wait doubles with every death that is not forgotten.
        """
        now = self._clock()
        while self._deaths and now - self._deaths[0] > self._forget_s:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) > self._most:
            return None
        return _FIRST_DELAY_S * float(2 ** (len(self._deaths) - 1))
