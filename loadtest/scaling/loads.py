"""Arrivals over time: how many requests come per second, and how much work each is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LoadShape:
    """A named course of the arrival rate.

    Attributes:
        name: for tables.
        seconds: how long it goes on.
        rate: requests per second at a time in seconds.
    """

    name: str
    seconds: float
    rate: Callable[[float], float]

    def arrivals(self, rng: np.random.Generator) -> Iterator[float]:
        """Times of a Poisson process with that rate, by thinning (Lewis and Shedler, 1979)."""
        most = max(self.rate(float(at)) for at in np.arange(0.0, self.seconds, 1.0))
        at, mean, rate = 0.0, 1 / most, self.rate
        gap, share = rng.standard_exponential, rng.random
        while (at := at + mean * gap()) < self.seconds:
            if share() * most <= rate(at):
                yield at


def step(before: float, after: float, at: float = 600.0) -> Callable[[float], float]:
    """From one rate to another at once."""
    return lambda now: after if now >= at else before


def ramp(before: float, after: float, start: float, end: float) -> Callable[[float], float]:
    """A straight line between two times."""
    slope = (after - before) / (end - start)
    return lambda now: before + slope * (min(max(now, start), end) - start)


def spike(base: float, top: float, start: float, seconds: float) -> Callable[[float], float]:
    """A short top over a base."""
    return lambda now: top if start <= now < start + seconds else base


def diurnal(low: float, high: float, period: float) -> Callable[[float], float]:
    """A day: low at its start, high at noon."""
    return lambda now: low + (high - low) * (1 - math.cos(2 * math.pi * now / period)) / 2


# Rates for replicas that answer about ten requests a second.
SHAPES = (
    LoadShape("step", 3600, step(10, 60)),
    LoadShape("ramp", 3600, ramp(5, 80, 300, 2400)),
    LoadShape("spike", 3600, spike(15, 75, 1200, 180)),
    LoadShape("diurnal", 14400, diurnal(5, 70, 14400)),
    LoadShape("drain", 3600, step(60, 2, at=1200)),
)
