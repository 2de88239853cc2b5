"""Ends a node of Ray once nobody needs it: the hook that runs before a pod of the chart is stopped.

A pod's grace period must outlast the longest session, and Ray would stay for all of it: its shell
passes no signal on, and a pod that takes an hour to end is replaced after an hour. So the hook
waits as long as a request takes, then until the node's replicas tell of no session, and stops Ray.

    python -m services.replica.leaving METRICS_PORT REQUEST_SECONDS
"""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

_SESSIONS = re.compile(r"^ray_limelight_track_sessions(?:\{[^}]*\})? ([0-9.e+]+)", re.M)
# Ray hands a gauge on every ten seconds: this often nobody must be there, one after the other.
_QUIET_READS = 3
_READ_S = 10.0


def sessions(port: int) -> float:
    """The sessions that replicas of this node tell of; 0 if its metrics cannot be read, since Ray
    is gone then.
    """
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode(errors="replace")
    except OSError:
        return 0.0
    return sum(float(value) for value in _SESSIONS.findall(text))


def leave(
    port: int,
    request_s: float,
    stop: Callable[[], object],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Call `stop` when requests of `request_s` seconds have ended, and all sessions."""
    sleep(request_s)
    quiet = 0
    while quiet < _QUIET_READS:
        quiet = 0 if sessions(port) else quiet + 1
        if quiet < _QUIET_READS:
            sleep(_READ_S)
    stop()


def main() -> None:
    """Leave, as the command line says."""
    port, request_s = int(sys.argv[1]), float(sys.argv[2])
    leave(port, request_s, lambda: subprocess.run(["ray", "stop"], check=False))


if __name__ == "__main__":
    main()
