"""gRPC's health service (https://github.com/grpc/grpc/blob/master/doc/health-checking.md), whose
refusal of a name it does not know has our details as well.
"""

from typing import Any

from grpc_health.v1 import health, health_pb2

from services.errors import Reason, Unknown


class HealthService(health.aio.HealthServicer):
    """Behind `CallInterceptor`, which turns what it raises into a status."""

    def __init__(self) -> None:
        super().__init__()
        self._names = {""}

    async def set(self, service: str, status: Any) -> None:
        self._names.add(service)
        await super().set(service, status)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            raise Unknown(Reason.SERVICE_UNKNOWN, "no service of that name has a health here")
        return await super().Check(request, context)
