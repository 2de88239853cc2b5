"""Calls of `Segment` by locust's users, with the Python client: for those who use locust.

locust is not a dependency of this project. From the root of this repository, in an environment of
its own:

    pip install locust ./protos/python
    locust -f loadtest/locustfile.py --host localhost:50551 --picture out/demo/fruit.png \\
        --phrase banana --instruction "the fruit on the left" --headless -u 8 -t 30s

`uvx --with ./protos/python locust …` does both at once. A phrase needs the segmenter, an
instruction the planner as well; each user takes one of them at random for every call. Each call has
a picture that no cache knows. What locust counts as failures has the service's reason as its name,
so that calls which were shed show as OVERLOADED; they are not repeated unless `--attempts` says so.

A user waits for its answer before it asks again, so the load falls as answers slow down. `make
loadtest` keeps its rate, whatever becomes of the calls.
"""

import itertools
import os
import random
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.experimental.gevent as grpc_gevent
from locust import User, constant, events, task

from limelight import Client, LimelightError, RetryPolicy, Segmentation

# Locust's users are greenlets: without it, gRPC would hold all of them while one waits.
grpc_gevent.init_gevent()

_numbers = itertools.count()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    """What this file adds to locust's own options."""
    group = parser.add_argument_group("limelight")
    group.add_argument("--picture", action="append", required=True, help="a file; again for more")
    group.add_argument("--phrase", action="append", help="what to ask for; again for more")
    group.add_argument("--instruction", action="append", help="the same, in plain words")
    group.add_argument("--deadline", type=float, default=10.0, help="seconds a call may take")
    group.add_argument("--attempts", type=int, default=1, help="calls in all, the first counted")
    group.add_argument("--priority", choices=["interactive", "batch"], default="interactive")


@events.init.add_listener  # type: ignore[untyped-decorator]
def check_options(environment: Any, **_: Any) -> None:
    """End at once where there is nothing to ask for, or nothing to ask about."""
    options = environment.parsed_options
    if not (options.phrase or options.instruction):
        raise SystemExit("give a --phrase or an --instruction")
    if missing := [path for path in options.picture if not Path(path).is_file()]:
        raise SystemExit(f"no such picture: {', '.join(missing)}")


class LimelightUser(User):  # type: ignore[misc]
    """Asks, waits for the answer, and asks again."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Make the user's client; gRPC has those of a process share a connection."""
        options = self.environment.parsed_options
        self._pictures = [Path(path).read_bytes() for path in options.picture]
        self._asked = [("phrase", text) for text in options.phrase or ()]
        self._asked += [("instruction", text) for text in options.instruction or ()]
        self._deadline_s: float = options.deadline
        self._client = Client(
            self.host or "localhost:50551",
            retry=RetryPolicy(attempts=options.attempts),
            priority=options.priority,
        )

    def on_stop(self) -> None:
        """Close the connection."""
        self._client.close()

    @task  # type: ignore[untyped-decorator]
    def segment(self) -> None:
        """One call."""
        kind, text = random.choice(self._asked)
        picture = self._new(random.choice(self._pictures))
        if kind == "phrase":
            self._measure(
                kind,
                lambda: self._client.segment(picture, phrases=[text], timeout=self._deadline_s),
            )
        else:
            self._measure(
                kind, lambda: self._client.segment(picture, text, timeout=self._deadline_s)
            )

    def _new(self, picture: bytes) -> bytes:
        """The same pixels in a file that is new to every cache: what follows an image is let be."""
        return picture + f"{os.getpid()}-{next(_numbers)}".encode()

    def _measure(self, name: str, call: Callable[[], Segmentation]) -> None:
        """Make a call, and tell locust what became of it."""
        failure: Exception | None = None
        found = 0
        began = time.perf_counter()
        try:
            found = len(call().instances)
        except LimelightError as error:
            failure = RuntimeError(error.reason or error.code.name)
        self.environment.events.request.fire(
            request_type="Segment",
            name=name,
            response_time=1000 * (time.perf_counter() - began),
            response_length=found,
            exception=failure,
            context={},
        )
