"""When calls are made: at a rate that may change, or by callers that come back."""

import asyncio
import time
from collections.abc import Callable

import numpy as np

from loadtest.overload.caller import RawCaller
from loadtest.overload.outcomes import CallOutcome, Outcomes

# Calls a second, `t` seconds after the load began.
Rate = Callable[[float], float]


def constant(rate: float) -> Rate:
    """The same all the time."""
    return lambda t: rate


def ramp(highest: float, seconds: float) -> Rate:
    """From nothing to `highest`."""
    return lambda t: max(highest * t / seconds, 1.0)


def spike(low: float, high: float, seconds: float) -> Rate:
    """`high` in the second of three parts, `low` before and after it."""
    return lambda t: high if seconds / 3 <= t < 2 * seconds / 3 else low


async def open_loop(
    caller: RawCaller, rate: Rate, seconds: float, rng: np.random.Generator
) -> Outcomes:
    """Calls as a Poisson process of a rate that may change, whatever becomes of them."""
    began = time.perf_counter()
    outcomes: list[CallOutcome] = []

    async def make(due: float) -> None:
        outcomes.append(await caller.call(began, due))

    due = began + rng.exponential(1 / rate(0.0))
    async with asyncio.TaskGroup() as group:
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(make(due))
            due += rng.exponential(1 / rate(due - began))
    return Outcomes(seconds, tuple(outcomes))


async def closed_loop(caller: RawCaller, callers: int, seconds: float, *, obey: bool) -> Outcomes:
    """`callers` that call again as soon as they are answered, or `obey` the service's word."""
    began = time.perf_counter()
    outcomes: list[CallOutcome] = []

    async def ask_on() -> None:
        while (due := time.perf_counter()) < began + seconds:
            outcome = await caller.call(began, due)
            outcomes.append(outcome)
            if obey and outcome.retry_after_s is not None:
                end = began + seconds - time.perf_counter()
                await asyncio.sleep(max(0.0, min(outcome.retry_after_s, end)))

    await asyncio.gather(*(ask_on() for _ in range(callers)))
    return Outcomes(seconds, tuple(outcomes))
