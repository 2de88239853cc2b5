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

from services.running_mean import RunningMean

BUSY = "busy"
BACKLOG_S = "backlog_s"
REQUEST_S = "request_s"

# The state that Serve keeps for the policy: [time, replicas' worth of work] pairs, oldest first;
# what `_backlog_seen` tells; when the policy began; when there was last a backlog; when the first
# of those replicas were asked for that do not answer yet.
_HISTORY = "limelight_history"
_BACKLOG = "limelight_backlog"
_SINCE = "limelight_since"
_BEHIND = "limelight_behind"
_ASKED = "limelight_asked"
# Seconds of history in one pair.
_GRAIN_S = 5.0
# The trend is told from the work of so many cold starts.
_TREND_COLD_STARTS = 2.0
# Reports differ by chance: what was needed lately is what sufficed for this share of the time.
_SUFFICED = 0.9
# How far what is coming may exceed what is there.
_MOST_GROWTH = 2.0
# A backlog that has not changed for so many seconds does not change.
_REPORTED_S = 30.0
# Seconds of work a replica that wait from which on they count as a backlog; below, it is chance.
_BACKLOG_FROM_S = 1.0
# Replicas that worked a backlog off go once there has been none for so long.
_CLEAR_S = 15.0
# Each change costs a cold start or throws away a warm cache: the number of replicas is raised by
# this share more than it must be, and lowered only where it is off by twice as much.
_SLACK = 0.15
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

    For work that keeps `w` replicas busy it wants `w / utilization`, and beyond what one replica
    takes `headroom * sqrt(w - utilization)` more. The square root is the standard deviation of how
    many are busy at a time when requests come independently of each other (square-root staffing;
    Halfin and Whitt, 1981); a single replica has none, so that little work costs no second one.

    No policy can answer a jump before a cold start has passed. If the work jumps to `w` while `n`
    replicas answer, who comes `t` seconds after it waits `t * (w / n - 1)`, at most
    `(1 - n / w) * T` where `T` is the cold start and the time until the jump is seen. So what is
    there before it decides, which is what `headroom` buys.

    Serve's own delays and factors still apply to the answer: set `upscale_delay_s` and
    `downscale_delay_s` to 0, since waiting is decided here.

    Args:
        utilization: the share of its time that a replica should be busy in a large deployment.
            Lower: more replicas in proportion to the work.
        headroom: standard deviations of the work there is room for beyond that. Higher: shorter
            waits when work jumps, at the cost of `sqrt(w)` replicas for each 1. 0: none.
        cold_start_s: from asking for a replica to its first answer; so far ahead growth is
            extrapolated, since what is asked for now cannot help earlier. Too low: replicas come
            late on every rise; too high: they come early.
        drain_s: within what time a backlog is to be worked off once new replicas answer. Lower:
            more replicas, for a shorter time; all of them pay for a cold start.
        keep_s: how long replicas stay after they were last needed. Higher: fewer changes, and
            idle replicas for as long after each peak.
    """

    def __init__(
        self,
        utilization: float = 0.7,
        headroom: float = 1.5,
        cold_start_s: float = 90.0,
        drain_s: float = 5.0,
        keep_s: float = 300.0,
    ) -> None:
        if not 0 < utilization <= 1:
            raise ValueError(f"utilization must be above 0 and at most 1, not {utilization}")
        if headroom < 0:
            raise ValueError(f"headroom must be at least 0, not {headroom}")
        if cold_start_s <= 0 or drain_s <= 0 or keep_s < 0:
            raise ValueError("cold_start_s and drain_s must be above 0, keep_s at least 0")
        self._utilization = utilization
        self._headroom = headroom
        self._cold_start_s = cold_start_s
        self._drain_s = drain_s
        self._keep_s = keep_s

    def __call__(self, context: ScalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas wanted, and the state to be handed in next time."""
        now = time.time() if context.current_time is None else context.current_time
        state = dict(context.policy_state)
        if (noted := state.get(_HISTORY)) and noted[-1][0] > now:
            # Serve's clock was set back: for an hour, what was noted would lie in the future.
            state = {}
        state.setdefault(_SINCE, now)
        target = context.target_num_replicas
        # Somebody waits, and there may be no replica to tell of it.
        least = 1.0 if context.total_queued_requests > 0 else 0.0
        figures = context.aggregated_metrics or {}
        if not figures.get(BUSY):
            return max(float(target), least), state  # nothing is known of the work
        busy = sum(figures[BUSY].values())
        request_s = figures.get(REQUEST_S, {}).values()
        backlog_s = sum(figures.get(BACKLOG_S, {}).values())
        if request_s:
            backlog_s += context.total_queued_requests * sum(request_s) / len(request_s)
        state[_BACKLOG] = seen = _backlog_seen(state.get(_BACKLOG), now, backlog_s)
        incoming = max(0.0, busy + seen[2])
        remembered_s = max(self._keep_s, _TREND_COLD_STARTS * self._cold_start_s)
        history = _recorded(state.get(_HISTORY, []), now, incoming, remembered_s)
        state[_HISTORY] = history

        wanted = max(self._replicas_for(self._coming(history, now)), least)
        current = context.current_num_replicas
        if target <= current or _ASKED not in state:
            state[_ASKED] = now
        if backlog_s > _BACKLOG_FROM_S * current:
            state[_BEHIND] = now
            # Until new replicas answer, the backlog goes on growing by what these cannot do.
            until_s = max(0.0, state[_ASKED] + self._cold_start_s - now)
            late_s = backlog_s + max(0.0, incoming - current) * until_s
            wanted = max(wanted, incoming + late_s / self._drain_s)
            if current < target and wanted <= target * (1 + 2 * _SLACK):
                return float(target), state  # those that start will nearly do
        if wanted > target + _ROUNDING:
            return max(wanted * (1 + _SLACK), target + 1.0), state
        return self._lowered(wanted, history, target, state, now), state

    def _replicas_for(self, work: float) -> float:
        beyond_one = max(0.0, work - self._utilization)
        return work / self._utilization + self._headroom * math.sqrt(beyond_one)

    def _coming(self, history: list[list[float]], now: float) -> float:
        """The work after a cold start, if it goes on growing as it did.

        It grows where it has grown from the first third of the time looked at to the second, and
        from there to the last: a jump does not go on, and chance rarely does.
        """
        span_s = _TREND_COLD_STARTS * self._cold_start_s
        thirds: tuple[list[list[float]], ...] = ([], [], [])
        for pair in history:
            age = (now - pair[0]) / span_s
            if age < 1:
                thirds[2 - int(3 * age)].append(pair)
        if not all(thirds):
            seen_s = now - history[0][0]
            return _mean(history, 1) if seen_s >= span_s / 3 else 0.0
        at, work = zip(*((_mean(third, 0), _mean(third, 1)) for third in thirds), strict=True)
        rise = min((work[i + 1] - work[i]) / (at[i + 1] - at[i]) for i in (0, 1))
        coming = work[2] + max(0.0, rise) * (now + self._cold_start_s - at[2])
        return float(min(coming, work[2] * _MOST_GROWTH))

    def _lowered(
        self,
        wanted: float,
        history: list[list[float]],
        target: int,
        state: dict[str, Any],
        now: float,
    ) -> float:
        """Fewer replicas than `target`, where that is safe and worth a change."""
        if now - state[_SINCE] < self._keep_s or now - state.get(_BEHIND, -math.inf) < _CLEAR_S:
            return float(target)
        # What was needed lately is kept, but not what only worked a backlog off.
        lately = sorted(work for at, work in history if now - at <= self._keep_s) or [0.0]
        most = lately[int(_SUFFICED * len(lately))]
        needed = max(wanted, self._replicas_for(most))
        needed = math.ceil(needed * (1 + _SLACK))
        return float(needed if needed < target * (1 - 2 * _SLACK) else target)


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
