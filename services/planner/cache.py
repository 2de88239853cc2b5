"""Plans that were made before.

Flow: `planning` looks here before it asks the model. A plan costs ten times a segmentation, and the
same picture and words always give the same plan.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from services.domain import Plan
from services.planner.metrics import Metrics

_NAME = "plan"

# What an entry takes beside its text: keys, dataclasses and the dictionary's slot, rounded up.
_ENTRY_BYTES = 1024


class PlanKey(NamedTuple):
    """What a plan depends on: the image's content hash, the normalised instruction, the weights."""

    image: str
    instruction: str
    revision: str


class PlanCache:
    """Keeps the plans used last, for `ttl_s` seconds and in at most about `max_bytes`.

    For use from one thread. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        max_bytes: int,
        ttl_s: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._clock = clock
        self._entries: OrderedDict[PlanKey, tuple[Plan, float, int]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Memory of the plans kept, estimated."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: PlanKey) -> Plan | None:
        """The plan of `key`, now the last used; None when there is none, or it is too old."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() >= entry[1]:
            self._drop(key)
            entry = None
        self._metrics.cache(_NAME, hit=entry is not None)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: PlanKey, plan: Plan) -> None:
        """Keep `plan`, dropping the least used to make room."""
        self._drop(key)
        size = _size(key, plan)
        if size <= self._max_bytes:
            while self._nbytes + size > self._max_bytes:
                self._drop(next(iter(self._entries)))
            self._entries[key] = (plan, self._clock() + self._ttl_s, size)
            self._nbytes += size
        self._metrics.cache_bytes(_NAME, self._nbytes)

    def _drop(self, key: PlanKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._nbytes -= entry[2]


def _size(key: PlanKey, plan: Plan) -> int:
    texts = (*key, plan.reason, *(query.phrase for query in plan.queries))
    return _ENTRY_BYTES + sum(len(text.encode()) for text in texts)
