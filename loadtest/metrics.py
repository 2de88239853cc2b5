"""What the services count, read from their `/metrics` as Prometheus would.

The gateway serves its own; those of the replicas are Ray's, prefixed with `ray_` and some seconds
old. Ray rebuilds a histogram from its buckets, so its `_sum` is only roughly right: here its counts
alone are used.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from services.local import web
from services.local.state import StackState

# (name without "ray_", application or "", stage or cache or "")
Key = tuple[str, str, str]
Counts = Mapping[Key, float]

# How often Ray's processes report, if nothing tells them: seconds, roughly.
REPORT_S = 5.0
# What tells them, in milliseconds, when they start.
REPORT_VARIABLE = "RAY_metrics_report_interval_ms"


async def scrape(address: str) -> Counts:
    """Limelight's own metrics at `host:port`, summed over all other labels."""
    body = await asyncio.to_thread(web.get, f"http://{address}/metrics", 5)
    text = body.decode()
    lines = [line for line in text.splitlines() if "limelight_" in line]
    counts: defaultdict[Key, float] = defaultdict(float)
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            labels = sample.labels
            if "le" not in labels:
                label = labels.get("stage") or labels.get("cache") or ""
                name = sample.name.removeprefix("ray_")
                counts[name, labels.get("application", ""), label] += sample.value
    return dict(counts)


async def settled(address: str, report_s: float = REPORT_S) -> Counts:
    """As `scrape`, once nothing has changed for longer than Ray takes to report.

    Args:
        address: `host:port`.
        report_s: how often Ray's processes report.
    """
    last = await scrape(address)
    steady_s = waited_s = 0.0
    look_every_s = report_s / 5
    while waited_s < 2.4 * report_s and steady_s < 1.2 * report_s:
        await asyncio.sleep(look_every_s)
        waited_s += look_every_s
        now = await scrape(address)
        steady_s = steady_s + look_every_s if now == last else 0.0
        last = now
    return last


def difference(before: Counts, after: Counts) -> Counts:
    """What was counted in between."""
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def ray_metrics_address(state: StackState) -> str | None:
    """Where Ray serves the replicas' metrics, while its process lives."""
    if state.processes["serve"].resolve() is None:
        return None
    return state.addresses.get("ray_metrics")
