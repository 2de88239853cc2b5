"""Reading metrics as Prometheus does, with its own parser."""

import asyncio
import time
import urllib.request
from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families


def reading(address: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of the samples called `name` that carry `labels`; 0 where there are none."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    wanted = set((labels or {}).items())
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and wanted <= set(sample.labels.items())
    )


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition in another process; Ray hands metrics on some seconds late."""
    end = time.monotonic() + timeout_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, "the condition never held"
        await asyncio.sleep(0.1)
