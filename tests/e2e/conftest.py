"""One local Ray Serve for all tests that need it, on free loopback ports.

`ray_cluster` starts it once a session; a test deploys its own application with `serve.run` under a
name of its own, and deletes it. The marker `serve` selects or leaves out these tests.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from services.local import processes
from services.local.ports import free_ports
from services.local.processes import ProcessRef
from services.local.runtime import RUNTIME

# A service of the tests, for what the product's own RPCs do not do yet.
_ECHO = "tests.rpc.echo.add_EchoServiceServicer_to_server"


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where a started Serve answers: `host:port` each; `metrics` is Ray's Prometheus page."""

    grpc: str
    http: str
    metrics: str


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A local Ray with four logical CPUs and Serve's gRPC and HTTP proxies, set up as a stack's."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in RUNTIME.ray.items():
            environment.setenv(name, value)
        # Read by Ray's processes at start: how often replicas hand on their metrics.
        environment.setenv("RAY_metrics_report_interval_ms", "500")
        # Read by the replicas' tracers: how often they send spans, every five seconds if unset.
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "500")
        yield from _cluster()


def _cluster() -> Iterator[RayCluster]:
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    grpc_port, http_port, metrics_port = free_ports(3)
    _start_ray(
        # One of its own, whatever cluster runs here already.
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 1024 * 1024,
        log_to_driver=False,
        _metrics_export_port=metrics_port,
    )
    try:
        serve.start(
            http_options=HTTPOptions(host="127.0.0.1", port=http_port),
            grpc_options=gRPCOptions(
                port=grpc_port, grpc_servicer_functions=[*RUNTIME.grpc_servicers, _ECHO]
            ),
        )
        yield RayCluster(
            grpc=f"127.0.0.1:{grpc_port}",
            http=f"127.0.0.1:{http_port}",
            metrics=f"127.0.0.1:{metrics_port}",
        )
    finally:
        serve.shutdown()
        ray.shutdown()


def _start_ray(**options: Any) -> None:
    """`ray.init`, once more if it times out: on a busy machine its 30 s may not be enough."""
    import ray

    from services.local.serve_host import end_children, start_timed_out

    before = processes.with_descendants([ProcessRef.of(os.getpid())])
    try:
        ray.init(**options)
    except Exception as error:
        if not start_timed_out(error):
            raise
        end_children(but=before)
        ray.init(**options)
