"""Deadlines, carried through every layer as an instant of this process's monotonic clock.

Between processes they travel as remaining milliseconds (`services.rpc.metadata`), since clocks of
two machines do not agree. Whoever takes work from a queue checks it again.
"""

import time
from dataclasses import dataclass

from services.errors import DeadlinePassed


@dataclass(frozen=True, slots=True)
class Deadline:
    """`expires_at` in seconds of `time.monotonic()`; None never expires."""

    expires_at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining_s(self) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        if self.expires_at is None:
            return None
        return max(0.0, self.expires_at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.expires_at is not None and time.monotonic() >= self.expires_at

    def check(self) -> None:
        """Raise `DeadlinePassed` if it has."""
        if self.passed:
            raise DeadlinePassed()


class SharedDeadline:
    """The latest deadline of all those who wait for one piece of work."""

    def __init__(self) -> None:
        self.current = Deadline(float("-inf"))

    def join(self, deadline: Deadline) -> None:
        """One more waits, until `deadline`."""
        latest, joining = self.current.expires_at, deadline.expires_at
        if latest is not None and (joining is None or joining > latest):
            self.current = deadline
