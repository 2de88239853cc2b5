"""What became of the calls of one load."""

from collections import Counter
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

# Histograms from 0.1 ms to 10 min, to three digits.
_LOWEST_US, _HIGHEST_US, _DIGITS = 100, 600_000_000, 3


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """One call.

    Attributes:
        due_s: when it was to be made, seconds since the load began.
        latency_s: from then to its end.
        good: whether it was answered within its deadline.
        reason: why it failed by the service's words, or its status in small letters where it
            failed without any; empty for an answer.
        retry_after_s: when it may be made again, by the service's words.
    """

    due_s: float
    latency_s: float
    good: bool
    reason: str = ""
    retry_after_s: float | None = None

    @property
    def rejected(self) -> bool:
        """Whether the service refused it for want of room or time."""
        return self.reason in ("OVERLOADED", "DEADLINE_TOO_SHORT")

    @property
    def bare(self) -> bool:
        """Whether it failed without a reason of the service."""
        return bool(self.reason) and self.reason.islower()


@dataclass(frozen=True)
class Outcomes:
    """All calls of one load, which were due within `seconds`."""

    seconds: float
    calls: tuple[CallOutcome, ...]

    def goodput(self, after_s: float = 0.0) -> float:
        """Answers a second, of the calls that were due after `after_s`."""
        good = sum(call.good for call in self.calls if call.due_s >= after_s)
        return good / (self.seconds - after_s)

    def rejected_ms(self, quantile: float) -> float:
        """That quantile of the latencies of rejected calls; 0 without any."""
        return _quantile_ms([call for call in self.calls if call.rejected], quantile)

    def answered_ms(self, quantile: float) -> float:
        """That quantile of the latencies of answered calls; 0 without any."""
        return _quantile_ms([call for call in self.calls if not call.reason], quantile)

    @property
    def reasons(self) -> dict[str, int]:
        """Failed calls by reason."""
        return dict(Counter(call.reason for call in self.calls if call.reason))

    @property
    def bare(self) -> int:
        """Calls that failed without details."""
        return sum(call.bare for call in self.calls)

    @property
    def recovered_s(self) -> float:
        """When the last call was due that was not answered: 0 if all were."""
        return max((call.due_s for call in self.calls if not call.good), default=0.0)

    def per_second(self, rejected: bool = False) -> list[int]:
        """Answers, or rejections, by the second in which their calls were due."""
        counts = [0] * max(1, round(self.seconds))
        for call in self.calls:
            if call.rejected if rejected else call.good:
                counts[min(int(call.due_s), len(counts) - 1)] += 1
        return counts


def _quantile_ms(calls: list[CallOutcome], quantile: float) -> float:
    histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
    for call in calls:
        histogram.record_value(max(_LOWEST_US, round(call.latency_s * 1e6)))
    return float(histogram.get_value_at_percentile(100 * quantile)) / 1000 if calls else 0.0
