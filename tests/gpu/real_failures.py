"""`python -m tests.gpu.real_failures NAME`: a failure that a GPU really has, under a batcher.

In a process of its own, since a lost context takes the process with it.
"""

import asyncio
import sys
from collections.abc import Sequence

import torch

from services.deadline import Deadline
from services.errors import Reason, Unavailable
from services.replica.batching import Batcher
from services.replica.metrics import RecordedMetrics


def batcher(run: object, metrics: RecordedMetrics) -> Batcher[int, int]:
    return Batcher("encode", run, max_batch=8, max_queued=64, wait_s=0.0, metrics=metrics)  # type: ignore[arg-type]


async def out_of_memory() -> None:
    """Two of eight items fit into the device's memory: all are answered, in smaller batches."""
    free, _ = torch.cuda.mem_get_info()
    sizes: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        room = [torch.empty(int(0.4 * free), dtype=torch.uint8, device="cuda") for _ in items]
        sizes.append(len(room))
        return [item * item for item in items]

    metrics = RecordedMetrics()
    batches = batcher(run, metrics)
    assert await batches.submit_all(range(8), Deadline()) == [item * item for item in range(8)]
    assert max(sizes) <= 2, sizes
    assert metrics.counts["halved", "encode"] >= 2
    batches.check(Reason.SEGMENTER_UNAVAILABLE)
    # Nothing of the failed tries is held: the device has its memory again.
    await batches.close()
    torch.cuda.empty_cache()
    assert torch.cuda.mem_get_info()[0] > 0.95 * free


async def lost_context() -> None:
    """A device-side assert: that batch fails, and the replica says that it cannot go on."""

    def run(items: Sequence[int]) -> list[int]:
        table = torch.zeros(4, device="cuda")
        found = table[torch.tensor(list(items), device="cuda")]
        torch.cuda.synchronize()
        return [int(value) for value in found]

    batches = batcher(run, RecordedMetrics())
    assert await batches.submit_all([1, 2], Deadline()) == [0, 0]
    batches.check(Reason.SEGMENTER_UNAVAILABLE)
    try:
        await batches.submit_all([9], Deadline())
    except RuntimeError as error:
        print(f"the batch: {str(error).splitlines()[0]}")
    else:
        raise AssertionError("an index out of bounds was answered")
    try:
        batches.check(Reason.SEGMENTER_UNAVAILABLE)
    except Unavailable as error:
        print(f"the replica: {error.message}")
    else:
        raise AssertionError("the replica says that it is well")
    try:
        await batches.submit_all([1], Deadline())
    except Unavailable as error:
        print(f"the next call: {error.message}")
    else:
        raise AssertionError("a call was taken in that cannot be answered")


if __name__ == "__main__":
    asyncio.run({"out_of_memory": out_of_memory, "lost_context": lost_context}[sys.argv[1]]())
    print("right", flush=True)
