"""Plans that were made before.

Flow: `planning` looks here before it asks the model. A plan costs ten times a segmentation, and the
same picture and words always give the same plan.
"""

from typing import NamedTuple

from limelight.values import Plan
from services.planner.metrics import PlannerMetrics
from services.replica.cache import LruCache

# What an entry takes beside its text: keys, dataclasses and the dictionary's slot, rounded up.
_ENTRY_BYTES = 1024


class PlanKey(NamedTuple):
    """What a plan depends on: the image's content hash, the normalized instruction, the weights."""

    image: str
    instruction: str
    revision: str


class PlanCache:
    """Keeps the plans used last, for `ttl_s` seconds and in at most about `max_bytes`."""

    def __init__(self, max_bytes: int, ttl_s: float, metrics: PlannerMetrics) -> None:
        self._plans: LruCache[PlanKey, Plan] = LruCache("plan", max_bytes, metrics, ttl_s=ttl_s)

    @property
    def nbytes(self) -> int:
        """Memory of the plans kept, estimated."""
        return self._plans.nbytes

    def get(self, key: PlanKey) -> Plan | None:
        """The plan of `key`, now the last used; None when there is none, or it is too old."""
        return self._plans.get(key)

    def put(self, key: PlanKey, plan: Plan) -> None:
        """Keep `plan`, dropping the least used to make room."""
        texts = (*key, plan.reason, *(query.phrase for query in plan.queries))
        self._plans.put(key, plan, _ENTRY_BYTES + sum(len(text.encode()) for text in texts))
