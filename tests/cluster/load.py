"""Calls a gateway steadily from a pod of the cluster, and tells each second how it went.

Run in the gateway's image: `python load.py ADDRESS CALLERS PAUSE_S [INSTRUCTION]`, until SIGTERM.
Without an instruction the calls name a phrase, and need the segmenter alone. One JSON line a
second: calls answered and failed since the start, why they failed, the slowest answer of all, and
the 99th percentile of those that ended since the line before. Clients repeat what is worth
repeating, as `limelight.Client` does by default.
"""

import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

import services.cli
from limelight import Client, LimelightError

PICTURE = (Path(services.cli.__file__).parent / "pictures" / "girl-and-dogs.png").read_bytes()
DOGS = 3


def main() -> None:
    address, callers, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    asked = {"instruction": sys.argv[4]} if len(sys.argv) > 4 else {"phrases": ["dog"]}
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lock = threading.Lock()
    answered, slowest = 0, 0.0
    recent: list[float] = []
    failures: Counter[str] = Counter()

    def call_on() -> None:
        nonlocal answered, slowest
        with Client(address) as client:
            while not stop.is_set():
                begin = time.monotonic()
                try:
                    found = client.segment(PICTURE, timeout=60, **asked).instances
                    why = "" if len(found) == DOGS else f"{len(found)} instances"
                except LimelightError as error:
                    why = f"{error.code.name} {error.reason}"
                took = time.monotonic() - begin
                with lock:
                    slowest = max(slowest, took)
                    recent.append(took)
                    if why:
                        failures[why] += 1
                    else:
                        answered += 1
                stop.wait(pause_s)

    def tell() -> None:
        with lock:
            line = {
                "at": round(time.time(), 2),
                "answered": answered,
                "failed": sum(failures.values()),
                "slowest_s": round(slowest, 2),
                "p99_s": round(float(np.quantile(recent, 0.99)), 3) if recent else None,
                "why": dict(failures),
            }
            recent.clear()
        print(json.dumps(line), flush=True)

    threads = [threading.Thread(target=call_on) for _ in range(callers)]
    for thread in threads:
        thread.start()
    while not stop.wait(1.0):
        tell()
    for thread in threads:
        thread.join()
    tell()


if __name__ == "__main__":
    main()
