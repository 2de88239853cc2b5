"""What the tracker counts: what every replica does, and what becomes of sessions and frames.

Inside a replica it is `ServeTrackerMetrics`, exported by Ray; `RecordedTrackerMetrics` keeps the
numbers in memory, for tests and for use without Serve.
"""

from enum import StrEnum
from typing import Protocol

from services.replica import metrics as shared
from services.rpc.metrics import SECONDS


class SessionEnd(StrEnum):
    """Why a session is over, or was not begun."""

    FINISHED = "finished"  # its media ended and every frame was answered
    CANCELLED = "cancelled"  # its caller left
    IDLE = "idle"  # nothing came from its caller for too long, or nothing was taken
    FAILED = "failed"  # an error ended it
    REFUSED = "refused"  # there was no room for it


class TrackerMetrics(shared.ReplicaMetrics, Protocol):
    """`stage` is decode or one of the engine's; batches are the engine's too."""

    def sessions(self, live: int) -> None:
        """`live` sessions are open now."""

    def ended(self, why: SessionEnd) -> None:
        """A session is over, or was refused."""

    def media(self, nbytes: int) -> None:
        """`nbytes` of packets or pictures came."""

    def answered(self, objects: int, lag_s: float) -> None:
        """A frame was answered with `objects`, `lag_s` after its packets or its picture came."""


class RecordedTrackerMetrics(shared.RecordedMetrics):
    """`TrackerMetrics` in memory: `counts` by (name, label...)."""

    def sessions(self, live: int) -> None:
        self.gauges["sessions",] = live

    def ended(self, why: SessionEnd) -> None:
        self.counts["ended", why.value] += 1

    def media(self, nbytes: int) -> None:
        self.counts["media",] += nbytes

    def answered(self, objects: int, lag_s: float) -> None:
        self.counts["frames",] += 1
        self.counts["objects",] += objects
        self.seconds["lag",].append(lag_s)


class ServeTrackerMetrics(shared.ServeMetrics):
    """`TrackerMetrics` through `ray.serve.metrics`; made inside a replica."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        super().__init__()
        self._live = 0
        self._sessions = Gauge("limelight_track_sessions", "Sessions open.")
        self._ends = Counter("limelight_track_sessions_total", "Sessions over.", ("why",))
        self._bytes_in = Counter("limelight_track_media_bytes_total", "Packets and pictures.")
        self._frames = Counter("limelight_track_frames_total", "Frames answered.")
        self._objects = Counter("limelight_track_objects_total", "Objects in those frames.")
        self._lag = Histogram(
            "limelight_track_lag_seconds",
            "From a frame's arrival to its answer.",
            list(SECONDS),
        )

    def refresh_own(self) -> None:
        self._sessions.set(self._live)

    def sessions(self, live: int) -> None:
        self._live = live
        self._sessions.set(live)

    def ended(self, why: SessionEnd) -> None:
        self._ends.inc(1, {"why": why.value})

    def media(self, nbytes: int) -> None:
        shared.add(self._bytes_in, nbytes)

    def answered(self, objects: int, lag_s: float) -> None:
        self._frames.inc(1)
        shared.add(self._objects, objects)
        self._lag.observe(lag_s)
