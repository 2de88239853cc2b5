"""When a call is made again: what for, how soon, how often, and what bounds all of it.

One failed attempt -> `LimelightError` -> `Attempts.after` -> seconds to wait, or the call fails;
`Attempts.pause` waits them, and for a turn among all calls of the client that are made again.
`docs/retries.md` has the table of causes.
"""

import asyncio
import math
import random
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from limelight import arguments
from limelight.errors import LimelightError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which calls are made again, how often and for how long.

    Those that were refused before the work always are. Segmenting changes nothing on the server, so
    a call whose connection was lost is made again as well: the worst is that it is paid for twice.

    Attributes:
        attempts: calls in all, the first one counted. Those whose answer was lost, and may have
            cost the service all of the work, are never more; others once `patience` is over. 1: no
            call is made again, whatever it failed of.
        first_delay: seconds before the second, unless the service asks for longer; it doubles from
            call to call, with jitter.
        max_delay: seconds at most, unless the service asks for longer.
        repeat_lost: whether to repeat calls whose answer was lost.
        budget: calls to a full service that may be made again in a row before some succeed; 0: no
            such bound. See `RetryBudget`.
        patience: seconds from a call's first failure in which it is made again, beyond `attempts`,
            while the service is away or full and its deadline lets it: all parts of it may have to
            be started again. A client that has reached nothing at its address so far has none.
    """

    attempts: int = 3
    first_delay: float = 0.2
    max_delay: float = 5.0
    repeat_lost: bool = True
    budget: int = 100
    patience: float = 60.0

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for what is not a number of calls or of seconds."""
        arguments.whole(self.attempts, "attempts")
        if type(self.budget) is not int or self.budget != 0:  # 0 is no bound
            arguments.whole(self.budget, "budget")
        for name in ("first_delay", "max_delay", "patience"):
            value = arguments.number(getattr(self, name), name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 seconds or more, not {value}")

    def wait(self, error: LimelightError, failures: int) -> float:
        """Seconds to wait after so many failures of a call in a row, the last of them `error`."""
        asked = error.retry_after or 0.0
        # The exponent is bounded, since a float is.
        delay: float = max(self.first_delay, asked) * 2.0 ** min(failures - 1, 60)
        delay = min(delay, max(self.max_delay, asked))
        # Spread, so that all who were turned away do not return in one instant, and never sooner
        # than asked.
        if error.retry_after is None:
            return delay * random.uniform(0.8, 1.2)
        return delay * random.uniform(1.0, 1.2)


# What an answer gives back to a budget: so many answers pay for one more call.
_EARNED = 0.1
# Calls of a client that are made again at a time for the same reason.
_TURNS = 8


class Turns:
    """Calls that are made again, a few at a time; the others wait in order, and ask nothing.

    While a service is away, those few find out when it is back, however many wait. Then each that
    is answered lets the next one go, so that all of them come back no faster than they are
    answered. Safe between threads.
    """

    def __init__(self, size: int = _TURNS) -> None:
        self._free = size
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def take(self) -> "Future[None]":
        """A turn, done once it has come; hand it to `give_back` in the end, whatever became of it.

        It must not be cancelled.
        """
        turn: Future[None] = Future()
        with self._lock:
            if self._free:
                self._free -= 1
                turn.set_result(None)
            else:
                self._waiting.append(turn)
        return turn

    def give_back(self, turn: "Future[None]") -> None:
        """Let the next one go."""
        with self._lock:
            if not turn.done():
                self._waiting.remove(turn)
            elif self._waiting:
                self._waiting.popleft().set_result(None)
            else:
                self._free += 1


class RetryBudget:
    """What a client may repeat: a service that is full is not asked ever more often.

    The token bucket of gRPC's own retries
    (https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs),
    for all calls of a client together: each refusal because the service is full takes one of twice
    `budget` tokens, each answer gives back a tenth, and no such call is repeated while half of the
    tokens or less are left.

    Other failures take none: whoever is away, or has just ended, fails all calls of a client in a
    row, and is well again in seconds. What bounds those are `turns`, growing waits, and
    `RetryPolicy.patience` or, where the work may have been done, `RetryPolicy.attempts`. Safe
    between threads.

    Attributes:
        reached: whether the service was ever heard of at its address.
        turns: of the calls that are made again, by the reason of their first failure.
    """

    def __init__(self, budget: int) -> None:
        self._most = 2.0 * budget
        self._tokens = self._most
        self._lock = threading.Lock()
        self.reached = False
        self.turns: defaultdict[str, Turns] = defaultdict(Turns)

    def answered(self) -> None:
        """A call was answered."""
        self.reached = True
        with self._lock:
            self._tokens = min(self._most, self._tokens + _EARNED)

    def allows(self, error: LimelightError) -> bool:
        """Count a failure that might be repeated; whether it may be."""
        if not self._most or not error.full:
            return True
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens >= self._most / 2


class Attempts:
    """The attempts of one call, until one is answered. A context manager: leave it then.

    Args:
        retry: the policy.
        budget: of the client whose call it is.
        expires_at: the call's deadline in `time.monotonic()` seconds.
    """

    def __init__(self, retry: RetryPolicy, budget: RetryBudget, expires_at: float) -> None:
        self._retry, self._budget, self._expires_at = retry, budget, expires_at
        self._failures = 0
        self._lost = 0
        self._error: LimelightError | None = None
        self._again_at = 0.0
        self._turn: Future[None] | None = None
        self._turns: Turns | None = None
        self._failing_since = 0.0

    def after(self, error: LimelightError) -> float | None:
        """Seconds to wait after an attempt that failed; None when no other is to be made.

        A wait that would reach the deadline is useless: the call fails at once, and says of what.
        """
        now = time.monotonic()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        self._lost += error.lost
        if error.reason:
            self._budget.reached = True
        delay = self._retry.wait(error, self._failures)
        if not self._may_repeat(error, now + delay - self._failing_since):
            return None
        if now + delay >= self._expires_at or not self._budget.allows(error):
            return None
        self._error, self._again_at = error, now + delay
        return delay

    def pause(self) -> None:
        """Wait until the next attempt; raises the last one's error if no turn comes in time."""
        turn = self._take_turn()
        try:
            turn.result(self._left())
        except TimeoutError:
            raise self._last_error() from None
        time.sleep(max(0.0, self._again_at - time.monotonic()))

    async def pause_async(self) -> None:
        """The same in an event loop."""
        turn = asyncio.wrap_future(self._take_turn())
        # Not `wait_for`, which would cancel the turn.
        done, _ = await asyncio.wait({turn}, timeout=self._left())
        if not done:
            raise self._last_error()
        await asyncio.sleep(max(0.0, self._again_at - time.monotonic()))

    def _take_turn(self) -> "Future[None]":
        """The turn, kept until the call has ended."""
        if self._turn is None or self._turns is None:
            self._turns = self._budget.turns[self._last_error().reason]
            self._turn = self._turns.take()
        return self._turn

    def _left(self) -> float | None:
        left = self._expires_at - time.monotonic()
        return None if left == math.inf else max(0.0, left)

    def _last_error(self) -> LimelightError:
        assert self._error is not None
        return self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.answered()

    def answered(self) -> None:
        """The call has no need of its turn any more: let the next one go."""
        if self._turn is not None and self._turns is not None:
            self._turns.give_back(self._turn)
            self._turn = None

    def _may_repeat(self, error: LimelightError, failing_s: float) -> bool:
        """Whether the policy repeats it, when it would have failed for so long."""
        most = self._retry.attempts
        if error.lost:
            return self._retry.repeat_lost and self._lost < most
        if not error.safe_to_retry or most == 1:
            return False
        known = self._budget.reached or not error.unreachable
        return self._failures < most or (known and failing_s <= self._retry.patience)
