"""What the planner counts: what every replica does, and what becomes of plans and reviews.

Inside a replica it is `ServePlannerMetrics`, exported by Ray; `RecordedPlannerMetrics` keeps the
numbers in memory, for tests and for use without Serve.
"""

from typing import Protocol

from limelight.values import PlanOutcome, VerdictKind
from services.replica import metrics as shared


class PlannerMetrics(shared.ReplicaMetrics, Protocol):
    """`stage` is decode, plan or review, and `generate` for the batcher; the caches are `plan` and
    `features`.
    """

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        """A plan came about after the model was asked `attempts` times."""

    def reviewed(self, verdict: VerdictKind) -> None:
        """A candidate was given `verdict`."""

    def tokens(self, read: int, written: int) -> None:
        """A batch's prompts were `read` tokens long, its answers `written`, padding left out."""


class RecordedPlannerMetrics(shared.RecordedMetrics):
    """`PlannerMetrics` in memory: `counts` by (name, label...)."""

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        self.counts["planned", outcome.value] += 1
        self.counts["attempts",] += attempts

    def reviewed(self, verdict: VerdictKind) -> None:
        self.counts["reviewed", verdict.value] += 1

    def tokens(self, read: int, written: int) -> None:
        self.counts["tokens", "read"] += read
        self.counts["tokens", "written"] += written


class ServePlannerMetrics(shared.ServeMetrics):
    """`PlannerMetrics` through `ray.serve.metrics`; made inside a replica."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter

        super().__init__()
        self._plans = Counter("limelight_plans_total", "Plans made.", ("outcome",))
        self._attempts = Counter("limelight_plan_attempts_total", "Times a plan was asked for.")
        self._verdicts = Counter("limelight_verdicts_total", "Verdicts given.", ("verdict",))
        self._tokens = Counter("limelight_tokens_total", "Tokens of the model.", ("direction",))

    def planned(self, outcome: PlanOutcome, attempts: int) -> None:
        self._plans.inc(1, {"outcome": outcome.value})
        shared.add(self._attempts, attempts)

    def reviewed(self, verdict: VerdictKind) -> None:
        self._verdicts.inc(1, {"verdict": verdict.value})

    def tokens(self, read: int, written: int) -> None:
        shared.add(self._tokens, read, {"direction": "read"})
        shared.add(self._tokens, written, {"direction": "written"})
