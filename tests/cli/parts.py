"""Stand-ins for the parts of a stack: as fast as a Python process, told by their arguments.

`python -m tests.cli.parts serve [die|silent|child] CONFIG`, `python -m tests.cli.parts gateway`.
"""

import json
import os
import signal
import subprocess
import sys
import time

from tests.client.stand_in import StandIn, serving


def serve(how: str) -> None:
    """Ready at once; `die` fails first, `silent` never is ready, `child` has a child of its own."""
    print("a line of Ray's own")
    if how == "die":
        print("no such checkpoint", file=sys.stderr)
        sys.exit(7)
    if how == "child":
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        subprocess.Popen(sleep, start_new_session=True)
    if how != "silent":
        print(json.dumps({"event": "stage", "stage": "models"}), flush=True)
        print(json.dumps({"event": "stage", "stage": "ready"}), flush=True)
    time.sleep(600)


def gateway() -> None:
    """A real server on the port it was told."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ["LIMELIGHT_GATEWAY_LISTEN"].rpartition(":")[2])
    with serving(StandIn(), port) as address:
        print(json.dumps({"event": "listening", "address": address, "metrics": ""}), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        gateway()
