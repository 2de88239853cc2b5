"""What the planner counts: what every replica does, and what becomes of plans and reviews.

Inside a replica it is `ServeMetrics`, exported by Ray; `RecordedMetrics` keeps the numbers in
memory, for tests and for use without Serve.
"""

from typing import Protocol

from services.domain import PlanOutcome, VerdictKind
from services.segmenter import metrics as shared


class Metrics(shared.Metrics, Protocol):
    """`stage` is decode, plan or review, and `generate` for the batcher; the caches are `plan` and
    `features`.
    """

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        """A plan came about after the model was asked `attempts` times."""

    def reviewed(self, verdict: VerdictKind) -> None:
        """A candidate was given `verdict`."""


class RecordedMetrics(shared.RecordedMetrics):
    """`Metrics` in memory: `counts` by (name, label...)."""

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        self.counts["planned", outcome.value] += 1
        self.counts["attempts",] += attempts

    def reviewed(self, verdict: VerdictKind) -> None:
        self.counts["reviewed", verdict.value] += 1


class ServeMetrics(shared.ServeMetrics):
    """`Metrics` through `ray.serve.metrics`; made inside a replica."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter

        super().__init__()
        self._plans = Counter("limelight_plans_total", "Plans made.", ("outcome",))
        self._attempts = Counter("limelight_plan_attempts_total", "Times a plan was asked for.")
        self._verdicts = Counter("limelight_verdicts_total", "Verdicts given.", ("verdict",))

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        self._plans.inc(1, {"outcome": outcome.value})
        self._attempts.inc(attempts)

    def reviewed(self, verdict: VerdictKind) -> None:
        self._verdicts.inc(1, {"verdict": verdict.value})
