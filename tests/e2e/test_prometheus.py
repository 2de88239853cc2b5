"""A real Prometheus scrapes a running system: every panel of the dashboard has data.

With LIMELIGHT_PANELS=docs/dashboard.png the load goes on for two minutes, and the picture of the
panels becomes that file.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from PIL import Image

from limelight import AsyncClient
from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from loadtest.panels import Prometheus, draw
from services.codecs.images import encode
from services.gateway.app import start
from services.local.ports import free_ports
from tests.conftest import wait_until as until
from tests.e2e.conftest import RayCluster
from tests.e2e.system import Apps, deployed, deployed_tracker, gateway_settings
from tests.tracker.clips import demuxed

pytestmark = pytest.mark.serve

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm" / "limelight" / "files"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())


def has_data(prometheus: Prometheus, query: str) -> bool:
    """Whether the query gives a number now."""
    try:
        found = prometheus.get("query", query=query)
    except OSError:
        return False
    return any(one["value"][1] != "NaN" for one in found["result"])


def rules(prometheus: Prometheus) -> Any:
    """The alerts and recordings, with their health: unknown until they were evaluated once."""
    return prometheus.get("rules")["groups"][0]["rules"]


@pytest.fixture
def gateway_metrics() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture
def prometheus(
    ray_cluster: RayCluster, gateway_metrics: str, tmp_path: Path
) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is on no PATH: install Debian's package prometheus")
    config = {
        # An interval is also the time that a page may take: on a busy machine more than a second.
        "global": {"scrape_interval": "3s", "evaluation_interval": "1s"},
        "rule_files": [str(FILES / "rules.yaml")],
        "scrape_configs": [
            {"job_name": "gateway", "static_configs": [{"targets": [gateway_metrics]}]},
            {"job_name": "ray", "static_configs": [{"targets": [ray_cluster.metrics]}]},
        ],
    }
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    process = subprocess.Popen(
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield Prometheus(address)
    process.terminate()
    process.wait(60)


@pytest.fixture
def apps(ray_cluster: RayCluster) -> Iterator[Apps]:
    with deployed() as running, deployed_tracker() as tracker:
        yield replace(running, tracker=tracker)


async def test_every_panel_has_data_under_load(
    ray_cluster: RayCluster,
    prometheus: Prometheus,
    gateway_metrics: str,
    apps: Apps,
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    gateway = await start(gateway_settings(ray_cluster, apps, gateway_metrics))
    loading = True

    async def call_on(stub: Any) -> None:
        shade = 0
        while loading:
            shade = (shade + 1) % 200
            request = limelight_pb2.SegmentRequest()
            pixels = np.full((32, 32, 3), (255, shade, 0), np.uint8)
            request.task.image.content = encode(pixels)
            request.task.instruction = f"the red thing, {shade}"
            await stub.Segment(request, timeout=120)

    async def track_on(client: AsyncClient) -> None:
        while loading:
            async for _ in client.track(demuxed().content, phrases=["red square"], timeout=120):
                pass

    faults: dict[str, str] = {}

    def targets_up() -> bool:
        try:
            active = prometheus.get("targets")["activeTargets"]
        except OSError:  # it starts
            return False
        faults.update({target["scrapePool"]: target["lastError"] for target in active})
        return len(active) == 2 and all(target["health"] == "up" for target in active)

    missing = {
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    }

    def all_have_data() -> bool:
        missing.difference_update({query for query in missing if has_data(prometheus, query)})
        return not missing

    async with (
        grpc.aio.insecure_channel(gateway.address) as channel,
        AsyncClient(gateway.address) as client,
    ):
        loaders = [
            asyncio.create_task(call_on(limelight_pb2_grpc.LimelightServiceStub(channel))),
            asyncio.create_task(track_on(client)),
        ]
        try:
            await until(targets_up, every_s=0.5)
        except AssertionError:
            raise AssertionError(f"not scraped: {faults}") from None
        try:
            await until(all_have_data, every_s=0.5)
        except AssertionError:
            raise AssertionError(f"no data for {sorted(missing)}") from None
        if "LIMELIGHT_PANELS" in os.environ:
            await asyncio.sleep(120)
        loading = False
        await asyncio.gather(*loaders)
    await until(lambda: all(rule["health"] != "unknown" for rule in rules(prometheus)))
    assert {rule["health"] for rule in rules(prometheus)} == {"ok"}
    firing = [rule["name"] for rule in rules(prometheus) if rule["state"] == "firing"]
    assert firing == []  # nothing is wrong
    picture = Path(os.environ.get("LIMELIGHT_PANELS", tmp_path / "panels.png"))
    seconds = time.monotonic() - began
    assert await asyncio.to_thread(draw, DASHBOARD, prometheus, seconds, picture) == set()
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    await gateway.drain()
