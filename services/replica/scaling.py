"""How many replicas a model service needs, told from the work its replicas see.

Ray Serve's own policy counts requests: it divides those that are queued or running by a target per
replica. For models that says little, since a request of one phrase and one of thirty-two count the
same, and a replica that batches may hold many of either. Here the unit is work, in seconds of a
replica: how much comes in per second, and how much waits. By Little's law the first is the number
of replicas that are busy on average.

Each replica publishes three figures (`ReplicaWork`, by Serve's `record_autoscaling_stats`):

    busy        the share of the last seconds in which its model ran, 0 to 1
    backlog_s   the seconds of model time that wait in its queues
    request_s   the seconds of model time that a request took on average, for those that wait in
                Serve because no replica has room for them

While replicas keep up, the work that comes in is their busy time; once they do not, it is their
busy time and what their backlogs grow by. `WorkPolicy` is named in Serve's `AutoscalingPolicy`; the
simulator (`loadtest.scaling`) calls the same class.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from services.replica.running_mean import RunningMean

BUSY = "busy"
BACKLOG_S = "backlog_s"
REQUEST_S = "request_s"

# The state that Serve keeps for the policy: [time, replicas' worth of work] pairs, oldest first.
_HISTORY = "limelight_history"
_BACKLOG = "limelight_backlog"
_SINCE = "limelight_since"
# Seconds of history in one pair.
_GRAIN_S = 5.0
# How far what is coming may exceed what is there.
_MOST_GROWTH = 2.0
# A backlog that has not changed for so many seconds does not change.
_REPORTED_S = 30.0
# Seconds of work a replica that wait from which on they count as a backlog; below, it is chance.
_BACKLOG_FROM_S = 1.0
# The number of replicas follows the work only when it is off by more than this share: each change
# costs a cold start or throws away a warm cache.
_SLACK = 0.3
_ROUNDING = 1e-6


class ReplicaWork:
    """The work of one replica, told from its batches.

    Args:
        window_s: over how long it is measured.
        clock: seconds, from any start.
    """

    def __init__(self, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._runs: deque[tuple[float, float]] = deque()  # when a batch ended, its seconds
        self._running: dict[str, float] = {}  # since when, by stage
        self._waiting: dict[str, int] = {}
        self._item_s: defaultdict[str, RunningMean] = defaultdict(RunningMean)
        self._handled: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._request_s = 0.0

    def began(self, stage: str) -> None:
        """A batch begins."""
        self._running[stage] = self._clock()

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """A batch of `size` items has run for `seconds`."""
        self._running.pop(stage, None)
        self._runs.append((self._clock(), seconds))
        self._item_s[stage].add(seconds / size)

    def depth(self, stage: str, items: int) -> None:
        """`items` wait now."""
        self._waiting[stage] = items

    def figures(self, handled: int) -> dict[str, float]:
        """What Serve's `record_autoscaling_stats` gives back.

        Args:
            handled: requests that have been answered since the replica started.
        """
        now = self._clock()
        self._handled.append((now, handled))
        while len(self._handled) > 2 and self._handled[1][0] <= now - self._window_s:
            self._handled.popleft()
        start, before = self._handled[0]
        start = max(start, now - self._window_s)
        while self._runs and self._runs[0][0] <= start:
            self._runs.popleft()
        ran_s = sum(min(seconds, ended - start) for ended, seconds in self._runs)
        ran_s += sum(now - max(since, start) for since in self._running.values())
        if handled > before:
            self._request_s = ran_s / (handled - before)
        backlog_s = sum(items * self._item_s[stage].value for stage, items in self._waiting.items())
        busy = min(1.0, ran_s / (now - start)) if now > start else 0.0
        return {BUSY: busy, BACKLOG_S: backlog_s, REQUEST_S: self._request_s}


class ScalingContext(Protocol):
    """What of Serve's `AutoscalingContext` is read."""

    current_num_replicas: int
    target_num_replicas: int
    total_queued_requests: float
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None
    policy_state: dict[str, Any]
    current_time: float | None


class WorkPolicy:
    """Replicas for the work that comes in, and for what waits.

    Serve's own delays and factors still apply to the answer: set `upscale_delay_s` and
    `downscale_delay_s` to 0, since waiting is decided here.

    Args:
        utilization: the share of its time that a replica should be busy.
        cold_start_s: from asking for a replica to its first answer; so far ahead growth is
            extrapolated, since what is asked for now cannot help earlier.
        drain_s: within what time a backlog is to be worked off.
        keep_s: how long replicas stay after they were last needed.
    """

    def __init__(
        self,
        utilization: float = 0.7,
        cold_start_s: float = 90.0,
        drain_s: float = 5.0,
        keep_s: float = 300.0,
    ) -> None:
        if not 0 < utilization <= 1:
            raise ValueError(f"utilization must be above 0 and at most 1, not {utilization}")
        if cold_start_s <= 0 or drain_s <= 0 or keep_s < 0:
            raise ValueError("cold_start_s and drain_s must be above 0, keep_s at least 0")
        self._utilization = utilization
        self._cold_start_s = cold_start_s
        self._drain_s = drain_s
        self._keep_s = keep_s

    def __call__(self, context: ScalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas wanted, and the state to be handed in next time."""
        now = time.time() if context.current_time is None else context.current_time
        figures = context.aggregated_metrics or {}
        busy = sum(figures.get(BUSY, {}).values())
        request_s = figures.get(REQUEST_S, {}).values()
        backlog_s = sum(figures.get(BACKLOG_S, {}).values())
        if request_s:
            backlog_s += context.total_queued_requests * sum(request_s) / len(request_s)
        state = dict(context.policy_state)
        before = state.get(_BACKLOG)
        state[_BACKLOG] = seen = _backlog_seen(before, now, backlog_s)
        incoming = max(0.0, busy + seen[2])
        history = _recorded(state.get(_HISTORY, []), now, incoming, self._keep_s)
        state[_HISTORY] = history
        incoming = history[-1][1]
        coming = min(incoming + self._rise(history, now), incoming * _MOST_GROWTH)
        wanted = coming / self._utilization
        if backlog_s > _BACKLOG_FROM_S * context.current_num_replicas:
            # Until new replicas answer, the backlog goes on growing by what these cannot do.
            short = max(0.0, incoming - context.current_num_replicas)
            wanted += (backlog_s + short * self._cold_start_s) / self._drain_s
        if context.total_queued_requests > 0:
            wanted = max(wanted, 1.0)  # somebody waits, and there may be no replica to tell of it
        target = context.target_num_replicas
        if wanted <= target + _ROUNDING and now - state.setdefault(_SINCE, now) < self._keep_s:
            return float(target), state  # too little has been seen to let any go
        return self._settled(wanted, history, target), state

    def _settled(self, wanted: float, history: list[list[float]], target: int) -> float:
        """`wanted`, or `target` where the difference is not worth a change."""
        if wanted > target + _ROUNDING:
            return max(wanted * (1 + _SLACK / 2), target + 1.0)
        # What was needed lately is kept, but not what only worked a backlog off.
        needed = max(wanted, max(work for _, work in history) / self._utilization)
        needed = math.ceil(needed * (1 + _SLACK / 2))
        return float(needed if needed < target * (1 - _SLACK) else target)

    def _rise(self, history: list[list[float]], now: float) -> float:
        """By how much the work will have grown after a cold start, if it goes on as it did."""
        recent = [pair for pair in history if now - pair[0] <= self._cold_start_s]
        if len(recent) < 3:
            return 0.0
        middle = len(recent) // 2
        early, late = recent[:middle], recent[middle:]
        span = _mean(late, 0) - _mean(early, 0)
        return max(0.0, (_mean(late, 1) - _mean(early, 1)) / span * self._cold_start_s)


def _backlog_seen(before: list[float] | None, now: float, backlog_s: float) -> list[float]:
    """When the backlog last changed, to what, and by how much it grows per second (or shrinks).

    Replicas report every few seconds: the growth between two reports holds until the next.
    """
    if before is None:
        return [now, backlog_s, 0.0]
    at, last, growth = before
    if backlog_s == last:
        return [at, last, growth if now - at < _REPORTED_S else 0.0]
    return [now, backlog_s, (backlog_s - last) / (now - at) if now > at else growth]


def _recorded(
    history: list[list[float]], now: float, work: float, keep_s: float
) -> list[list[float]]:
    """The history with `work` in it; what falls into one grain is its running mean."""
    kept = [list(pair) for pair in history if now - pair[0] <= keep_s]
    if kept and now - kept[-1][0] < _GRAIN_S:
        kept[-1][1] += (work - kept[-1][1]) * 0.3
        return kept
    return [*kept, [now, work]]


def _mean(pairs: list[list[float]], column: int) -> float:
    return sum(pair[column] for pair in pairs) / len(pairs)
