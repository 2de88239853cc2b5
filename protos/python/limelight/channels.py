"""How the client's channels are set up, and when a call is made again.

A picture in and rendered pictures out can be large, so messages may be; keepalive finds a peer
that went away without a word. gRPC's own retries stay off: what is worth repeating is decided from
the service's reason (`LimelightError.safe_to_retry`, `lost`), not from the status alone.
"""

import math
import random
import threading
import time
from dataclasses import dataclass

from limelight import arguments
from limelight.errors import LimelightError
from limelight.proxies import proxy_options

MAX_MESSAGE_BYTES = 64 << 20

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.enable_retries", 0),
    # The first reconnection comes sooner than the first retry of a call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


def options_for(address: str) -> list[tuple[str, int | str]]:
    """The arguments of a channel to `address`; those of its proxy are read from the environment."""
    return [*OPTIONS, *proxy_options(address)]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which calls are made again, how often and how soon.

    Those that were refused before the work always are. Segmenting changes nothing on the server, so
    a call whose connection was lost is made again as well: the worst is that it is paid for twice.

    Attributes:
        attempts: calls in all, the first one counted.
        first_delay: seconds before the second; it doubles from call to call, with jitter.
        max_delay: seconds at most, unless the service asks for longer.
        repeat_lost: whether to repeat calls whose answer was lost.
        budget: calls that may be made again in a row before some succeed; 0: no such bound. See
            `RetryBudget`.
    """

    attempts: int = 3
    first_delay: float = 0.2
    max_delay: float = 5.0
    repeat_lost: bool = True
    budget: int = 10

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for what is not a number of calls or of seconds."""
        arguments.whole(self.attempts, "attempts")
        if type(self.budget) is not int or self.budget != 0:  # 0 is no bound
            arguments.whole(self.budget, "budget")
        for name in ("first_delay", "max_delay"):
            value = arguments.number(getattr(self, name), name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 seconds or more, not {value}")

    def delay(self, error: LimelightError, attempt: int, expires_at: float) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1); None when it must not be repeated.

        `expires_at` is the call's deadline in `time.monotonic()` seconds: a wait that would reach
        it is useless.
        """
        worth_it = error.safe_to_retry or (self.repeat_lost and error.lost)
        if attempt >= self.attempts or not worth_it:
            return None
        delay = min(self.max_delay, self.first_delay * 2 ** (attempt - 1))
        delay *= random.uniform(0.8, 1.2)
        if error.retry_after is not None:
            # Never sooner than asked, and spread, so that all who were turned away do not return
            # in one instant.
            delay = error.retry_after * random.uniform(1.0, 1.2)
        return delay if time.monotonic() + delay < expires_at else None


# What an answer gives back to a budget: so many answers pay for one more call.
_EARNED = 0.1


class RetryBudget:
    """What a client may repeat: a service that is down or full is not asked ever more often.

    The token bucket of gRPC's own retries
    (https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs),
    for all calls of a client together: each failure that might be repeated takes one of twice
    `budget` tokens, each answer gives back a tenth, and nothing is repeated while half of the
    tokens or less are left. Failures that never reached the service take none. Safe between
    threads.
    """

    def __init__(self, budget: int) -> None:
        self._most = 2.0 * budget
        self._tokens = self._most
        self._lock = threading.Lock()

    def answered(self) -> None:
        """A call was answered."""
        with self._lock:
            self._tokens = min(self._most, self._tokens + _EARNED)

    def allows(self, error: LimelightError) -> bool:
        """Count a failure that might be repeated; whether it may be."""
        if not self._most or error.unreachable:
            return True
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens >= self._most / 2
