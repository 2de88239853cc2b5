"""One local Ray Serve for all tests that need it, on free loopback ports.

`ray_cluster` starts it once a session; a test deploys its own application with `serve.run` under a
name of its own, and deletes it. The marker `serve` selects or leaves out these tests.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

_SERVICERS = [
    "limelight.v1.planner_pb2_grpc.add_PlannerServiceServicer_to_server",
    "limelight.v1.segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server",
]


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where a started Serve answers: `host:port` each; `metrics` is Ray's Prometheus page."""

    grpc: str
    http: str
    metrics: str


def _free_ports(count: int) -> list[int]:
    """Ports that nothing on this machine listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A local Ray with four logical CPUs and Serve's gRPC and HTTP proxies."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Read by Ray's processes at start: how often replicas hand on their metrics.
    os.environ.setdefault("RAY_metrics_report_interval_ms", "500")
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    grpc_port, http_port, metrics_port = _free_ports(3)
    ray.init(
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
            grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=_SERVICERS),
        )
        yield RayCluster(
            grpc=f"127.0.0.1:{grpc_port}",
            http=f"127.0.0.1:{http_port}",
            metrics=f"127.0.0.1:{metrics_port}",
        )
    finally:
        serve.shutdown()
        ray.shutdown()
