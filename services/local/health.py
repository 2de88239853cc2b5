"""A server's health, asked through `grpc.health.v1`."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from limelight.proxies import proxy_options

# The public API, as the gateway names it to `grpc.health.v1`.
PUBLIC_SERVICE = "limelight.v1.LimelightService"
_TIMEOUT_S = 3.0


def check(address: str, service: str = "") -> str:
    """The health of a service, or of the whole server if `service` is empty.

    Returns:
        "serving", "not serving", "unknown", "unimplemented", "slow" or "unreachable", else the
        status code's name in lower case.
    """
    with grpc.insecure_channel(address, options=proxy_options(address)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as exc:
            return _WORDS.get(exc.code(), exc.code().name.lower().replace("_", " "))
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name.lower().replace("_", " ")


_WORDS = {
    grpc.StatusCode.UNAVAILABLE: "unreachable",
    grpc.StatusCode.DEADLINE_EXCEEDED: "slow",
    grpc.StatusCode.NOT_FOUND: "unknown",
}
