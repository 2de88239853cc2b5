"""Reading metrics as Prometheus does, with the parser of its client library."""

from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.local import web


def scraped(address: str) -> Iterator[Sample]:
    """Every sample on the metrics page of `address`, host:port."""
    text = web.get(f"http://{address}/metrics", 60).decode()
    for family in text_string_to_metric_families(text):
        yield from family.samples


def samples(address: str, name: str, labels: Mapping[str, str] | None = None) -> list[float]:
    """The values of the samples called `name` that carry `labels`."""
    wanted = set((labels or {}).items())
    return [
        sample.value
        for sample in scraped(address)
        if sample.name == name and wanted <= set(sample.labels.items())
    ]


def reading(address: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of those samples; 0 where there are none."""
    return sum(samples(address, name, labels))
