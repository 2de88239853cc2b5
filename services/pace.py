"""How fast work of one kind is done, learned from the work itself: who is admitted depends on it.

Used at both places where work waits: the gateway's lanes (`services.gateway.lanes`) and the
replicas' batchers (`services.replica.batching`). Work is counted in units, of which a plain request
has one. Nothing is assumed of what does the work: by Little's law, work that began with `n` units
under way, its own counted in, and ended after `t` seconds was done at `n / t` units a second, be it
by one worker, by batches or by several replicas, and however many others send work there as well.
"""

import math
import time
from collections import deque

from services.running_mean import RunningMean

# How long a duration counts: a slow minute must not shed the calls of the next.
WINDOW_S = 10.0
# How long it is remembered what work took that had nothing beside it: under a load that does not
# end, there is no other way to know.
ALONE_S = 600.0

# Of what was seen of longer work with more units, how much the newest counts.
_LINE_WEIGHT = 0.1


class Pace:
    """The pace of one kind of work. Knows nothing, and so expects nothing, until work was done."""

    def __init__(self) -> None:
        self._rate = RunningMean()
        self._seconds = RunningMean()
        self._company = RunningMean()
        self._growth = _Growth()
        self._quickest: deque[tuple[float, float]] = deque()
        self._alone = _Least(ALONE_S)
        self._last = 0.0

    def done(self, units: float, under_way: float, seconds: float, alone: bool) -> None:
        """Work of `units` took `seconds`; `under_way` units had begun when it did, its own too.

        `alone`: nothing else was under way from its begin to its end.
        """
        self._forget()
        self._last = time.monotonic()
        seconds = max(seconds, 1e-6)
        self._rate.add(under_way / seconds)
        self._seconds.add(seconds)
        self._company.add(under_way)
        self._growth.add(under_way, seconds)
        # Only what is newer, or quicker than all that is newer, can ever be the quickest.
        each_s = seconds / units
        while self._quickest and self._quickest[-1][1] >= each_s:
            self._quickest.pop()
        self._quickest.append((self._last, each_s))
        if alone:
            self._alone.add(each_s)

    @property
    def rate(self) -> float:
        """Units a second; 0 when nothing was done of late."""
        self._forget()
        return self._rate.value

    def quickest_s(self, units: float = 1.0) -> float:
        """Seconds that `units` take at least, by the quickest work of late; 0 when unknown."""
        self._forget()
        return self._quickest[0][1] * units if self._quickest else 0.0

    def idle_s(self, units: float = 1.0) -> float:
        """Seconds that `units` would take with nothing beside them; 0 when unknown.

        At most what the quickest of late took. Where work had company all the time, it is only
        known that it takes its share of the pace, or more.
        """
        quickest_s = self.quickest_s(1.0)
        if not quickest_s:
            return 0.0
        return units * min(quickest_s, self._alone.value or 1 / self.rate)

    def expected_s(self, units: float, under_way: float) -> float:
        """Seconds that work of `units` will take if `under_way` units, its own too, are under way.

        At least what it would take alone. At most what work takes at present, and more for each
        unit beside it that is not there at present, as far as more took longer of late. 0 when
        unknown.
        """
        if self.rate == 0:
            return 0.0
        at_present_s = self._seconds.value
        more = max(0.0, under_way - self._company.value)
        slope_s = self._growth.slope(at_present_s / self._company.value)
        expected_s = min(under_way / self.rate, at_present_s + slope_s * more)
        return max(self.quickest_s(units), expected_s)

    def wait_s(self, units: float) -> float:
        """Seconds until `units` that are ahead are done; 0 when unknown."""
        return units / self.rate if self.rate else 0.0

    def _forget(self) -> None:
        horizon = time.monotonic() - WINDOW_S
        while self._quickest and self._quickest[0][0] < horizon:
            self._quickest.popleft()
        if self._last < horizon:
            self._rate, self._seconds, self._company = RunningMean(), RunningMean(), RunningMean()
            self._growth = _Growth()


class _Growth:
    """How much longer work takes with one more unit under way: a line through what was seen.

    Least squares that forget, and that hold to a first guess until the units have varied (ridge
    regression: A. Hoerl and R. Kennard, 1970): that is between nothing, as for one more in a batch
    of a GPU, and what a unit takes where one is done after the other.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = (0.0, 0.0)
        self._square = self._product = 0.0

    def add(self, units: float, seconds: float) -> None:
        """Work took `seconds` with `units` under way."""
        self._count += 1
        weight = max(_LINE_WEIGHT, 1 / self._count)
        x, y = self._mean
        dx, dy = units - x, seconds - y
        self._mean = (x + weight * dx, y + weight * dy)
        self._square = (1 - weight) * (self._square + weight * dx * dx)
        self._product = (1 - weight) * (self._product + weight * dx * dy)

    def slope(self, serial: float) -> float:
        """Seconds a unit, `serial` of them where each is done after the others, and at first."""
        slope = (self._product + serial) / (self._square + 1)
        return min(max(slope, 0.0), serial)


class _Least:
    """The least of the values of the last `seconds`, or up to twice as long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin = time.monotonic()
        self._before = self._now = math.inf

    def add(self, value: float) -> None:
        """Count one more."""
        self._turn()
        self._now = min(self._now, value)

    @property
    def value(self) -> float:
        """0 without any."""
        self._turn()
        least = min(self._before, self._now)
        return 0.0 if math.isinf(least) else least

    def _turn(self) -> None:
        gone_s = time.monotonic() - self._begin
        if gone_s >= self._seconds:
            self._before = self._now if gone_s < 2 * self._seconds else math.inf
            self._now = math.inf
            self._begin = time.monotonic()
