"""A discrete-event simulation of one deployment: arrivals, a queue, replicas that come and go.

Requests are served in order, one at a time per replica; a replica that is asked for answers after
its cold start, and one that is given up finishes what it has begun. The policy is asked once a
second with what Ray Serve would hand it: request counts averaged over the look-back period, and the
replicas' own figures, both as old as the reporting interval makes them.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from loadtest.scaling.loads import LoadShape
from services.replica.scaling import BACKLOG_S, BUSY, REQUEST_S

# A simulation begins with replicas that are this busy, so that it shows the load and not its start.
_FIRST_UTILIZATION = 0.7


@dataclass(frozen=True, slots=True)
class Site:
    """Where the load arrives.

    Attributes:
        service_s: mean seconds a request takes a replica; each is drawn from a gamma distribution
            with a coefficient of variation of 0.5.
        cold_start_s: from asking for a replica to its first answer.
        most, least: replicas.
        held: requests a replica holds; what is more waits in Serve.
        report_s: how often replicas and handles report their figures.
    """

    service_s: float = 0.1
    cold_start_s: float = 90.0
    least: int = 1
    most: int = 64
    held: int = 64
    report_s: float = 10.0


@dataclass
class Context:
    """What a policy sees; the names are those of Serve's `AutoscalingContext`."""

    config: Any
    current_num_replicas: int = 0
    target_num_replicas: int = 0
    total_num_requests: float = 0.0
    total_queued_requests: float = 0.0
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None = None
    policy_state: dict[str, Any] = field(default_factory=dict)
    current_time: float | None = 0.0


# Replicas to have, and the policy's state.
Decide = Callable[[Context], tuple[int, dict[str, Any]]]


@dataclass
class Outcome:
    """What a policy did with a load.

    Attributes:
        waits_s: of each request, from its arrival until a replica began it.
        replica_hours: from when each was asked for until it was gone.
        changes: how often the number of replicas was changed.
        course: seconds, target, replicas that answer, requests in the system; one row a second.
    """

    waits_s: np.ndarray
    replica_hours: float
    changes: int
    course: np.ndarray

    def wait_s(self, share: float) -> float:
        """The wait that `share` of the requests stay within."""
        return float(np.quantile(self.waits_s, share))


@dataclass(eq=False)
class _Replica:
    asked_at: float
    busy_until: float = 0.0
    leaving: bool = False
    busy_s: float = 0.0


@lru_cache(maxsize=1)
def _arrivals(shape: LoadShape, seed: int) -> tuple[float, ...]:
    """Kept for the next policy, which gets the same ones."""
    return tuple(shape.arrivals(np.random.default_rng((seed, 0))))


def simulate(
    shape: LoadShape, decide: Decide, config: Any, site: Site, look_back_s: float, seed: int = 0
) -> Outcome:
    """Run `shape` against a deployment that `decide` scales."""
    arrivals = iter(_arrivals(shape, seed))
    rng = np.random.default_rng((seed, 1))
    upcoming = next(arrivals, None)
    queue: deque[float] = deque()
    first = max(site.least, math.ceil(shape.rate(0.0) * site.service_s / _FIRST_UTILIZATION))
    running = [_Replica(-site.cold_start_s) for _ in range(first)]
    starting: list[_Replica] = []
    ends: list[tuple[float, int, _Replica]] = []
    number = itertools.count()
    waits: list[float] = []
    course: list[tuple[float, int, int, int]] = []
    counts: deque[tuple[float, int]] = deque()  # requests in the system, each second
    reported: tuple[float, float, dict[str, dict[int, float]]] = (0.0, 0.0, {})
    state: dict[str, Any] = {}
    target, changes, paid_s = first, 0, 0.0
    answered = 0

    def begin(now: float) -> None:
        if len(ends) == len(running):
            return  # all are busy
        for replica in running:
            if not queue:
                return
            if replica.busy_until <= now and not replica.leaving:
                waits.append(now - queue.popleft())
                seconds = rng.gamma(4.0, site.service_s / 4.0)
                replica.busy_until = now + seconds
                replica.busy_s += seconds
                heapq.heappush(ends, (now + seconds, next(number), replica))

    def leave(replica: _Replica, now: float) -> None:
        nonlocal paid_s
        running.remove(replica)
        paid_s += now - replica.asked_at

    for tick in range(int(shape.seconds) + 1):
        now = float(tick)
        # Everything that happens before this second.
        while True:
            next_end = ends[0][0] if ends else np.inf
            next_arrival = np.inf if upcoming is None else upcoming
            if min(next_end, next_arrival) > now:
                break
            if next_arrival <= next_end:
                queue.append(next_arrival)
                upcoming = next(arrivals, None)
                begin(next_arrival)
            else:
                at, _, replica = heapq.heappop(ends)
                answered += 1
                if replica.leaving:
                    leave(replica, at)
                if queue:
                    begin(at)
        for replica in [one for one in starting if now - one.asked_at >= site.cold_start_s]:
            starting.remove(replica)
            running.append(replica)
        begin(now)

        serving = [replica for replica in running if not replica.leaving]
        counts.append((now, len(queue) + len(ends)))
        while counts[0][0] < now - look_back_s:
            counts.popleft()
        if now - reported[0] >= site.report_s:
            reported = (now, *_report(serving, queue, now, now - reported[0], answered, site))
            answered = 0
        context = Context(
            config=config,
            current_num_replicas=len(serving),
            target_num_replicas=target,
            total_num_requests=float(np.mean([count for _, count in counts])),
            total_queued_requests=reported[1],
            aggregated_metrics=reported[2],
            policy_state=state,
            current_time=now,
        )
        wanted, state = decide(context)
        wanted = int(np.clip(wanted, site.least, site.most))
        if wanted != target:
            target, changes = wanted, changes + 1
        while len(serving) + len(starting) < target:
            starting.append(_Replica(now))
        while len(serving) + len(starting) > target:
            if starting:
                paid_s += now - starting.pop().asked_at
                continue
            idle = min(serving, key=lambda one: one.busy_until)
            serving.remove(idle)
            idle.leaving = True
            if idle.busy_until <= now:
                leave(idle, now)
        course.append((now, target, len(running), len(queue) + len(ends)))

    paid_s += sum(shape.seconds - replica.asked_at for replica in (*running, *starting))
    paid_s -= first * site.cold_start_s  # those that were there before
    waits += [shape.seconds - at for at in queue]  # at least so long
    return Outcome(np.array(waits), paid_s / 3600, changes, np.array(course))


def _report(
    serving: list[_Replica],
    queue: deque[float],
    now: float,
    period_s: float,
    answered: int,
    site: Site,
) -> tuple[float, dict[str, dict[int, float]]]:
    """Requests that wait in Serve, and what each replica says."""
    room = max(0, site.held - 1) * len(serving)
    in_replicas = min(len(queue), room)
    busy: dict[int, float] = {}
    ran_s = 0.0
    for index, replica in enumerate(serving):
        ahead = max(0.0, replica.busy_until - now)
        done = replica.busy_s - ahead
        ran_s += done
        busy[index] = min(1.0, done / period_s)
        replica.busy_s = ahead
    request_s = ran_s / answered if answered else 0.0
    share = in_replicas * site.service_s / len(serving) if serving else 0.0
    return float(len(queue) - in_replicas), {
        BUSY: busy,
        BACKLOG_S: dict.fromkeys(busy, share),
        REQUEST_S: dict.fromkeys(busy, request_s),
    }
