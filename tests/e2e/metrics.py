"""Reading metrics as Prometheus does, with its own parser."""

import asyncio
import time
import urllib.request
from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families


def samples(address: str, name: str, labels: Mapping[str, str] | None = None) -> list[float]:
    """The samples called `name` that carry `labels`."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    wanted = set((labels or {}).items())
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and wanted <= set(sample.labels.items())
    ]


def reading(address: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of those samples; 0 where there are none."""
    return sum(samples(address, name, labels))


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition in another process; Ray hands metrics on some seconds late."""
    end = time.monotonic() + timeout_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, "the condition never held"
        await asyncio.sleep(0.1)
