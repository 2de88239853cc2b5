"""How long one request spends in each stage: for its answer and, once a stage, for the metrics.

`with_cpu` says what a stage's own work costs, whatever it waits for and whoever else is busy.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def with_cpu(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
    """The result of `function`, and the CPU seconds that this thread spent on it.

    Threads that `function` starts are not counted: torch's are not, where a step has several.
    """
    begin = time.thread_time()
    result = function(*args, **kwargs)
    return result, time.thread_time() - begin


class StageTimer:
    """Times the stages of one request.

    A stage that runs twice adds up. Time counts also when the stage fails, since it was spent: a
    plan that timed out after a minute took a minute. Each stage is observed once, with its sum,
    when the timer's block ends, whether the request succeeds or not.

    Args:
        observe: told each stage's name and its seconds; None for a timer without an end.
        first: what `current` says before any stage has begun.
        trace: told each stage's name and its seconds as it ends, every time it runs.
    """

    def __init__(
        self,
        observe: Callable[[str, float], None] | None,
        first: str = "",
        trace: Callable[[str, float], None] | None = None,
    ) -> None:
        self._observe = observe
        self._trace = trace
        self._begin = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self.current = first
        """The stage that runs, or ran last: where a request was when it ended."""

    def __enter__(self) -> "StageTimer":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._observe is not None:
            for name, seconds in self._seconds.items():
                self._observe(name, seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`."""
        self.current = name
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begin)

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` that the request spent in the stage `name`."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        if self._trace is not None:
            self._trace(name, seconds)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds of each stage so far, in the order in which they began."""
        return {name: seconds * 1000 for name, seconds in self._seconds.items()}

    @property
    def total_ms(self) -> float:
        """Milliseconds since the timer was made."""
        return (time.perf_counter() - self._begin) * 1000
