"""How many replicas the tracker needs: as many as its live sessions fill.

A session stays on its replica until its video ends, so neither requests nor work say how many
replicas are needed, but sessions do. Each replica publishes how many it has and how many it had to
refuse since it last said (`SessionLoad`, by Serve's `record_autoscaling_stats`).
"""

import math
import time
from collections.abc import Mapping
from typing import Any

from services.replica.scaling import ScalingContext

SESSIONS = "sessions"
REFUSED = "refused"

# The state that Serve keeps for the policy: [time, replicas wanted] pairs, oldest first.
_HISTORY = "limelight_sessions"
_ROUNDING = 1e-6


class SessionLoad:
    """The sessions of one replica."""

    def __init__(self) -> None:
        self.live = 0
        self._refused = 0

    def refuse(self) -> None:
        """One more found no room."""
        self._refused += 1

    def figures(self) -> dict[str, float]:
        """What Serve's `record_autoscaling_stats` gives back; refusals are told once."""
        refused, self._refused = self._refused, 0
        return {SESSIONS: float(self.live), REFUSED: float(refused)}


class SessionPolicy:
    """Replicas for the sessions that are open, were refused, or wait in Serve.

    Set Serve's `upscale_delay_s` and `downscale_delay_s` to 0, since waiting is decided here. A
    replica that is let go ends its sessions first (the deployment's `drain_s`).

    Args:
        sessions: that one replica takes.
        utilization: the share of them that should be taken, so that there is room until a new
            replica has started.
        keep_s: how long replicas stay after they were last needed.
    """

    def __init__(self, sessions: int, utilization: float = 0.7, keep_s: float = 300.0) -> None:
        if sessions < 1 or not 0 < utilization <= 1 or keep_s < 0:
            raise ValueError(
                "sessions must be at least 1, utilization above 0 and at most 1, keep_s at least 0"
            )
        self._share = sessions * utilization
        self._keep_s = keep_s

    def __call__(self, context: ScalingContext) -> tuple[float, dict[str, Any]]:
        """Replicas wanted, and the state to be handed in next time."""
        now = time.time() if context.current_time is None else context.current_time
        figures = context.aggregated_metrics or {}
        asked = _total(figures, SESSIONS) + _total(figures, REFUSED) + context.total_queued_requests
        wanted = float(math.ceil(asked / self._share - _ROUNDING))
        if not figures.get(SESSIONS):
            # Nobody has told yet, as after a restart of Serve's controller: let none go.
            wanted = max(wanted, float(context.target_num_replicas))
        before = context.policy_state.get(_HISTORY, [[now, float(context.target_num_replicas)]])
        # A number that was wanted counts until it is too old, and what is below a later one never
        # counts again. What lies in the future is from before Serve's clock was set back.
        kept = [
            [min(at, now), number]
            for at, number in before
            if now - at < self._keep_s and number > wanted
        ]
        history = [*kept, [now, wanted]]
        return history[0][1], {**context.policy_state, _HISTORY: history}


def _total(figures: Mapping[str, Mapping[Any, float]], name: str) -> float:
    return sum(figures.get(name, {}).values())
