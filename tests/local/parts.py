"""Stand-ins for the parts of a stack: as fast as a Python process, told by their arguments.

`python -m tests.local.parts serve HOW CONFIG`, `python -m tests.local.parts gateway`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.client.stand_in import StandIn, serving


def serve(how: str, config: dict[str, Any]) -> None:
    """Ready at once, or as `how` says.

    die: ends without a reason. refuse: ends with one. silent: is never ready. child: has a child.
    brief: ends soon after, every time. late: Ray's start times out the first time and leaves a
    child. never: it does so every time.
    """
    print("a line of Ray's own", flush=True)
    if how == "refuse":
        tell_failure("Ray did not start: no room", timed_out=False)
    if how in ("late", "never"):
        ray_dir = Path(config["ray_dir"])
        tried = ray_dir.parent / "tried"
        assert not ray_dir.exists(), "Ray's folder of the first try is still there"
        if how == "never" or not tried.exists():
            tried.touch()
            (ray_dir / "session").mkdir(parents=True)
            leave_child()
            tell_failure("Ray's start timed out", timed_out=True)
    if how == "die":
        print("no such checkpoint", file=sys.stderr)
        sys.exit(7)
    if how == "child":
        leave_child()
    if how != "silent":
        print(json.dumps({"event": "stage", "stage": "models"}), flush=True)
        print(json.dumps({"event": "stage", "stage": "ready"}), flush=True)
    if how == "brief":
        sys.exit(3)
    time.sleep(600)


def leave_child() -> None:
    """Start a process that outlives this one and holds its output open, as Ray's may."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    subprocess.Popen(sleep, start_new_session=True)


def tell_failure(error: str, timed_out: bool) -> NoReturn:
    """End as the host of Ray does when Ray does not start."""
    print(json.dumps({"event": "failed", "error": error, "timed_out": timed_out}), flush=True)
    sys.exit(1)


def gateway() -> None:
    """A real server on the port it was told."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ["LIMELIGHT_GATEWAY_LISTEN"].rpartition(":")[2])
    with serving(StandIn(), port, share=True) as address:
        told = {"event": "listening", "address": address, "direct": address, "metrics": ""}
        print(json.dumps(told), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], json.loads(sys.argv[3]))
    else:
        gateway()
