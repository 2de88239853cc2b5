"""Planner and segmenter on Ray Serve with engines that need no model, and a gateway's settings.

Every application has a name of its own: Ray goes on telling the metrics of one that was deleted,
so a test that counts from zero needs one that nobody has asked yet.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from services.gateway.settings import Settings
from tests.e2e.conftest import RayCluster

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True)
class Apps:
    """Names of deployed applications; a tracker is there only where a test needs one."""

    planner: str
    segmenter: str
    tracker: str = ""


@contextmanager
def deployed(
    planner: Mapping[str, object] = _NOTHING, segmenter: Mapping[str, object] = _NOTHING
) -> Iterator[Apps]:
    """Both, with these settings over the fake's, until the block ends."""
    from ray import serve

    from services.planner.app import build as build_planner
    from services.segmenter.app import build as build_segmenter

    suffix = uuid.uuid4().hex[:8]
    apps = Apps(f"planner-{suffix}", f"segmenter-{suffix}")
    light = {"engine": "fake", "replica_cpus": 0.1}
    applications = {
        apps.planner: build_planner({**light, **planner}),
        apps.segmenter: build_segmenter({**light, **segmenter}),
    }
    # Both at once: starting is mostly waiting for one process after another.
    serve.run_many(
        [
            serve.RunTarget(application, name=name, route_prefix=f"/{name}")
            for name, application in applications.items()
        ]
    )
    yield apps
    for name in applications:
        leave(name)


@contextmanager
def deployed_tracker(**settings: object) -> Iterator[str]:
    """A tracker that nobody has asked yet, until the block ends."""
    from ray import serve

    from services.tracker.app import build

    name = f"tracker-{uuid.uuid4().hex[:8]}"
    light = {"engine": "fake", "replica_cpus": 0.1, "drain_s": 60, **settings}
    serve.run(build(light), name=name, route_prefix=f"/{name}")
    yield name
    leave(name)


@contextmanager
def held_segmenter(hold: Path) -> Iterator[str]:
    """A segmenter that nobody has asked yet, and whose steps wait while the file `hold` exists."""
    from ray import serve

    from tests.replica.held import build

    name = f"held-{uuid.uuid4().hex[:8]}"
    serve.run(build(hold), name=name, route_prefix=f"/{name}")
    yield name
    hold.unlink(missing_ok=True)
    leave(name)


def leave(name: str) -> None:
    """Have Serve delete an application whose name nobody uses again, and not wait until it has.

    Serve lets a replica wait for two seconds before it looks whether any call is left.
    """
    from ray import serve

    serve.delete(name, _blocking=False)


def gateway_settings(
    cluster: RayCluster, apps: Apps, metrics_listen: str = "127.0.0.1:0"
) -> Settings:
    """A gateway on a free port before `apps`."""
    return Settings(
        listen="127.0.0.1:0",
        metrics_listen=metrics_listen,
        planner_address=cluster.grpc,
        segmenter_address=cluster.grpc,
        planner_application=apps.planner,
        segmenter_application=apps.segmenter,
        tracker_address=cluster.grpc if apps.tracker else "",
        tracker_application=apps.tracker,
        channels=2,
        drain_s=5.0,
    )
